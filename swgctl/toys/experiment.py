"""Samples of a trained toy against the ground truth: guided, unguided, and exactly reweighted."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from swgctl.config import ToySettings
from swgctl.diffusion import Schedule, sample
from swgctl.diffusion.exact import sampling_floor, shares, total_variation
from swgctl.diffusion.guidance import Denoise, Guidance
from swgctl.randomness import generator, normal
from swgctl.toys.densities import Density
from swgctl.toys.distances import Cloud, directions, energy_distance, sliced_wasserstein

TRUTHS = 5  # independent draws of the ground truth: references for the samples and, in pairs, for the floor


@dataclass(frozen=True)
class Frame:
    """Affine map between [-1, 1]^2 and a density's units: one range for both coordinates, as in the published code."""

    low: float
    high: float

    @classmethod
    def of(cls, points: Tensor) -> "Frame":
        return cls(points.min().item(), points.max().item())

    def inside(self, points: Tensor) -> Tensor:
        return 2 * (points - self.low) / (self.high - self.low) - 1

    def outside(self, points: Tensor) -> Tensor:
        return self.low + (points + 1) * (self.high - self.low) / 2


@dataclass(frozen=True)
class Walk:
    """How samples are drawn at one beta.

    denoise   eps(z (S, B, C), k), of which the first two channels are a point in [-1, 1]^2
    guidance  that of the weight at that beta; None: none
    bounds    (low, high), each (C,): the range of a predicted z_0
    """

    denoise: Denoise
    guidance: Guidance | None
    bounds: tuple[Tensor, Tensor]


def draw_all(
    walk: Callable[[float], Walk], density: Density, frame: Frame, s: ToySettings, seeds: list[int]
) -> dict[float, dict[str, Tensor]]:
    """Draw, for each beta: guided, unguided, reweighted (S, n, 2) and truth (TRUTHS, n, 2).

    Where z has a weight, guided_weight (S, n) too.
    """
    samples: dict[float, dict[str, Tensor]] = {}
    for beta in s.beta:
        way = walk(beta)
        guided = _draw(way, f"toy/guided/{beta:g}", s, seeds)
        unguided = _draw(replace(way, guidance=None), f"toy/unguided/{beta:g}", s, seeds)
        sources = [generator(i, f"toy/truth/{beta:g}", s.seed) for i in range(TRUTHS)]
        truths = [density.target(s.samples, beta, source) for source in sources]
        samples[beta] = {
            "guided": frame.outside(guided[..., :2]),
            **({"guided_weight": guided[..., 2]} if guided.shape[-1] > 2 else {}),
            "unguided": frame.outside(unguided[..., :2]),
            "truth": torch.stack(truths),
        }
    # Unguided samples follow the density itself for every beta, so all of them together are the pool to resample.
    for i, seed in enumerate(seeds):
        pool = torch.cat([arrays["unguided"][i] for arrays in samples.values()])
        for (beta, arrays), weights in zip(samples.items(), density.weights(pool, list(samples)), strict=True):
            source = generator(seed, f"toy/reweighted/{beta:g}", s.seed)
            picks = torch.multinomial(weights, s.samples, replacement=True, generator=source)
            arrays.setdefault("reweighted", torch.empty_like(arrays["unguided"]))[i] = pool[picks]
    return samples


def _draw(walk: Walk, name: str, s: ToySettings, seeds: list[int]) -> Tensor:
    """z_0 (S, n, C) in float64, from each member's stream of a name."""
    (low, high), schedule = walk.bounds, getattr(Schedule, s.schedule)(s.K)
    sources = [generator(seed, name, s.seed, low.device) for seed in seeds]
    z = sample(
        walk.denoise,
        schedule,
        (len(seeds), s.samples, len(low)),
        guidance=walk.guidance if s.rho else None,
        sampler=s.sampler,
        bounds=(low, high) if s.clip else None,
        generator=partial(normal, sources),
    )
    return z.cpu().double()


def compare(samples: dict, density: Density, s: ToySettings) -> list[dict]:
    """Distances of each kind of sample from the ground truth, for each beta; means over the seeds and the truths.

    floor is the same distance between independent ground truths, ratio the sliced Wasserstein distance over its floor.
    """
    cells = []
    onto = directions(generator(s.seed, "toy/directions", 0))
    for beta, arrays in samples.items():
        truths = [Cloud(points, onto) for points in arrays["truth"]]
        pairs = [(truths[i - 1], truths[i]) for i in range(TRUTHS)]
        floor = sum(sliced_wasserstein(*pair) for pair in pairs) / TRUTHS
        energy_floor = sum(abs(energy_distance(*pair)) for pair in pairs) / TRUTHS
        for method in ("unguided", "reweighted", "guided"):
            pairs = list(itertools.product([Cloud(points, onto) for points in arrays[method]], truths))
            near = sum(sliced_wasserstein(*pair) for pair in pairs) / len(pairs)
            cell = {
                "beta": beta,
                "method": method,
                "sliced_wasserstein": near,
                "floor": floor,
                "ratio": near / floor,
                "energy_distance": sum(energy_distance(*pair) for pair in pairs) / len(pairs),
                "energy_floor": energy_floor,
            }
            if density.modes is not None:
                labels = density.label(density.modes)
                target = torch.softmax(beta * labels, 0)
                modes = torch.nn.functional.pad(density.modes, (0, 1))  # `shares` reads the action alone
                by_seed = [shares(x, modes) for x in arrays[method]]
                cell["total_variation"] = sum(total_variation(p, target) for p in by_seed) / len(by_seed)
                cell["total_variation_floor"] = sampling_floor(target, s.samples)
            cells.append(cell)
    return cells
