"""Guidance by an energy, by the posterior mean and rescaled, as functions: gradients, bounds, norms, calls.

What samples they draw is in test_energies.py.
"""

import pytest
import torch

from swgctl.diffusion import Exact, Schedule, energy_guided, posterior_guided, rescaled, sample, self_weighted
from swgctl.diffusion.exact import ring
from swgctl.models import Denoiser, reset
from swgctl.randomness import generator

ALPHA, SIGMA = 0.8, 0.6
AT = (3, ALPHA, SIGMA)


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def energy(z, k):
    return torch.sin(z[..., 0]) * z[..., 1] + (k + 1) * z[..., 2].square()


def gradient(z, k):
    """grad_z of the energy by hand."""
    return torch.stack([z[..., 0].cos() * z[..., 1], z[..., 0].sin(), 2 * (k + 1) * z[..., 2]], -1)


class Counted:
    """A denoiser with known noise that counts its calls and records whether autograd watches them."""

    def __init__(self):
        self.calls, self.watched = 0, []

    def __call__(self, z, k):
        self.calls += 1
        self.watched.append(z.requires_grad and torch.is_grad_enabled())
        return torch.tanh(z)


GUIDANCE = {
    "self_weighted": lambda rho: self_weighted(rho),
    "energy_guided": lambda rho: energy_guided(rho, energy),
    "posterior_guided": lambda rho: posterior_guided(rho, lambda z: energy(z, 0)),
}


# -- by an energy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(3,), (7, 3), (2, 5, 3)])
def test_an_energy_guides_by_its_gradient_over_all_channels(shape):
    z = normal(*shape)
    guided = energy_guided(2.5, energy)(Counted(), z, *AT)
    torch.testing.assert_close(guided, torch.tanh(z) - 2.5 * SIGMA * gradient(z, 3))


def test_an_energy_leaves_the_denoiser_undifferentiated():
    denoise = Counted()
    energy_guided(1.0, energy)(denoise, normal(4, 3), *AT)
    assert denoise.watched == [False]


# -- by the posterior mean ---------------------------------------------------------------------------------------------


def test_the_gradient_at_the_posterior_mean_passes_through_the_denoiser():
    """mu~ = (z - sigma tanh z) / alpha, whose derivative is (1 - sigma (1 - tanh^2)) / alpha."""
    z, denoise = normal(7, 3), Counted()
    guided = posterior_guided(2.5, lambda z0: energy(z0, 0))(denoise, z, *AT)
    mean, slope = (z - SIGMA * z.tanh()) / ALPHA, (1 - SIGMA * (1 - z.tanh().square())) / ALPHA
    torch.testing.assert_close(guided, torch.tanh(z) - 2.5 * SIGMA * slope * gradient(mean, 0))
    assert denoise.watched == [True]


def test_the_posterior_mean_is_clipped_where_its_gradient_ends():
    """The first channel's mean lies above 0.5 and the second's below -0.5; the last channel has no bounds."""
    z, high = torch.tensor([[3.0, -3.0, 2.0], [0.1, 0.2, 0.3]]).double(), torch.tensor([0.5, 0.5, torch.inf]).double()
    seen = []

    def log_weight(z0):
        seen.append(z0.detach())
        return energy(z0, 0)

    step = posterior_guided(1.0, log_weight, (-high, high))(Counted(), z, *AT) - z.tanh()
    free = posterior_guided(1.0, log_weight)(Counted(), z, *AT) - z.tanh()
    assert seen[0][0, :2].tolist() == [0.5, -0.5]
    assert step[0, :2].tolist() == [0, 0]
    torch.testing.assert_close(step[1], free[1])
    torch.testing.assert_close(step[0, 2], free[0, 2])
    assert (free[0, :2] != 0).all()


# -- rescaled ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", GUIDANCE)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rescaled_rows_keep_the_norm_of_the_unguided_noise_and_the_direction_of_the_guided(name, dtype):
    schedule = Schedule.vp(15)
    exact, z = Exact(ring(beta=2.0).to(dtype), schedule), normal(2, 50, 3, dtype=dtype)
    for k in (0, 7, 14):
        guided, turned = (
            guide(exact, z, k, *schedule.at(k)) for guide in (GUIDANCE[name](5.0), rescaled(GUIDANCE[name](5.0)))
        )
        torch.testing.assert_close(turned.norm(dim=-1), exact(z, k).norm(dim=-1), rtol=1e-6, atol=0)
        torch.testing.assert_close(torch.cosine_similarity(guided, turned, -1), torch.ones_like(z[..., 0]))


def test_rescaling_leaves_a_row_without_guidance_and_a_row_of_zeros_alone():
    z = torch.stack([normal(3), torch.zeros(3).double()])
    rho = torch.tensor([[0.0], [1.0]]).double()
    turned = rescaled(energy_guided(rho, lambda z, k: z.square().sum(-1)))(Counted(), z, *AT)
    torch.testing.assert_close(turned, z.tanh(), rtol=1e-12, atol=0)


def test_a_guided_noise_of_zero_stays_zero():
    """The energy's step, sigma rho z with rho = 1 / sigma, cancels the noise z."""
    turned = rescaled(energy_guided(1 / SIGMA, lambda z, k: z.square().sum(-1) / 2))(lambda z, k: z, normal(4, 3), *AT)
    assert (turned == 0).all()


@pytest.mark.parametrize("name", GUIDANCE)
def test_rescaling_asks_the_denoiser_once(name):
    denoise = Counted()
    rescaled(GUIDANCE[name](1.0))(denoise, normal(4, 3), *AT)
    assert denoise.calls == 1


def test_rescaling_passes_the_counts_of_its_guidance_through():
    guide = self_weighted(1.0, w_min=0.3)
    turned = rescaled(guide)
    for _ in range(2):
        turned(lambda z, k: torch.zeros_like(z), torch.tensor([[1.0, 0.0], [1.0, 1.0]]), *AT)
    assert turned.calls == guide.calls == 2
    assert turned.clamped.tolist() == [2, 0]
    with pytest.raises(AttributeError, match="has no attribute 'counted'"):
        turned.counted  # noqa: B018


def test_rescaling_keeps_the_split_at_the_weight_head():
    """A learnt denoiser's blocks after its weight head run without autograd, and once."""
    denoiser = Denoiser(2, 3, 3, K=15, width=32)
    reset(denoiser, [generator(s, "test", 0) for s in range(2)])
    denoiser.requires_grad_(False)
    z, observations, watched = normal(2, 5, 3, dtype=torch.float32), normal(2, 5, 3, dtype=torch.float32), []
    denoiser.blocks[-1].register_forward_hook(lambda _, inputs, output: watched.append(output.requires_grad))
    turned = rescaled(self_weighted(10.0))(denoiser.bind(observations), z, *AT)
    assert watched == [False]
    eps = denoiser.bind(observations)(z, 3)
    torch.testing.assert_close(turned.norm(dim=-1), eps.norm(dim=-1), rtol=1e-5, atol=0)


# -- every guidance ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [-1e-9, float("inf"), torch.tensor([1.0, torch.nan])])
@pytest.mark.parametrize("name", GUIDANCE)
def test_a_negative_or_undefined_rho_is_refused(name, rho):
    with pytest.raises(ValueError, match="rho must be"):
        GUIDANCE[name](rho)


@pytest.mark.parametrize("name", GUIDANCE)
def test_one_rho_a_row_is_that_rows_scalar_rho(name):
    z, rho = normal(4, 3), torch.tensor([0.0, 1.0, 5.0, 20.0]).double()
    together = GUIDANCE[name](rho.unsqueeze(-1))(Counted(), z, *AT)
    for row in range(4):
        alone = GUIDANCE[name](rho[row].item())(Counted(), z[row : row + 1], *AT)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(together[0], z[0].tanh(), rtol=0, atol=0)


@pytest.mark.parametrize("turn", [lambda guide: guide, rescaled])
@pytest.mark.parametrize("name", GUIDANCE)
def test_guidance_works_where_the_caller_disables_gradients_and_carries_no_graph(name, turn):
    schedule = Schedule.vp(15)
    scale = torch.ones(3, requires_grad=True)
    walks = []
    for mode in (torch.inference_mode, torch.no_grad, torch.enable_grad):
        guide = turn(GUIDANCE[name](0.1))
        with mode():
            options = {"guidance": guide, "generator": torch.Generator().manual_seed(0)}
            walks.append(sample(lambda z, k: scale * z.tanh(), schedule, (4, 3), **options))
        assert guide.calls == 15
        assert not walks[-1].requires_grad
    assert torch.equal(walks[0], walks[1])
    assert torch.equal(walks[0], walks[2])
    assert not turn(GUIDANCE[name](1.0))(lambda z, k: scale * z, torch.ones(4, 3), *AT).requires_grad
