"""What is known of synthetic trajectories: how likely their actions are under an agent, and how far their states are
from those of the simulator (PGD, arXiv 2404.06356, sections 5.2 and 5.3)."""

import math

import numpy as np
import torch
from torch import Tensor

from swgctl.diffusion import Act, Channels
from swgctl.tasks.replay import Replay, replayer

REPLAYED = 512  # windows of a member, at most, that are replayed


def measure(x: Tensor, channels: Channels, act: Act | None, environment: str) -> dict:
    """Measures of windows x (S, W, L, D), z-scored; a list over the members for each.

    coverage        (S, D - 1) standard deviation of each channel over the data's, but for the terminal flag,
                    which hardly any window has set
    likelihood      see `likelihood`, and on_policy, its expectation for the agent's own actions: with an agent
    dynamics        see `errors`: where an observation determines the environment's state
    """
    measured: dict = {"coverage": x[..., :-1].std((1, 2), correction=0).tolist()}
    observations, actions, rewards, _ = channels.outside(x)
    if act is not None:
        with torch.no_grad():
            log_p, on_policy = likelihood(act, observations[:, :, :-1], actions[:, :, :-1])
        measured |= {"likelihood": log_p.tolist(), "on_policy": on_policy.tolist()}
    replay = replayer(environment)
    if replay:
        scale = channels.std[: channels.observation_dim].cpu().numpy()
        parts = [part[:, :REPLAYED].cpu().numpy() for part in (observations, actions, rewards)]
        try:
            each = [errors(replay, o, a, r, scale) for o, a, r in zip(*parts, strict=True)]
        finally:
            replay.close()
        measured["dynamics"] = {name: [one[name] for one in each] for name in each[0]}
    return measured


def likelihood(act: Act, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over windows and rows of log N(a; mean, sd^2), a sum over dimensions; and its expectation at the same
    observations for actions that the agent draws itself, clipped to [-1, 1], in closed form: (S,) each.

    observations (S, W, L, O), actions (S, W, L, A)
    """
    mean, sd = act(observations)
    constant = sd.log() + math.log(2 * math.pi) / 2
    log_p = -((actions - mean) / sd).square() / 2 - constant
    on_policy = -clipped_square((-1 - mean) / sd, (1 - mean) / sd) / 2 - constant
    return log_p.sum(-1).mean((1, 2)), on_policy.sum(-1).mean((1, 2))


def clipped_square(low: Tensor, high: Tensor) -> Tensor:
    """E[min(max(z, low), high)^2] of a standard normal z."""
    low, high = low.double(), high.double()
    below, above = torch.special.ndtr(low), torch.special.ndtr(-high)

    def slope(x: Tensor) -> Tensor:
        """x times the density at x."""
        return x * (-x.square() / 2).exp() / math.sqrt(2 * math.pi)

    return 1 - below - above + slope(low) - slope(high) + low.square() * below + high.square() * above


def errors(
    replay: Replay, observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray, scale: np.ndarray
) -> dict:
    """Squared errors of windows (W, L, ...) of one member against the simulator, means over the windows and dimensions.

    scale       (O,) standard deviation of the data's observations
    one_step    of the next observation, from every row but the last, in units of the data's deviation
    one_step_raw, reward   the same in the environment's units; of the reward
    horizon, horizon_raw   (L - 1,) after h = 1 .. L - 1 steps from the first row
    clipped     share of the rows, and clipped_windows of the windows, that are left out: a velocity at the clip hides
                the state
    None where nothing is left.
    """
    hidden = replay.clipped(observations[:, :-1])
    step, reward = replay.one_step(observations, actions, rewards)
    whole = ~hidden[:, 0]
    far = replay.errors(observations[whole], actions[whole]) if whole.any() else None

    def mean(values: np.ndarray | None, axes: tuple[int, ...] | None = None) -> float | list[float] | None:
        if values is None or not values.size:
            return None
        means = np.square(values).mean(axis=axes)
        return means.tolist() if axes else float(means)

    step, reward = step[~hidden], reward[~hidden]
    return {
        "one_step": mean(step / scale),
        "one_step_raw": mean(step),
        "reward": mean(reward),
        "horizon": mean(None if far is None else far / scale, (0, 2)),
        "horizon_raw": mean(far, (0, 2)),
        "clipped": float(hidden.mean()),
        "clipped_windows": float(hidden[:, 0].mean()),
    }
