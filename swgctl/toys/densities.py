"""Six densities q(a) over the plane and an energy on each, from CEP (Lu et al., 2023), which SWG's section 6.1 takes.

`label` is -xi(a): the target is p(a) ~ q(a) exp(beta label).  All in float64.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor


@dataclass(frozen=True)
class Density:
    """A density and its labels, as functions.

    draw(n, generator) -> points (n, 2) and labels (n,)
    label(points (n, 2)) -> labels (n,), the likeliest ones where noise hides them
    modes  centres (m, 2) of a mixture of m equally likely components, in the order of their labels
    tilted(n, beta, generator) -> points (n, 2) of the target; None: labels are at most 1, so rejection sampling works
    hidden(points, betas (B,)) -> E[exp(beta label) | a] (B, n); None: the point determines its label
    """

    draw: Callable[[int, Generator], tuple[Tensor, Tensor]]
    label: Callable[[Tensor], Tensor]
    modes: Tensor | None = None
    tilted: Callable[[int, float, Generator], Tensor] | None = None
    hidden: Callable[[Tensor, Tensor], Tensor] | None = None

    def target(self, n: int, beta: float, generator: Generator) -> Tensor:
        """Draw n independent points (n, 2) of q(a) exp(beta label)."""
        if self.tilted:
            return self.tilted(n, beta, generator)

        def propose(count: int) -> tuple[Tensor, Tensor]:
            points, labels = self.draw(count, generator)
            return points, beta * (labels - 1)

        return _accepted(n, propose, generator)

    def weights(self, points: Tensor, betas: list[float]) -> Tensor:
        """E[exp(beta label) | a] at points (n, 2) for each beta, up to a factor: (B, n)."""
        scales = torch.tensor(betas, dtype=torch.float64)
        if self.hidden:
            return self.hidden(points, scales)
        return torch.softmax(scales.unsqueeze(1) * self.label(points), 1)


def _accepted(n: int, propose: Callable[[int], tuple[Tensor, Tensor]], generator: Generator) -> Tensor:
    """Rejection sampling: n values from propose(count) -> (values, log probabilities of acceptance)."""
    accepted: list[Tensor] = []
    while sum(map(len, accepted)) < n:
        values, log_p = propose(32 * n)
        accepted.append(values[_uniform(len(values), generator).log() < log_p])
    return torch.cat(accepted)[:n]


def _uniform(n: int, generator: Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64)


def _normal(n: int, generator: Generator) -> Tensor:
    return torch.randn(n, 2, generator=generator, dtype=torch.float64)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1)


# -- eight Gaussians: labels 0, 1/7, .. 1 ------------------------------------------------------------------------------

R = math.sqrt(0.5)
CENTRES = torch.tensor([(0, 1), (-R, R), (-1, 0), (-R, -R), (0, -1), (R, -R), (1, 0), (R, R)], dtype=torch.float64)
CENTRES = 4 * CENTRES / 1.414


def _draw_gaussians(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    mode = torch.randint(8, (n,), generator=generator)
    return CENTRES[mode] + 0.5 / 1.414 * _normal(n, generator), mode.double() / 7


def _label_gaussians(points: Tensor) -> Tensor:
    return torch.cdist(points, CENTRES).argmin(1).double() / 7


# -- two spirals: the label falls with the distance from the middle ----------------------------------------------------


def _draw_spirals(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    turn = _uniform(n, generator).sqrt() * 3 * math.pi
    jitter = torch.stack([_uniform(n, generator), _uniform(n, generator)], -1)
    arm = torch.stack([-turn.cos() * turn, turn.sin() * turn], -1) + 0.5 * jitter
    sign = torch.where(_uniform(n, generator) < 0.5, 1.0, -1.0)
    points = sign.unsqueeze(-1) * arm / 3 + 0.1 * _normal(n, generator)
    return points, (1 - turn / 10).clamp(0, 1)


def _label_spirals(points: Tensor) -> Tensor:
    return (1 - 3 * points.norm(dim=1) / 10).clamp(0, 1)


def _hidden_spirals(points: Tensor, betas: Tensor) -> Tensor:
    """Expectation over the turns that may have produced a point: midpoints, with probability ~ turn, on either arm."""
    turn = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 * 3 * math.pi
    arm = torch.stack([-turn.cos() * turn, turn.sin() * turn], -1) / 3
    weights = torch.exp(betas * (1 - turn / 10).clamp(0, 1).unsqueeze(1))  # (turns, B)
    expectations = []
    for some in points.split(2048):
        # uniform jitter of 1/6 plus normal noise of 0.1 on a coordinate: a difference of two normal cdfs
        apart = torch.stack([some, -some]).unsqueeze(2) - arm
        near = (torch.special.ndtr(apart / 0.1) - torch.special.ndtr((apart - 1 / 6) / 0.1)).prod(-1).sum(0) * turn
        expectations.append(near @ weights / near.sum(1, keepdim=True).clamp(min=1e-300))  # 0 out of every turn's reach
    return torch.cat(expectations).T


# -- Swiss roll: the label grows with the distance from the middle, and may exceed 1 -----------------------------------


def _draw_roll(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    turn = 1.5 * math.pi * (1 + 2 * _uniform(n, generator))
    points = (_polar(turn, turn) + _normal(n, generator)) / 5
    return points, _label_roll(points)


def _label_roll(points: Tensor) -> Tensor:
    return points.square().sum(1) / 9


def _tilted_roll(n: int, beta: float, generator: Generator) -> Tensor:
    """Closed form: N(m, s^2) times exp(c |a|^2) is N(m / t, s^2 / t) with mass exp(c |m|^2 / t), t = 1 - 2 c s^2."""
    c, s = beta / 9, 1 / 5
    t = 1 - 2 * c * s**2

    def propose(count: int) -> tuple[Tensor, Tensor]:
        turn = 1.5 * math.pi * (1 + 2 * _uniform(count, generator))
        return turn, c / t * (turn.square() - (4.5 * math.pi) ** 2) / 25

    turn = _accepted(n, propose, generator)
    return _polar(turn, turn) / 5 / t + s / math.sqrt(t) * _normal(n, generator)


# -- rings: the third one from outside is the heaviest -----------------------------------------------------------------

RADII = torch.tensor([3.0, 2.25, 1.5, 0.75], dtype=torch.float64)
RING_LABELS = torch.tensor([2 / 3, 1 / 3, 1, 0], dtype=torch.float64)


def _draw_rings(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    ring = torch.randint(4, (n,), generator=generator)
    points = _polar(RADII[ring], 2 * math.pi * _uniform(n, generator))
    return points + 0.08 * _normal(n, generator), RING_LABELS[ring]


def _label_rings(points: Tensor) -> Tensor:
    return RING_LABELS[(points.norm(dim=1, keepdim=True) - RADII).abs().argmin(1)]


# -- two moons: one counts, the other does not -------------------------------------------------------------------------

SHIFT = torch.tensor([-1.0, -0.2], dtype=torch.float64)


def _draw_moons(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    inner = _uniform(n, generator) < 0.5
    angle = math.pi * _uniform(n, generator)
    outer_arc = torch.stack([angle.cos(), angle.sin()], -1)
    inner_arc = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], -1)
    points = torch.where(inner.unsqueeze(-1), inner_arc, outer_arc) + 0.1 * _normal(n, generator)
    return 2 * points + SHIFT, inner.double()


def _label_moons(points: Tensor) -> Tensor:
    x, y = ((points - SHIFT) / 2).unbind(-1)
    outer = torch.where(y >= 0, (torch.hypot(x, y) - 1).abs(), torch.hypot(x.abs() - 1, y))
    inner = torch.where(y <= 0.5, (torch.hypot(x - 1, y - 0.5) - 1).abs(), torch.hypot((x - 1).abs() - 1, y - 0.5))
    return (inner < outer).double()


# -- checkerboard: two columns of four count ---------------------------------------------------------------------------


def _draw_board(n: int, generator: Generator) -> tuple[Tensor, Tensor]:
    x = 4 * _uniform(n, generator) - 2
    down = 2.0 * (_uniform(n, generator) < 0.5)
    points = 2 * torch.stack([x, _uniform(n, generator) - down + x.floor() % 2], -1)
    return points, _label_board(points)


def _label_board(points: Tensor) -> Tensor:
    x = points[:, 0]
    return (((x > 0) & (x <= 2)) | (x <= -2)).double()


DENSITIES = {
    "8gaussians": Density(_draw_gaussians, _label_gaussians, CENTRES),
    "2spirals": Density(_draw_spirals, _label_spirals, hidden=_hidden_spirals),
    "swissroll": Density(_draw_roll, _label_roll, tilted=_tilted_roll),
    "rings": Density(_draw_rings, _label_rings),
    "moons": Density(_draw_moons, _label_moons),
    "checkerboard": Density(_draw_board, _label_board),
}


class EnergyWeights:
    """Weights w(label, beta), float32 (...), for a data set's labels (N,) and beta in [0, beta_max], on their device.

    raw   exp(-beta (most - label)) in (0, 1], with `most` the greater of 1 and the data's greatest label
    unit  raw divided by its mean over the data

    grad log w is free of scale, but the noise that hides w in training is not: at beta = 20 a raw weight is nearly
    always nearly 0.
    """

    KNOTS = 400  # values of beta between which the logarithm of the mean is interpolated

    def __init__(self, labels: Tensor, beta_max: float, scale: str):
        self.most, self.beta_max = max(1.0, labels.max().item()), beta_max
        device, labels = labels.device, labels.cpu()
        knots = torch.linspace(0, beta_max, self.KNOTS + 1, dtype=torch.float64)
        values, counts = labels.unique(return_counts=True)
        if len(values) > 4096:
            counts, edges = torch.histogram(labels, 4096)
            values = (edges[1:] + edges[:-1]) / 2
        log_w, shares = knots.unsqueeze(1) * (values - self.most), (counts / len(labels)).log()
        self.log_mean = torch.logsumexp(log_w + shares, 1).to(device)
        self.log_scale = self.log_mean if scale == "unit" else torch.zeros_like(self.log_mean)
        self.values, self.shares = values.to(device), shares.to(device)

    def __call__(self, label: Tensor, beta: Tensor) -> Tensor:
        return torch.exp(self.log(label, beta)).float()

    def log(self, label: Tensor, beta: Tensor) -> Tensor:
        """log w, in float64, differentiable in the label."""
        return beta * (label - self.most) - self._at(self.log_scale, beta)

    def mean(self, beta: float) -> float:
        """Mean weight over the data."""
        return self._at(self.log_mean - self.log_scale, self.log_mean.new_tensor(beta)).exp().item()

    def top(self, beta: float) -> float:
        """The 95 % quantile of the weight under the target q w."""
        tilted = torch.softmax(beta * self.values + self.shares, 0).cumsum(0)  # over the labels, ascending
        greatest = self.values[torch.searchsorted(tilted, 0.95).clamp(max=len(self.values) - 1)]
        return self(greatest, greatest.new_tensor(beta)).item()

    def _at(self, table: Tensor, beta: Tensor) -> Tensor:
        knot = (beta.double() / self.beta_max * self.KNOTS).clamp(0, self.KNOTS - 1e-6)
        left = knot.long()
        return torch.lerp(table[left], table[left + 1], knot - left)
