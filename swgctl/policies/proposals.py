"""Proposals of a guided denoiser for rows of fixed cells: what no observation changes is computed once."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from swgctl.diffusion import Guidance
from swgctl.diffusion.schedule import Noise
from swgctl.policies.candidates import Layout, Ranking
from swgctl.policies.sampler import Sampler
from swgctl.training.execution import Capture, Replay


@dataclass
class Walk:
    """Candidates that walk side by side: all of them guided, or none.

    places       theirs among all B, (b,), or the slice of all
    row          the row of each
    temperature  one number for all, or one each, (b, 1)
    guidance     that at observations (S, E, O); None: nothing guides
    """

    places: Tensor | slice
    row: Tensor
    temperature: float | Tensor
    guidance: Callable[[Tensor], Guidance] | None


@dataclass
class Proposals:
    """Actions of S members for E rows: a `policy.Propose`.

    All of it is on the device, and a call never waits for it.

    walks       of all B candidates, each in one of them
    tables      see `Denoiser.tables`
    statistics  names of the guidance's counters, see `DiffusionPolicy`
    """

    sampler: Sampler
    ranking: Ranking
    action_dim: int
    layout: Layout
    walks: list[Walk]
    tables: list[Tensor]
    statistics: tuple[str, ...]

    @torch.inference_mode(False)  # see `sample`
    @torch.no_grad()
    def __call__(self, observations: Tensor, noise: Noise | torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See `policy.Propose`."""
        observations = observations.clone() if observations.is_inference() else observations
        draw = on_device(noise, observations.device) if isinstance(noise, torch.Generator) else noise
        layout, members = self.layout, len(observations)
        shape = (members, len(layout.row), self.sampler.denoiser.channels)
        shared, z = SharedNoise(draw, shape), observations.new_empty(shape)
        shares = {name: observations.new_zeros(members, len(layout.counts)) for name in self.statistics}
        for walk in self.walks:
            guidance = walk.guidance(observations) if walk.guidance else None
            part = shared.part(walk.places) if len(self.walks) > 1 else draw
            z[:, walk.places] = self.sampler.draw(observations, walk.row, guidance, walk.temperature, part, self.tables)
            for name, share in shares.items() if guidance else ():
                share += self._share(name, guidance, walk.row, members)
        actions, weights = z[..., : self.action_dim].clamp(-1, 1), z[..., -1]
        if layout.most == 1:
            return actions, shares
        chance = draw(shape)[..., 0] if self.ranking.draw else None
        best = self.ranking.best(observations[:, layout.row], actions, weights, layout, chance)
        return actions.gather(1, best.unsqueeze(-1).expand(-1, -1, self.action_dim)), shares

    def _share(self, name: str, guidance: Any, row: Tensor, members: int) -> Tensor:
        """Share (S, E) of a row's guidance steps that the guidance of candidates at these rows counted under a name."""
        counts = self.layout.counts
        total = torch.zeros(members, len(counts), dtype=torch.int64, device=counts.device)
        if guidance.calls:  # none where a walk of few steps visits none in which it guides
            total.index_add_(1, row, getattr(guidance, name).long())  # integers: the order of the sum is irrelevant
        return total / (max(guidance.calls, 1) * counts)


class SharedNoise:
    """Noise of which each walk has its candidates' part: that of a candidate does not depend on how they are divided.

    draw   function from a shape to the next draw
    shape  of all candidates' draws, (S, B, channels)
    """

    def __init__(self, draw: Noise, shape: tuple[int, ...]):
        self.draw, self.shape = draw, shape
        self.drawn: list[Tensor] = []

    def part(self, places: Tensor | slice) -> Noise:
        """The draws of the candidates at these places."""
        numbers = itertools.count()

        def noise(shape: tuple[int, ...]) -> Tensor:
            i = next(numbers)
            if i == len(self.drawn):
                self.drawn.append(self.draw(self.shape))
            return self.drawn[i][:, places]

        return noise


class Captured:
    """Proposals that are recorded and replayed: on CUDA one launch instead of the walk's thousand.

    The first call runs as it is, and shows how many draws a walk takes; the second records.  What a call returns stays.
    """

    def __init__(self, proposals: Proposals, record: Capture):
        self.proposals = proposals
        self.shapes: list[tuple[int, ...]] = []

        def step(at: dict[str, Tensor]) -> dict[str, Tensor]:
            draws = iter(at["noise"])
            actions, shares = proposals(at["observations"], lambda shape: next(draws))
            return {"actions": actions, **shares}

        self.replay = Replay(step, dict, record)

    @torch.inference_mode(False)
    @torch.no_grad()
    def __call__(self, observations: Tensor, noise: Noise | torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        draw = on_device(noise, observations.device) if isinstance(noise, torch.Generator) else noise
        if not self.shapes:
            shapes: list[tuple[int, ...]] = []

            def counted(shape: tuple[int, ...]) -> Tensor:
                shapes.append(shape)
                return draw(shape)

            answer = self.proposals(observations, counted)
            self.shapes = shapes
            return answer
        drawn = torch.stack([draw(shape) for shape in self.shapes])
        replayed = self.replay({"observations": observations, "noise": drawn})
        actions, *shares = (value.clone() for value in replayed.values())
        return actions, dict(zip(self.proposals.statistics, shares, strict=True))


def on_device(generator: torch.Generator, device: torch.device) -> Noise:
    """Standard normal noise by a generator of any device, on `device`."""
    return lambda shape: torch.randn(shape, generator=generator, device=generator.device).to(device)
