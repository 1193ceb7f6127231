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
from swgctl.policies.diffusion import DiffusionPolicy, assemble, ranking_of
from swgctl.policies.loading import load_critic, weigher
from swgctl.policies.origin import denoiser_of, weight_of
from swgctl.randomness import generator
from swgctl.store import Artifact

ROWS = 16_384  # of the data, at most
STATES, M = 256, 24  # states of the data, and candidates at each


class Diagnosis:
    """The diagnosis of a guided policy (a diffuse artifact, or a guide on one), from the rows of its data.

    knowledge  of w by w_hat at every step, (S, K) each: slope and correlation over rows of the data, and, as
               `within_*`, over candidates of a state, each from its state's mean
    reach      mean advantage by rho, (S,) each: `reached` of guided actions, `target` of q(a|s) w^rho by importance
               sampling of unguided candidates, both at temperature 1

    Raises InputError for a policy without a weight, CorruptError.
    """

    def __init__(self, policy: Artifact, device: str = "cpu"):
        denoiser, weight = denoiser_of(policy), weight_of(policy)
        critic = policy.ancestors().get("critic")
        if denoiser.stage != "diffuse" or not weight or critic is None:
            raise InputError(
                f"{policy.id} has no joint policy, whose weight could be looked into", "swgctl ls --stage diffuse"
            )
        self.device = torch.device(device)
        self.critic, self.weigh = load_critic(critic, device), weigher(weight)
        self.policy = assemble(policy, ranking_of(None, None, device), EvalSettings(), device)
        self.joint = assemble(denoiser, ranking_of(None, None, device), EvalSettings(), device)
        self.seeds = policy.seeds
        self.observations, self.actions, self.weights = self._rows(denoiser)
        self.scale = torch.ones(len(self.seeds), 1, device=self.device)
        if denoiser.params["weight_scale"] == "unit":
            self.scale = self.weights.mean(1, keepdim=True)

    def _rows(self, denoiser: Artifact) -> tuple[Tensor, Tensor, Tensor]:
        """Random rows of the data: observations (N, O), actions (N, A) and weights (S, N)."""
        import h5py

        with denoiser.parent("augment").reading("data.hdf5") as path, h5py.File(path) as file:
            count = len(file["actions"])
            rows = np.sort(np.random.default_rng(0).choice(count, min(ROWS, count), replace=False))
            arrays = file["observations"][()][rows], file["actions"][()][rows], file["weights"][()][:, rows]
        observations, actions, weights = (torch.from_numpy(array).to(self.device) for array in arrays)
        return observations, actions, weights

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

        z0 = torch.cat([self.actions.expand(members, -1, -1), (self.weights / self.scale).unsqueeze(-1)], -1)
        denoise = sampler.denoiser.bind(self.observations.expand(members, -1, -1))
        w_hat = predicted_weights(denoise, sampler.schedule, z0, noise("data"))
        _, slope, correlation = regression(z0[..., -1], w_hat)

        actions, advantages = self.candidates
        w = self.weigh(advantages) / self.scale.unsqueeze(-1)
        z0 = torch.cat([actions, w.unsqueeze(-1)], -1).flatten(1, 2)
        denoise = sampler.denoiser.bind(self.states.repeat_interleave(M, 1))
        w_hat = predicted_weights(denoise, sampler.schedule, z0, noise("states")).unflatten(2, (-1, M))
        apart, apart_hat = (w - w.mean(-1, keepdim=True)), (w_hat - w_hat.mean(-1, keepdim=True))
        _, within_slope, within_correlation = regression(apart.flatten(1), apart_hat.flatten(2))
        return {
            "slope": slope,
            "correlation": correlation,
            "within_slope": within_slope,
            "within_correlation": within_correlation,
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
            rows.append({"target": target, "reached": self._advantage(states, actions).mean(-1)})
        return rows
