"""Adam's rate and epsilon, and its steps beside PyTorch's."""

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


def gradients(x: torch.Tensor) -> list[torch.Tensor]:
    """Losses of x (3, 4) whose gradients lie in memory as x does, transposed, as a part of something larger, and as one
    number."""
    wide = torch.cat([x, x.new_zeros(3, 4)], 1)
    scale = torch.arange(1.0, 13.0)
    return [
        (x.square() * scale.view(3, 4)).sum(),
        (x.mT.square() * scale.view(4, 3)).sum(),
        (wide.square() * torch.arange(1.0, 25.0).view(3, 8)).sum(),
        x.sum(),
    ]


@pytest.mark.parametrize("of", range(4))
def test_a_step_is_pytorchs_however_the_gradient_lies_in_memory(of, monkeypatch):
    """Also as operations one by one, which compiled steps take."""
    start = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    plain, fused, single = (start.clone().requires_grad_() for _ in range(3))
    theirs = torch.optim.Adam([plain], lr=1e-2)
    ours, compiled = Adam([fused], lr=1e-2), Adam([single], lr=1e-2)
    for _ in range(3):
        theirs.zero_grad()
        gradients(plain)[of].backward()
        theirs.step()
        ours.descend(gradients(fused)[of])
        with monkeypatch.context() as patch:
            patch.setattr(torch.compiler, "is_compiling", lambda: True)
            compiled.descend(gradients(single)[of])
    torch.testing.assert_close(fused, plain, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(single, plain, rtol=1e-6, atol=1e-7)
