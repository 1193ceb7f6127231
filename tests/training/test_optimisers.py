"""Adam's rate and its epsilon."""

import math

import pytest
import torch

from swgctl.training.optimisers import Adam

STEPS = 80


def rates(**options) -> list[torch.Tensor]:
    """The rate of each of 80 steps with the peak 2e-3."""
    x = torch.ones(2, requires_grad=True)
    adam, seen = Adam([x], lr=2e-3, decay="cosine", steps=STEPS, **options), []
    for _ in range(STEPS):
        adam.descend(x.square().sum())
        seen.append(adam.rate.clone())
    return seen


def test_the_rate_rises_for_a_sixteenth_of_the_steps_and_falls_along_half_a_cosine():
    """To the bit: results of earlier versions are the same."""
    for t, rate in enumerate(rates()):
        share = torch.tensor(float(t)) / STEPS
        assert torch.equal(rate, 2e-3 * (16 * share).clamp(max=1) * 0.5 * (1 + torch.cos(math.pi * share)))


@pytest.mark.parametrize(("warmup", "start"), [(0.1, 0.1), (0.25, 0.0)])
def test_a_warm_up_rises_from_its_start_to_one(warmup, start):
    seen = [rate.item() for rate in rates(warmup=warmup, start=start)]
    expected = [
        2e-3 * (start + (1 - start) * min(t / (warmup * STEPS), 1)) * math.cos(math.pi * t / STEPS / 2) ** 2
        for t in range(STEPS)
    ]
    assert seen == pytest.approx(expected, rel=1e-5, abs=1e-9)
    assert seen[0] == pytest.approx(2e-3 * start)


def test_the_first_step_is_the_rate_times_g_over_g_plus_epsilon():
    """Both running means are corrected for their start: half of the rate where g = eps, and nearly all of it by
    default."""
    moved = []
    for options in ({"eps": 1e-5}, {}):
        x = torch.zeros(1, requires_grad=True)
        Adam([x], lr=0.5, **options).descend(1e-5 * x.sum())
        moved.append(-x.item())
    assert moved == pytest.approx([0.25, 0.5 / 1.001], rel=1e-4)
