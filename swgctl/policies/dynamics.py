"""Roll-outs of a target policy in a learnt model of the dynamics (PETS's TS1; MOPO, Algorithm 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from swgctl.diffusion import Act
from swgctl.files import load_tensors
from swgctl.models import Ensemble
from swgctl.policies.loading import filled
from swgctl.randomness import normal
from swgctl.store import Artifact


def load_dynamics(artifact: Artifact, device: str) -> tuple[Ensemble, Tensor]:
    """The ensemble of a `dynamics` artifact, and its elites (S, E).  Raises CorruptError."""
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    sizes = params["members"], facts["observation_dim"], facts["action_dim"], params["hidden"]
    with artifact.reading("dynamics.safetensors") as path:
        tensors = load_tensors(path)
        elites = tensors.pop("elites")
        ensemble = filled(lambda: Ensemble(len(artifact.seeds), *sizes), tensors)
        if elites.shape[0] != len(artifact.seeds) or not 0 <= elites.min() <= elites.max() < params["members"]:
            raise ValueError("its elites are not of its members")
    return ensemble.to(device).requires_grad_(False), elites.to(device)


@torch.no_grad()
def roll(
    ensemble: Ensemble,
    elites: Tensor,
    act: Act,
    observations: Tensor,
    length: int,
    generators: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Roll out a policy from observations (S, B, O) in the truncated world model (PGD, equations 5 and 6).

    Returns observations (S, B, L, O), actions (S, B, L, A), rewards (S, B, L) and terminals (S, B, L) of L = `length`
    rows, the first at the given observations.  In each row the action is drawn from N(mean, sd^2) of `act` and clipped
    to [-1, 1]; the change of the state and the reward are drawn from the Gaussian of an elite (S, E) that is picked
    anew for each row.

    generators  one a member, which make every draw of that member
    No terminal is ever set, since the ensemble has no model of them: right where an environment ends by the clock
    alone, such as HalfCheetah; elsewhere a roll-out goes on past a fall.
    """
    rows = observations.shape[1]

    def noise(features: int) -> Tensor:
        return normal(generators, (len(generators), rows, features))

    def elite() -> Tensor:
        picks = [torch.randint(elites.shape[1], (rows,), generator=g, device=g.device) for g in generators]
        return elites.gather(1, torch.stack(picks))

    steps = []
    for _ in range(length):
        mean, sd = act(observations)
        actions = (mean + sd * noise(ensemble.action_dim)).clamp(-1, 1)
        mean, log_var = ensemble(torch.cat([observations, actions], -1).unsqueeze(1))
        index = elite()[:, None, :, None].expand(-1, -1, -1, mean.shape[-1])
        mean, log_var = (value.gather(1, index).squeeze(1) for value in (mean, log_var))
        outcome = mean + (log_var / 2).exp() * noise(mean.shape[-1])
        steps.append((observations, actions, outcome[..., -1]))
        observations = observations + outcome[..., :-1]
    states, actions, rewards = (torch.stack(values, 2) for values in zip(*steps, strict=True))
    return states, actions, rewards, torch.zeros_like(rewards, dtype=torch.bool)
