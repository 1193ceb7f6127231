"""Samples of a trained toy against the ground truth: guided, unguided, and exactly reweighted."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.config import ToySettings
from swgctl.diffusion import Schedule, sample, self_weighted
from swgctl.diffusion.exact import sampling_floor, shares, total_variation
from swgctl.randomness import generator
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


def draw_all(denoiser, weigh, density: Density, frame: Frame, s: ToySettings, seeds: list[int], device) -> dict:
    """Draw, for each beta: guided, unguided, reweighted (S, n, 2), guided_weight (S, n) and truth (TRUTHS, n, 2)."""
    schedule = getattr(Schedule, s.schedule)(s.K)
    samples: dict[float, dict[str, Tensor]] = {}
    for beta in s.beta:
        # The weight's upper bound is the target's, not the data's: where labels have a tail, the data's greatest
        # weight is a thousand times the target's, and was hardly ever trained.
        low = torch.tensor([-1, -1, 0.0], device=device)
        high = torch.tensor([1, 1, weigh.top(beta)], device=device)

        def denoise(z: Tensor, k: int, beta: float = beta) -> Tensor:
            return denoiser(z, torch.tensor(k, device=device), torch.tensor(beta, device=device))

        bounds = (low, high) if s.clip else None

        def walk(name: str, guidance, beta: float = beta, denoise=denoise, bounds=bounds) -> Tensor:
            sources = [generator(seed, f"toy/{name}/{beta:g}", s.seed, device) for seed in seeds]

            def noise(shape: tuple[int, ...]) -> Tensor:
                return torch.stack([torch.randn(shape[1:], generator=g, device=device) for g in sources])

            shape = (len(seeds), s.samples, 3)
            z = sample(denoise, schedule, shape, guidance=guidance, sampler=s.sampler, bounds=bounds, generator=noise)
            return z.cpu().double()

        guided = walk("guided", self_weighted(s.rho, w_min=s.w_min * weigh.mean(beta)) if s.rho else None)
        unguided = walk("unguided", None)
        sources = [generator(i, f"toy/truth/{beta:g}", s.seed) for i in range(TRUTHS)]
        truths = [density.target(s.samples, beta, source) for source in sources]
        samples[beta] = {
            "guided": frame.outside(guided[..., :2]),
            "guided_weight": guided[..., 2],
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
