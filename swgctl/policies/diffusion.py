"""A guided denoiser as a policy: observations in, actions out (SWG, Algorithm 2; SWG-R, section 5).

It has three parts: a sampler that walks from noise to z = [action, ...], a guidance that bends the walk, and a ranking
that keeps one candidate.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from swgctl.config import EvalSettings, Method, a, method_named
from swgctl.diffusion import Guidance, check_scale, late, rescaled, self_weighted
from swgctl.diffusion.schedule import Noise
from swgctl.errors import InputError
from swgctl.policies.candidates import Layout, Ranking
from swgctl.policies.loading import LogWeight, load_critic, load_denoiser, load_energy, load_line, weigher
from swgctl.policies.origin import check_ranking, denoiser_of, weight_of
from swgctl.policies.policy import Cell, Propose
from swgctl.policies.proposals import Captured, Proposals, Walk
from swgctl.policies.sampler import Sampler
from swgctl.store import Artifact, Store, remote
from swgctl.training.execution import Capture, recorder

# scales rho (B, 1) and the row (B,) of each candidate -> the candidates' guidance at observations (S, E, O)
Guide = Callable[[Tensor, Tensor], Callable[[Tensor], Guidance]]


@dataclass
class DiffusionPolicy:
    """S guided denoisers that act side by side: a `Policy` whose cells have `rho`, `candidates` and `temperature` (1).

    guide   makes the guidance; None for a policy that nothing guides, of rho = 0 alone
    record  captures the walk, which is replayed from then on; None: it runs operation by operation

    A statistic is the share of guidance steps that the guidance counted under its name: `clamped`, those with w_hat
    below w_min.
    """

    seeds: list[int]
    action_dim: int
    sampler: Sampler
    guide: Guide | None
    ranking: Ranking
    device: torch.device
    statistics: tuple[str, ...] = ("clamped",)
    record: Capture | None = None
    _last: tuple | None = field(default=None, init=False, repr=False, compare=False)  # what `act` prepared

    @property
    def ranks(self) -> bool:
        """True if a critic, or the model's own weight, can choose among candidates."""
        return self.ranking.critic is not None or self.sampler.denoiser.channels > self.action_dim

    @property
    def noise_shape(self) -> tuple[int, int]:
        draws, channels = self.sampler.noise_shape
        return draws + self.ranking.draw, channels

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
        generator    see `diffusion.sample`, for noise (S, sum of candidates, channels), of any device: the noise is
                     drawn there; None: fresh noise
        NumPy observations give NumPy actions.  Raises ValueError for an invalid argument.
        """
        counts = torch.as_tensor(candidates)
        if counts.is_floating_point() or bool((counts < 1).any()):
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
        if self.guide is None and bool((scales > 0).any()):
            raise ValueError("nothing guides this policy: leave rho at 0, or load a guide")
        if bool(((factors == 0) & (counts > 1)).any()):
            raise ValueError("temperature 0 makes all candidates equal: leave candidates at 1")
        columns = (values.expand(rows).tolist() for values in (scales, counts, factors))
        cells = [{"rho": r, "candidates": m, "temperature": t} for r, m, t in zip(*columns, strict=True)]
        actions, _ = self._ready(cells, sampler)(full, generator if generator is not None else fresh(self.device))
        actions = actions.reshape(*x.shape[:-1], self.action_dim)
        return actions.cpu().numpy() if array else actions

    def _ready(self, cells: Sequence[Cell], sampler: str) -> Propose:
        """The proposals for these cells by a sampler, those of the call before where they are alike."""
        now, parts = (cells, sampler), (self.sampler, self.guide, self.ranking)
        if self._last and self._last[0] == now and all(a is b for a, b in zip(self._last[1], parts, strict=True)):
            return self._last[2]
        ready = replace(self, sampler=replace(self.sampler, name=sampler)).prepare(cells)
        self._last = now, parts, ready
        return ready

    @torch.inference_mode(False)  # see `sample`
    @torch.no_grad()
    def prepare(self, cells: Sequence[Cell]) -> Propose:
        """See `Policy.prepare`.  Raises ValueError for an invalid rho, and for candidates that nothing ranks."""
        scales = [float(cell["rho"]) for cell in cells]
        temperatures = [float(cell.get("temperature", 1.0)) for cell in cells]
        check_scale(scales)
        layout = Layout([int(cell["candidates"]) for cell in cells], self.device)
        if layout.most > 1 and not self.ranks:
            raise ValueError("nothing ranks a plain model's candidates: leave them at 1, or load it with a critic")
        guided = [self.guide is not None and scale > 0 for scale in scales]
        proposals = Proposals(
            sampler=self.sampler,
            ranking=self.ranking,
            action_dim=self.action_dim,
            layout=layout,
            walks=[
                self._walk(layout, scales, temperatures, [one == which for one in guided], which)
                for which in sorted(set(guided))
            ],
            tables=self.sampler.denoiser.tables(),
            statistics=self.statistics,
        )
        return Captured(proposals, self.record) if self.record else proposals

    def _walk(
        self, layout: Layout, scales: list[float], temperatures: list[float], chosen: list[bool], guided: bool
    ) -> Walk:
        """The walk of the candidates of the chosen rows, which all are guided, or all are not."""
        places, row = layout.places_of(chosen)
        distinct = {t for t, one in zip(temperatures, chosen, strict=True) if one}
        return Walk(
            places=places,
            row=row,
            temperature=distinct.pop() if len(distinct) == 1 else layout.spread(temperatures)[places],
            guidance=self.guide(layout.spread(scales)[places], row) if self.guide and guided else None,
        )


def fresh(device: torch.device) -> torch.Generator:
    """A generator seeded by the operating system."""
    generator = torch.Generator(device)
    generator.seed()
    return generator


def guidance_of(
    method: Method, settings: EvalSettings, sampler: Sampler, guide: Artifact | None, device: str
) -> Guide | None:
    """A method's guidance with the settings of `eval` that it takes, and what a guide's artifact gives it.

    None where nothing guides: a method without a guidance, or one that takes what only a guide has.
    """
    if not method.guidance or (method.takes and guide is None):
        return None
    module, _, name = method.guidance.partition(":")
    function = getattr(importlib.import_module(module), name)
    make = partial(function, **settings.model_dump(include=set(method.options)))
    energy = load_energy(guide, sampler, device) if guide and method.takes == "energy" else None
    line = None
    if function is self_weighted:
        line = load_line(sampler, guide if method.takes == "line" else None, device)
    log_weight = None
    if guide and method.takes == "log_weight":
        log_weight = LogWeight(load_critic(guide.parent("critic"), device), weigher(guide.params))

    def guided(rho: Tensor, row: Tensor) -> Callable[[Tensor], Guidance]:
        table = energy.step_table(energy.entry) if energy else None

        def at(observations: Tensor) -> Guidance:
            given: dict[str, Any] = {}  # what the guide's artifact gives to the guidance at these observations
            if energy:
                given = {"energy": energy.bind(observations, row, table)}
            elif line:
                given = {"line": line}
            elif log_weight:
                given = {"log_weight": partial(log_weight.of_z, observations[:, row]), "bounds": sampler.bounds}
            guidance = make(rho, **given)
            guidance = rescaled(guidance) if settings.rescale else guidance
            return late(guidance, settings.kmax) if settings.kmax else guidance

        return at

    return guided


def assemble(
    source: Artifact, critic: Artifact | None, settings: EvalSettings, device: str, mode: str = "graph"
) -> DiffusionPolicy:
    """Load the policy of `diffuse`, `behaviour` or `guide`, sampled, guided and chosen from by the settings.

    A guide brings its denoiser and its method.  On CUDA its walk is captured, unless `mode` is "eager".
    critic  ranks candidates by the policy's weight, by the advantage where it has none; None: the model's own does
    """
    guide = source if source.stage == "guide" else None
    denoiser = denoiser_of(source)
    sampler = load_denoiser(denoiser, device)
    sampler = replace(
        sampler, bounds=sampler.bounds if settings.clip else None, name=settings.sampler, nfe=settings.nfe
    )
    method = method_named(guide.params["method"] if guide else settings.method)
    plain = guide is None and denoiser.stage != "diffuse"
    factory = None if plain else guidance_of(method, settings, sampler, guide, device)
    return DiffusionPolicy(
        seeds=source.seeds,
        action_dim=denoiser.meta["metrics"]["data"]["action_dim"],
        sampler=sampler,
        guide=factory,
        ranking=_ranking(critic, weight_of(source), device, draw=settings.select == "sample"),
        device=torch.device(device),
        statistics=method.statistics if factory else (),
        record=recorder("eager" if mode == "eager" else "graph", torch.device(device)),
    )


def _ranking(critic: Artifact | None, weight: dict | None, device: str, draw: bool) -> Ranking:
    """The ranking by a critic and the weight of these parameters; without a critic, by the model's own weight."""
    if critic is None:
        return Ranking()
    return Ranking(load_critic(critic, device), weigher(weight) if weight else lambda advantage: advantage, draw)


def load_policy(
    ref: str | Path, *, store: str | None = None, critic: str | Path | None = None, device: str = "cpu"
) -> DiffusionPolicy:
    """Load the policy of a diffuse, behaviour or guide artifact (a directory, an id, or a URL such as hf://OWNER/NAME#ID).

    The critic that it descends from ranks candidates by its weight; a behaviour model has neither, unless one is named.
    Raises InputError, CorruptError.
    """
    located = Store.locate(store)
    artifact = remote.resolve(located, ref)
    if artifact.stage not in ("diffuse", "behaviour", "guide"):
        raise InputError(f"{ref} is {a(artifact.stage)}, not a policy", "swgctl ls --stage diffuse")
    lineage = artifact.ancestors()
    chosen = remote.resolve(located, critic) if critic else lineage.get("critic")
    if chosen:
        check_ranking(chosen, artifact, weight_of(artifact))
    return assemble(artifact, chosen, EvalSettings(), device)
