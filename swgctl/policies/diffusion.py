"""A guided denoiser as a policy: observations in, actions out (SWG, Algorithm 2; SWG-R, section 5).

It has three parts: a sampler that walks from noise to z = [action, ...], a guidance that bends the walk, and a ranking
that keeps one candidate.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from swgctl.config import AugmentSettings, DiffuseSettings, EvalSettings, Method, a, methods
from swgctl.diffusion import Counting, Schedule, sample
from swgctl.errors import InputError
from swgctl.files import load_tensors
from swgctl.models import ARCHITECTURE, Critic, Denoiser
from swgctl.policies.candidates import Ranking
from swgctl.policies.policy import Cell, Noise
from swgctl.policies.ranking import check_ranking
from swgctl.store import Artifact, Store
from swgctl.weights import weigh


@dataclass
class Sampler:
    """A walk from noise to z_0 (S, B, channels) at given observations.

    denoiser  with averaged parameters; the first channels of z are the action
    bounds    (low, high), (S, 1, channels) each, to which every predicted z_0 is clipped; None: no clipping
    """

    denoiser: Denoiser
    schedule: Schedule
    bounds: tuple[Tensor, Tensor] | None
    name: str = "ddpm"

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Noise of one candidate: (K, channels)."""
        return len(self.schedule), self.denoiser.channels

    def draw(
        self,
        observations: Tensor,
        row: Tensor,
        guidance: Counting | None,
        temperature: float | Tensor,
        noise: Noise | torch.Generator,
    ) -> Tensor:
        """Draw z_0 (S, B, channels); candidate b is at row[b] (B,) of the observations (S, E, O).

        temperature  a number, or one a candidate (B, 1)
        """
        return sample(
            self.denoiser.bind(observations.clone() if observations.is_inference() else observations, row),
            self.schedule,
            (len(observations), len(row), self.denoiser.channels),
            guidance=guidance,
            sampler=self.name,
            temperature=temperature,
            bounds=self.bounds,
            generator=noise,
        )


@dataclass
class DiffusionPolicy:
    """S guided denoisers that act side by side: a `Policy` whose cells have `rho`, `candidates` and `temperature` (1).

    guide  scales rho (B, 1) of the candidates -> their guidance
    """

    seeds: list[int]
    action_dim: int
    sampler: Sampler
    guide: Callable[[Tensor], Counting]
    ranking: Ranking
    device: torch.device
    statistics: tuple[str, ...] = field(default=("clamped",))

    @property
    def noise_shape(self) -> tuple[int, int]:
        return self.sampler.noise_shape

    def act(
        self,
        observations,
        *,
        rho: float | Tensor = 0.0,
        candidates: int | Tensor = 1,
        temperature: float | Tensor = 1.0,
        sampler: str = "ddpm",
        generator: torch.Generator | Noise | None = None,
    ):
        """Actions (S, E, A) in [-1, 1] for observations (S, E, O); a policy of one seed also takes (E, O) and (O,).

        rho          guidance scale: a number, or one a row (E,)
        candidates   M, of which the one of greatest weight is kept: a number, or one a row (E,)
        temperature  factor of the sampling noise, 0 is deterministic: a number, or one a row (E,)
        generator    see `diffusion.sample`, for noise (S, sum of candidates, channels); None: fresh noise
        NumPy observations give NumPy actions.  Raises ValueError for an invalid argument.
        """
        counts = torch.as_tensor(candidates)
        if counts.is_floating_point() or int(counts.min()) < 1:
            raise ValueError(f"candidates must be integers >= 1, not {candidates}")
        factors = torch.as_tensor(temperature, dtype=torch.float32)
        if not bool(((factors >= 0) & factors.isfinite()).all()):
            raise ValueError(f"temperature must be a number >= 0, not {temperature}")
        array = isinstance(observations, np.ndarray)
        x = torch.as_tensor(observations, dtype=torch.float32, device=self.device)
        full = x.reshape((1,) * (3 - x.dim()) + x.shape)
        members, width = len(self.seeds), self.sampler.denoiser.observation_dim
        if full.dim() != 3 or (full.shape[0], full.shape[2]) != (members, width):
            raise ValueError(f"observations must be ({members}, E, {width}), not {tuple(x.shape)}")
        scales = torch.as_tensor(rho)
        for name, values in (("rho", scales), ("candidates", counts), ("temperature", factors)):
            if values.dim() and values.shape != full.shape[1:2]:
                raise ValueError(f"{name} must be one number, or one for each of {full.shape[1]} rows")
        rows = full.shape[1]
        if bool(((factors == 0) & (counts > 1)).any()):
            raise ValueError("temperature 0 makes all candidates equal: leave candidates at 1")
        columns = (values.expand(rows).tolist() for values in (scales, counts, factors))
        cells = [{"rho": r, "candidates": m, "temperature": t} for r, m, t in zip(*columns, strict=True)]
        actor = replace(self, sampler=replace(self.sampler, name=sampler))
        actions, _ = actor.propose(full, cells, generator if generator is not None else fresh(self.device))
        actions = actions.reshape(*x.shape[:-1], self.action_dim)
        return actions.cpu().numpy() if array else actions

    @torch.inference_mode(False)  # see `sample`
    @torch.no_grad()
    def propose(
        self, observations: Tensor, cells: Sequence[Cell], noise: Noise | torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See `Policy.propose`.  The statistic `clamped` is the share of guidance steps with w_hat below w_min."""
        counts = torch.tensor([int(cell["candidates"]) for cell in cells], device=self.device)
        row = torch.repeat_interleave(torch.arange(len(cells), device=self.device), counts)  # of each candidate
        scales = torch.tensor([float(cell["rho"]) for cell in cells], dtype=torch.float32, device=self.device)
        rho = scales[row].unsqueeze(-1)
        guidance = self.guide(rho) if bool((rho != 0).any()) else None
        temperatures = [float(cell.get("temperature", 1.0)) for cell in cells]
        temperature: float | Tensor = temperatures[0]
        if len(set(temperatures)) > 1:
            temperature = torch.tensor(temperatures, device=self.device)[row].unsqueeze(-1)
        z = self.sampler.draw(observations, row, guidance, temperature, noise)
        actions, weights = z[..., : self.action_dim].clamp(-1, 1), z[..., -1]
        shares = {name: self._share(name, guidance, rho, row, counts) for name in self.statistics}
        if len(row) == len(cells):
            return actions, shares
        best = self.ranking.best(observations[:, row], actions, weights, counts)
        return actions.gather(1, best.unsqueeze(-1).expand(-1, -1, self.action_dim)), shares

    def _share(self, name: str, guidance: Counting | None, rho: Tensor, row: Tensor, counts: Tensor) -> Tensor:
        """Share (S, E) of a row's guidance steps that the guidance counted under a name."""
        total = torch.zeros(len(self.seeds), len(counts), dtype=torch.int64, device=self.device)
        if guidance is None:
            return total
        # Integers, so that the order of the sum is irrelevant; rows of rho = 0 are not guided.
        total.index_add_(1, row, getattr(guidance, name) * (rho.squeeze(-1) > 0))
        return total / (guidance.calls * counts)


def fresh(device: torch.device) -> torch.Generator:
    """A generator seeded by the operating system."""
    generator = torch.Generator(device)
    generator.seed()
    return generator


def bounds(action_dim: int, weight_range: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds (low, high) of z_0 = [action, weight], (S, 1, A + 1) each: actions in [-1, 1], the weight in the range
    (S, 2) of the data's.

    Guidance pulls on the weight's channel as well.  Without bounds, a large rho drives it to where the denoiser was
    never trained, and the actions with it.
    """
    ones = weight_range.new_ones(len(weight_range), action_dim)
    low, high = (torch.cat([sign * ones, weight_range[:, i : i + 1]], 1) for i, sign in ((0, -1), (1, 1)))
    return low.unsqueeze(1), high.unsqueeze(1)


def guidance_of(method: Method, settings: EvalSettings) -> Callable[[Tensor], Counting]:
    """The function from scales rho (B, 1) to a method's guidance, with the settings of `eval` that it takes."""
    module, _, name = method.guidance.partition(":")
    make = getattr(importlib.import_module(module), name)
    return partial(make, **settings.model_dump(include=set(method.options)))


def load_critic(artifact: Artifact, device: str) -> Critic:
    """Load Q and V of a critic artifact, bytes checked.  Raises CorruptError."""
    tensors = load_tensors(artifact.file("critic.safetensors"))
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    critic = Critic(len(artifact.seeds), facts["observation_dim"], facts["action_dim"], params["hidden"])
    critic.load_state_dict(tensors)
    return critic.to(device).requires_grad_(False)


def assemble(policy: Artifact, ranking: Ranking, settings: EvalSettings, device: str) -> DiffusionPolicy:
    """Load the policy of a diffuse artifact, sampled and guided by the settings."""
    tensors = load_tensors(policy.file("policy.safetensors"))
    trained, facts = DiffuseSettings(**policy.params), policy.meta["metrics"]["data"]
    architecture = trained.model_dump(include=set(ARCHITECTURE))
    channels = trained.channels(facts["action_dim"])
    denoiser = Denoiser(len(policy.seeds), facts["observation_dim"], channels, **architecture)
    denoiser.load_state_dict({k.removeprefix("ema."): v for k, v in tensors.items() if k.startswith("ema.")})
    method = methods()[settings.method]
    box = bounds(facts["action_dim"], tensors["weight_range"].to(device)) if settings.clip else None
    schedule = getattr(Schedule, trained.schedule)(trained.K)
    return DiffusionPolicy(
        seeds=policy.seeds,
        action_dim=facts["action_dim"],
        sampler=Sampler(denoiser.to(device).requires_grad_(False), schedule, box, settings.sampler),
        guide=guidance_of(method, settings),
        ranking=ranking,
        device=torch.device(device),
        statistics=method.statistics,
    )


def ranking_of(critic: Artifact | None, augmented: Artifact | None, device: str) -> Ranking:
    """The ranking by a critic and the weight of an augmented data set; without them, by the model's own weight."""
    if critic is None or augmented is None:
        return Ranking()
    return Ranking(load_critic(critic, device), weigher(augmented.params))


def load_policy(
    ref: str, *, store: str | None = None, critic: str | None = None, device: str = "cpu"
) -> DiffusionPolicy:
    """Load the policy of a diffuse artifact (a directory or an id); the critic that it descends from ranks candidates.

    Raises InputError, CorruptError.
    """
    located = Store.locate(store)
    artifact = located.resolve(ref)
    if artifact.stage != "diffuse":
        raise InputError(f"{ref} is {a(artifact.stage)}, not a policy", "swgctl ls --stage diffuse")
    augmented = artifact.parent("augment")
    chosen = located.resolve(critic) if critic else augmented.parent("critic")
    check_ranking(chosen, artifact, augmented)
    return assemble(artifact, ranking_of(chosen, augmented, device), EvalSettings(), device)


def weigher(params: dict) -> Callable[[Tensor], Tensor]:
    """The function advantage -> weight of an augment artifact's parameters, which omit those that it ignores."""
    options = AugmentSettings().model_dump() | params
    name = options.pop("weight")
    return lambda advantage: weigh(name, advantage, **options)
