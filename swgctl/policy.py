"""A trained policy: observations in, actions out (SWG, Algorithm 2; SWG-R, section 5)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from swgctl.config import AugmentSettings, DiffuseSettings
from swgctl.diffusion import Schedule, sample, self_weighted
from swgctl.diffusion.guidance import W_MIN
from swgctl.errors import InputError
from swgctl.execution import products
from swgctl.files import load_tensors
from swgctl.lineage import a, check_ranking
from swgctl.models import ARCHITECTURE, Critic, Denoiser
from swgctl.store import Artifact, Store
from swgctl.weights import select, weigh


@dataclass
class Policy:
    """S members that act side by side.

    denoiser      of z = [action, weight], its parameters averaged
    weight_range  (S, 2), the least and the greatest weight of the data that each member was trained on
    critic        ranks candidates; None: the model's own weight channel does
    weigh         advantage -> weight
    """

    seeds: list[int]
    action_dim: int
    denoiser: Denoiser
    weight_range: Tensor
    schedule: Schedule
    critic: Critic | None
    weigh: Callable[[Tensor], Tensor] | None
    device: torch.device

    def act(
        self,
        observations,
        *,
        rho: float | Tensor = 0.0,
        candidates: int | Tensor = 1,
        temperature: float = 1.0,
        sampler: str = "ddpm",
        generator: torch.Generator | Callable[[tuple[int, ...]], Tensor] | None = None,
    ):
        """Actions (S, E, A) in [-1, 1] for observations (S, E, O); a policy of one seed also takes (E, O) and (O,).

        rho          guidance scale: a number, or one a row (E,)
        candidates   M, of which the one of greatest weight is kept: a number, or one a row (E,)
        generator    as for `diffusion.sample`, for noise (S, sum of candidates, A + 1); None: fresh noise
        NumPy arrays in give NumPy arrays out.  Raises ValueError for what none of these can be.
        """
        counts = torch.as_tensor(candidates)
        if counts.is_floating_point() or int(counts.min()) < 1:
            raise ValueError(f"candidates must be whole numbers from 1 on, not {candidates}")
        if not 0 <= temperature < math.inf:
            raise ValueError(f"temperature must be a number >= 0, not {temperature}")
        if temperature == 0 and int(counts.max()) > 1:
            raise ValueError("temperature 0 makes all candidates equal: leave candidates at 1")
        array = isinstance(observations, np.ndarray)
        x = torch.as_tensor(observations, dtype=torch.float32, device=self.device)
        full = x.reshape((1,) * (3 - x.dim()) + x.shape)
        wanted = (len(self.seeds), self.denoiser.inputs - self.action_dim - 1)
        if full.dim() != 3 or (full.shape[0], full.shape[2]) != wanted:
            raise ValueError(f"observations must be ({wanted[0]}, E, {wanted[1]}), not {tuple(x.shape)}")
        for name, values in (("rho", torch.as_tensor(rho)), ("candidates", counts)):
            if values.dim() and values.shape != full.shape[1:2]:
                raise ValueError(f"{name} must be one number, or one for each of {full.shape[1]} rows")
        actions, _ = self.propose(full, rho, candidates, temperature, sampler, generator)
        actions = actions.reshape(*x.shape[:-1], self.action_dim)
        return actions.cpu().numpy() if array else actions

    @torch.inference_mode(False)  # see `sample`
    @torch.no_grad()
    def propose(
        self,
        observations: Tensor,
        rho: float | Tensor,
        candidates: int | Tensor,
        temperature: float = 1.0,
        sampler: str = "ddpm",
        generator=None,
        w_min: float = W_MIN,
        clip: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """(actions (S, E, A), share of guidance steps (S, E) in which w_hat was clamped at w_min)."""
        members, rows, _ = observations.shape
        counts = torch.as_tensor(candidates, device=self.device).expand(rows)
        row = torch.repeat_interleave(torch.arange(rows, device=self.device), counts)  # of each candidate
        rho = torch.as_tensor(rho, dtype=torch.float32, device=self.device).expand(rows)[row].unsqueeze(-1)
        guidance = self_weighted(rho, w_min) if bool((rho != 0).any()) else None
        if generator is None:
            generator = torch.Generator(self.device)
            generator.seed()
        z = sample(
            self.denoiser.bind(observations.clone() if observations.is_inference() else observations, row),
            self.schedule,
            (members, len(row), self.action_dim + 1),
            guidance=guidance,
            sampler=sampler,
            temperature=temperature,
            bounds=self._bounds() if clip else None,
            generator=generator,
        )
        actions, weights = z[..., :-1].clamp(-1, 1), z[..., -1]
        clamped = torch.zeros(members, rows, dtype=torch.int64, device=self.device)
        if guidance:
            # Whole numbers, whose sum is the same in any order; a row of rho = 0 is not guided.
            clamped.index_add_(1, row, guidance.clamped * (rho.squeeze(-1) > 0))
            clamped = clamped / (guidance.calls * counts)
        if len(row) == rows:
            return actions, clamped
        advantages = weights
        if self.critic is not None:
            with products("fp32"):  # an advantage is a small difference of large numbers
                q, v = self.critic.value(observations[:, row], actions)
            advantages = q - v
            weights = self.weigh(advantages)
        # Candidates of one row lie side by side; rows with fewer are filled up with ones that cannot win.
        first = counts.cumsum(0) - counts
        place = (row, torch.arange(len(row), device=self.device) - first[row])
        grid = weights.new_full((2, members, rows, int(counts.max())), -torch.inf)
        grid[0][:, place[0], place[1]], grid[1][:, place[0], place[1]] = weights, advantages
        best = first + select(grid[0], grid[1])
        return actions.gather(1, best.unsqueeze(-1).expand(-1, -1, self.action_dim)), clamped

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Where z_0 lies, (S, 1, A + 1) each: actions in [-1, 1], the weight in the range of the data's.

        Guidance pulls on the weight's channel as well.  Left free, a large rho drives it to where the denoiser was
        never trained, and the actions with it.
        """
        ones = self.weight_range.new_ones(len(self.seeds), self.action_dim)
        low, high = (torch.cat([sign * ones, self.weight_range[:, i : i + 1]], 1) for i, sign in ((0, -1), (1, 1)))
        return low.unsqueeze(1), high.unsqueeze(1)


def load_critic(artifact: Artifact, device: str) -> Critic:
    """The Q and V of a critic artifact, its bytes checked.  Raises CorruptError."""
    tensors = load_tensors(artifact.file("critic.safetensors"))
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    critic = Critic(len(artifact.seeds), facts["observation_dim"], facts["action_dim"], params["hidden"])
    critic.load_state_dict(tensors)
    return critic.to(device).requires_grad_(False)


def assemble(policy: Artifact, critic: Artifact | None, weigh, device: str) -> Policy:
    """The policy of a diffuse artifact, with the critic that ranks its candidates."""
    tensors = load_tensors(policy.file("policy.safetensors"))
    settings, facts = DiffuseSettings(**policy.params), policy.meta["metrics"]["data"]
    architecture = settings.model_dump(include=set(ARCHITECTURE))
    denoiser = Denoiser(len(policy.seeds), facts["observation_dim"], facts["action_dim"], **architecture)
    denoiser.load_state_dict({k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")})
    return Policy(
        seeds=policy.seeds,
        action_dim=facts["action_dim"],
        denoiser=denoiser.to(device).requires_grad_(False),
        weight_range=tensors["weight_range"].to(device),
        schedule=getattr(Schedule, settings.schedule)(settings.K),
        critic=critic and load_critic(critic, device),
        weigh=weigh,
        device=torch.device(device),
    )


def load_policy(ref: str, *, store: str | None = None, critic: str | None = None, device: str = "cpu") -> Policy:
    """The policy of a diffuse artifact (a directory or an id), ranking candidates by the critic that it descends from.

    Raises InputError, CorruptError.
    """
    place = Store.locate(store)
    artifact = place.resolve(ref)
    if artifact.stage != "diffuse":
        raise InputError(f"{ref} is {a(artifact.stage)}, not a policy", "swgctl ls --stage diffuse")
    augmented = artifact.parent("augment")
    ranking = place.resolve(critic) if critic else augmented.parent("critic")
    check_ranking(ranking, artifact, augmented)
    return assemble(artifact, ranking, weigher(augmented.params), device)


def weigher(params: dict) -> Callable[[Tensor], Tensor]:
    """The function advantage -> weight of an augment artifact's parameters, which leave out what its weight ignores."""
    options = AugmentSettings().model_dump() | params
    name = options.pop("weight")
    return lambda advantage: weigh(name, advantage, **options)
