"""Section 3 of the SWG paper in float64: its scores against closed forms that share no code with the guidance.

q is a random set of points z = (a, w(a)).  Noisy, it is a mixture of Gaussians, and so is the target p ~ q w: their
scores are differentiated by a complex step, whose error is rounding alone.
"""

import pytest
import torch

from swgctl import weights
from swgctl.diffusion import SAMPLERS, Exact, Schedule, sample, self_weighted
from swgctl.diffusion.exact import ring, sampling_floor, shares, total_variation

VP = Schedule.vp(15)
STEPS = (0, 3, 8, 14)
WEIGHTS = {
    "expectile": lambda advantage: weights.expectile(advantage, tau=0.7),
    "exponential": lambda advantage: weights.exponential(advantage, beta=3.0),
    "linex": weights.linex,
}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cloud(weight: str) -> torch.Tensor:
    """Twelve points [a, w] in four dimensions."""
    a = normal(12, 3)
    return torch.cat([a, WEIGHTS[weight](a @ normal(3, 1, seed=1))], 1)


def noisy(points, schedule, k, seed=2):
    """z_k (60, D), five of each point."""
    alpha, sigma = schedule.at(k)
    z0 = points.repeat(5, 1)[:60]
    return alpha * z0 + sigma * normal(*z0.shape, seed=seed)


def score(points, mass, z, alpha, sigma):
    """grad_z log sum_i mass_i N(z; alpha z_0i, sigma^2 I) by a complex step in each coordinate."""
    h = 1e-30
    shifted = z.unsqueeze(1) + 1j * h * torch.eye(z.shape[1], dtype=z.dtype)  # (B, D, D)
    exponent = -(shifted.unsqueeze(2) - alpha * points).square().sum(-1) / (2 * sigma**2)
    exponent = exponent - exponent.real.amax(-1, keepdim=True)
    return torch.log((mass * torch.exp(exponent)).sum(-1)).imag / h


def grad_log_weight(exact, z, k):
    """grad_z log E[w | z_k] = (alpha / sigma^2) Cov(z_0, w | z_k) / E[w | z_k], (..., D), without autograd."""
    alpha, sigma = exact.schedule.at(k)
    p, w = exact.posterior(z, k), exact.points[:, -1]
    mean = (p @ w).unsqueeze(-1)
    return alpha / sigma**2 * ((p * w) @ exact.points - mean * (p @ exact.points)) / mean


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("k", STEPS)
def test_proposition_3_3(weight, k):
    """grad log p_k = grad log q_k + grad log E[w | z_k] (equation 10), the last by the posterior's covariances."""
    points, exact = cloud(weight), Exact(cloud(weight), VP)
    z = noisy(points, VP, k)
    q, p = (score(points, mass, z, *VP.at(k)) for mass in (torch.ones(12), points[:, -1]))
    close(p, q + grad_log_weight(exact, z, k))
    assert (p - q).norm() > 4e-3 * q.norm(), "the weight must be seen"


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("k", STEPS)
def test_theorem_3_5(weight, k):
    """-sigma_k grad log p_k is the noise that self-weighted guidance makes of the loss's global minimum."""
    points = cloud(weight)
    z = noisy(points, VP, k)
    alpha, sigma = VP.at(k)
    guided = self_weighted(1.0)(Exact(points, VP), z, k, alpha, sigma)
    close(guided, -sigma * score(points, points[:, -1], z, alpha, sigma))
    close(guided, Exact(points, VP).tilted()(z, k))


# -- Remark 3.4: the gradient is with respect to (a, w), not to a alone ------------------------------------------------


class action_guided(self_weighted):
    """The gradient with respect to a alone: the weight's own channel is left unguided."""

    def __call__(self, denoise, z, k, alpha, sigma):
        guided, eps = super().__call__(denoise, z, k, alpha, sigma), denoise(z, k)
        return torch.cat([guided[..., :-1], eps[..., -1:]], -1)


def test_much_of_the_gradient_is_the_weights_own():
    """The share of |grad_z log E[w | z_k]| that lies along w, which a gradient over actions alone leaves out."""
    points = cloud("exponential")
    gradients = [grad_log_weight(Exact(points, VP), noisy(points, VP, k), k) for k in STEPS]
    shares = [(gradient[:, -1].norm() / gradient.norm()).item() for gradient in gradients]
    assert shares == pytest.approx([0.12, 0.46, 0.84, 0.99], abs=0.01)


@pytest.mark.parametrize(("beta", "at_least"), [(3.0, 0.09), (10.0, 0.3)])
@pytest.mark.parametrize("sampler", ["ddpm", "dpm-solver++"])
def test_guiding_the_action_alone_draws_the_wrong_modes(sampler, beta, at_least):
    """Total variation 0.12 at beta = 3 and 0.38 to 0.41 at beta = 10, where the whole gradient reaches the floor."""
    schedule = Schedule.cosine(50)
    exact, error = Exact(ring(beta), schedule), {}
    target = exact.tilted().mass
    for guide in (self_weighted, action_guided):
        options = {"guidance": guide(1.0), "sampler": sampler, "dtype": torch.float64}
        z = sample(exact, schedule, (4000, 3), generator=torch.Generator().manual_seed(0), **options)
        error[guide] = total_variation(shares(z[:, :2], exact.points), target)
    assert error[action_guided] > at_least
    assert error[self_weighted] < 3 * sampling_floor(target, 4000)


# -- the guidance scale ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", STEPS)
def test_rho_times_the_score_is_the_score_of_the_power(k):
    """Section 6.4: rho grad log w_hat = grad log w_hat^rho, by the difference of the guided noises."""
    points, (alpha, sigma) = cloud("expectile"), VP.at(k)
    exact, z = Exact(points, VP), noisy(points, VP, k)
    step = self_weighted(15.0)(exact, z, k, alpha, sigma) - exact(z, k)
    x = z.clone().requires_grad_()
    power = ((x[:, -1] - sigma * exact(x, k)[:, -1]) / alpha) ** 15
    (gradient,) = torch.autograd.grad(power.log().sum(), x)
    close(step, -sigma * gradient)
    close(step, 15 * (self_weighted(1.0)(exact, z, k, alpha, sigma) - exact(z, k)))


def curve():
    """1,201 points [a, w], a in [-3, 3], w the smooth expectile of 3a at tau = 0.9, and the mass of a ~ N(0, 1).

    Their spacing, 0.005, is far below every sigma, so this is a density in a; where sigma tends to 0 it still has a
    gradient of log w along it, which single points have not.
    """
    a = torch.linspace(-3, 3, 1201, dtype=torch.float64)
    return torch.stack([a, weights.expectile(a, tau=0.9, scale=3.0)], 1), torch.exp(-a.square() / 2)


def test_rho_is_the_score_of_q_w_to_the_rho_only_as_sigma_vanishes():
    """|rho grad log E[w | z_k] - grad log E[w^rho | z_k]| beside the latter, rho = 5, root mean squares over q_k."""
    sigma = torch.tensor([0.03, 0.06, 0.12, 0.25, 0.5, 0.9], dtype=torch.float64)
    schedule = Schedule((1 - sigma**2).sqrt(), sigma)
    points, mass = curve()
    exact, errors = Exact(points, schedule, mass), []
    z0 = points[torch.multinomial(mass, 300, True, generator=torch.Generator().manual_seed(0))]
    for k in range(len(sigma)):
        alpha, s = schedule.at(k)
        z = alpha * z0 + s * normal(300, 2)
        guided = self_weighted(5.0)(exact, z, k, alpha, s) - exact(z, k)
        power = exact.tilted(5.0)(z, k) - exact(z, k)
        errors.append(((guided - power).norm() / power.norm()).item())
    assert errors == pytest.approx([0.0035, 0.014, 0.054, 0.19, 0.49, 1.27], rel=0.05)  # quadruples as sigma doubles


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_large_rho_draws_a_milder_tilt_than_q_w_to_the_rho(sampler):
    """rho = 10 on eight modes of beta = 1: w^10 puts 0.76 on the best, ddpm 0.56 and the deterministic ones 0.39."""
    schedule = Schedule.cosine(50)
    exact = Exact(ring(1.0), schedule)
    options = {"guidance": self_weighted(10.0), "sampler": sampler, "dtype": torch.float64}
    z = sample(exact, schedule, (4000, 3), generator=torch.Generator().manual_seed(0), **options)
    drawn, power = shares(z[:, :2], exact.points), exact.tilted(10.0).mass
    assert exact.tilted().mass[-1] < 0.22 < 0.35 < drawn[-1] < 0.6 < 0.75 < power[-1]
