"""What guidance knows and what it reaches, without an environment.

A joint policy's weight against the critic's, step by step; and the advantage of guided actions against that of the
density that they are meant to have.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from swgctl.config import EvalSettings
from swgctl.diffusion.calibration import predicted_weights, regression
from swgctl.errors import InputError
from swgctl.policies.diffusion import DiffusionPolicy, assemble
from swgctl.policies.loading import load_critic, weigher
from swgctl.policies.origin import denoiser_of, weight_of
from swgctl.policies.weight_channel import WeightChannel
from swgctl.randomness import generator
from swgctl.store import Artifact
from swgctl.tasks import Task, argument

ROWS = 16_384  # of the data, at most
STATES, M = 128, 96  # states of the data, and candidates at each


class Diagnosis:
    """The diagnosis of a guided policy (a diffuse artifact, or a guide on one), from the rows of its data.

    knowledge  of w, the weight that the joint policy learnt from, by w_hat at every step, (S, K) each: slope and
               correlation over rows of the data, and, as `within_*`, over fresh candidates of a state, each from its
               state's mean; where the data has candidates, also `seen_*`, the same over those
    reach      mean advantage by rho, (S,) each: `reached` of guided actions, `target` of q(a|s) w^rho by importance
               sampling of unguided candidates, both at temperature 1, by the critic and the weight that guide; and
               `effective`, the number of candidates a state that the target rests on, 1 / sum of squared shares

    Raises InputError for a policy without a weight or of synthetic data, CorruptError.
    """

    def __init__(self, policy: Artifact, device: str = "cpu"):
        denoiser, weight = denoiser_of(policy), weight_of(policy)
        critic = policy.ancestors().get("critic")
        if denoiser.stage != "diffuse" or not weight or critic is None:
            raise InputError(
                f"{policy.id} has no joint policy, whose weight could be looked into", "swgctl ls --stage diffuse"
            )
        if "synth" in critic.meta["inputs"]:
            raise InputError(
                f"{policy.id} learnt from synthetic rows, each of one seed; a diagnosis takes all rows for every seed",
                f"swgctl critic {argument(Task.from_json(policy.meta['task']))}   # whose policies it can diagnose",
            )
        self.device = torch.device(device)
        self.critic, self.weigh = load_critic(critic, device), weigher(weight)
        self.policy = assemble(policy, None, EvalSettings(), device)
        self.joint = assemble(denoiser, None, EvalSettings(), device)
        self.seeds = policy.seeds
        self._read(denoiser)

    def _read(self, denoiser: Artifact) -> None:
        """Random rows of the data: observations (N, O), actions (N, A) and weights (S, N); `seen`, random ones of the
        states with candidates in it, where there are any: observations (E, O), actions (S, E, M, A), weights
        (S, E, M)."""
        import h5py

        def part(count: int, most: int) -> np.ndarray:
            return np.sort(np.random.default_rng(0).choice(count, min(most, count), replace=False))

        def placed(*arrays: np.ndarray) -> tuple[Tensor, ...]:
            return tuple(torch.from_numpy(array).to(self.device) for array in arrays)

        with denoiser.parent("augment").reading("data.hdf5") as path, h5py.File(path) as file:
            observations, actions, weights = (file[name][()] for name in ("observations", "actions", "weights"))
            rows = part(len(actions), ROWS)
            self.observations, self.actions, self.weights, all_weights = placed(
                observations[rows], actions[rows], weights[:, rows], weights
            )
            self.seen = None
            if "candidates" in file:
                numbers, drawn, weighed = (file[f"candidates/{name}"][()] for name in ("rows", "actions", "weights"))
                states = part(len(numbers), STATES)
                self.seen = placed(observations[numbers[states]], drawn[:, states], weighed[:, states])
        self.channel = WeightChannel(denoiser, self.joint.sampler, all_weights, str(self.device))

    def _noise(self, stream: str) -> torch.Generator:
        return generator(0, f"diagnosis/{stream}", 0, self.device)

    def _advantage(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(S, B) at observations (S, B, O) and actions (S, B, A)."""
        q, v = self.critic.value(observations, actions)
        return q - v

    @property
    def states(self) -> Tensor:
        """(S, E, O), random ones of the data."""
        count = min(STATES, len(self.observations))
        picks = torch.randperm(len(self.observations), generator=torch.Generator().manual_seed(0))[:count]
        return self.observations[picks.to(self.device)].expand(len(self.seeds), -1, -1)

    @cached_property
    @torch.no_grad()
    def candidates(self) -> tuple[Tensor, Tensor]:
        """Unguided actions (S, E, M, A) at the states, and their advantages (S, E, M)."""
        states = self.states
        repeated = states.repeat_interleave(M, 1)
        cells = [{"rho": 0.0, "candidates": 1, "temperature": 1.0}] * repeated.shape[1]
        actions, _ = self.joint.prepare(cells)(repeated, self._noise("candidates"))
        advantages = self._advantage(repeated, actions)
        return actions.unflatten(1, (-1, M)), advantages.unflatten(1, (-1, M))

    @torch.no_grad()
    def knowledge(self) -> dict[str, Tensor]:
        sampler, members = self.joint.sampler, len(self.seeds)

        def noise(stream: str):
            source = self._noise(stream)
            return lambda shape: torch.randn(shape, generator=source, device=self.device)

        def predicted(observations: Tensor, actions: Tensor, z_w: Tensor, stream: str) -> tuple[Tensor, Tensor]:
            """The weight's channel (S, B) of rows, and what the denoiser says of it, (S, K, B)."""
            z0 = torch.cat([actions, z_w.unsqueeze(-1)], -1)
            denoise = sampler.denoiser.bind(observations)
            return z_w, predicted_weights(denoise, sampler.schedule, z0, noise(stream))

        def within(states: Tensor, actions: Tensor, stream: str, w: Tensor | None = None) -> tuple[Tensor, Tensor]:
            """Slope and correlation (S, K) of several actions (S, E, M, A), each from its state's (S, E, O) mean.

            w  their weights (S, E, M); None: by the critic that weighed the data
            """
            each = actions.shape[2]
            repeated, flat = states.repeat_interleave(each, 1), actions.flatten(1, 2)
            z_w = self.channel.at(repeated, flat) if w is None else self.channel.of(w.flatten(1))
            pair = predicted(repeated, flat, z_w, stream)
            apart, apart_hat = (x.unflatten(-1, (-1, each)) for x in pair)
            apart, apart_hat = (x - x.mean(-1, keepdim=True) for x in (apart, apart_hat))
            return regression(apart.flatten(-2), apart_hat.flatten(-2))[1:]

        everywhere = self.observations.expand(members, -1, -1), self.actions.expand(members, -1, -1)
        _, slope, correlation = regression(*predicted(*everywhere, self.channel.of(self.weights), "data"))
        lines = {"": (slope, correlation)}
        lines["within_"] = within(self.states, self.candidates[0], "states")
        if self.seen:
            states, actions, w = self.seen
            lines["seen_"] = within(states.expand(members, -1, -1), actions, "seen", w)
        return {
            f"{prefix}{name}": values
            for prefix, pair in lines.items()
            for name, values in zip(("slope", "correlation"), pair, strict=True)
        }

    @torch.no_grad()
    def reach(self, scales: Sequence[float]) -> list[dict[str, Tensor]]:
        """`target` and `reached`, (S,) each, for every rho of the scales."""
        _, advantages = self.candidates
        log_w = self.weigh(advantages).double().log()
        states, rows = self.states, []
        for rho in scales:
            share = torch.softmax(rho * log_w, -1)
            target = (share * advantages).sum(-1).mean(-1)
            cells = [{"rho": float(rho), "candidates": 1, "temperature": 1.0}] * states.shape[1]
            policy: DiffusionPolicy = self.policy if rho else self.joint
            actions, _ = policy.prepare(cells)(states, self._noise("guided"))
            effective = (1 / share.square().sum(-1)).mean(-1)
            rows.append(
                {"target": target, "reached": self._advantage(states, actions).mean(-1), "effective": effective}
            )
        return rows
