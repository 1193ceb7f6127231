"""Training of trajectory models: draws, loss, learning rate, and averages that forget the random start."""

import math

import pytest
import torch
from support.learners import CPU
from support.training import check_members, check_resume, fit

from swgctl.config import TrajectoriesSettings
from swgctl.diffusion import edm
from swgctl.learners.trajectories import TrajectoryLearner
from swgctl.randomness import generator

SEEDS = [0, 3, 11]
N, D = 400, 5
SETTINGS = TrajectoriesSettings(
    length=8, features=8, blocks=3, groups=2, batch=16, steps=40, lr=2e-3, ema=0.2, ema_every=2
)


def z_scored() -> torch.Tensor:
    rows = torch.randn(N, D, generator=generator(0, "rows", 0))
    return (rows - rows.mean(0)) / rows.std(0, correction=0)


def learner_of(seeds: list[int], **changes) -> TrajectoryLearner:
    return TrajectoryLearner(z_scored(), torch.arange(0, N - 8, 3), SETTINGS.model_copy(update=changes), seeds, CPU)


def streams_of(seeds: list[int]):
    return lambda stream: [generator(seed, stream, 0) for seed in seeds]


def first(learner: TrajectoryLearner, seeds: list[int]) -> dict[str, torch.Tensor]:
    """What the first step reads."""
    return {name: value[0] for name, value in learner.draw(streams_of(seeds)).items()}


def loss_of(learner: TrajectoryLearner, network, drawn: dict[str, torch.Tensor]) -> torch.Tensor:
    x0 = learner.rows[drawn["starts"].unsqueeze(-1) + torch.arange(learner.settings.length)]
    with torch.no_grad():
        return edm.loss(network, x0, drawn["eps"], drawn["sigma"])[0]


# -- draws and loss ----------------------------------------------------------------------------------------------------


def test_draws_are_windows_noise_levels_and_noise():
    drawn = learner_of([0], batch=400).draw(streams_of([0]))
    chunk = TrajectoryLearner.chunk
    assert drawn["eps"].shape == (chunk, 1, 400, 8, D)
    assert drawn["eps"].std().item() == pytest.approx(1, abs=0.01)
    log_sigma = drawn["sigma"].log()
    assert log_sigma.shape == (chunk, 1, 400)
    assert log_sigma.mean().item() == pytest.approx(-1.2, abs=0.04)
    assert log_sigma.std().item() == pytest.approx(1.2, abs=0.03)
    starts = torch.arange(0, N - 8, 3)
    counts = torch.stack([(drawn["starts"] == start).sum() for start in starts])
    assert counts.sum() == chunk * 400
    expected = chunk * 400 / len(starts)
    assert ((counts - expected) ** 2 / expected).sum() < len(starts) + 5 * math.sqrt(2 * len(starts)), "chi-squared"


def test_the_network_sees_scaled_windows_with_noise_and_the_level():
    learner = learner_of(SEEDS)
    seen, forward = [], learner.network.forward
    learner.network.forward = lambda *inputs: (seen.append(inputs), forward(*inputs))[1]
    drawn = first(learner, SEEDS)
    learner.step(drawn)
    rows, (x, c_noise) = z_scored(), seen[0]
    for s, b in [(0, 0), (1, 7), (2, 15)]:
        start, sigma = drawn["starts"][s, b], drawn["sigma"][s, b]
        noisy = rows[start : start + 8] + sigma * drawn["eps"][s, b]
        torch.testing.assert_close(x[s, b], noisy / (1 + sigma**2).sqrt())
        torch.testing.assert_close(c_noise[s, b], sigma.log() / 4)


def test_the_loss_is_the_weighted_error_of_the_denoiser_a_mean_over_windows_rows_and_channels():
    """(sigma^2 + 1) / sigma^2 |D - x_0|^2 (Karras et al., equation 2 with their lambda)."""
    learner = learner_of(SEEDS)
    drawn = first(learner, SEEDS)
    x0 = z_scored()[drawn["starts"].unsqueeze(-1) + torch.arange(8)]
    sigma = drawn["sigma"][..., None, None]
    with torch.no_grad():
        error = edm.denoised(learner.network, x0 + sigma * drawn["eps"], drawn["sigma"]) - x0
    expected = (error.square() * (1 + sigma**2) / sigma**2).mean((1, 2, 3))
    torch.testing.assert_close(learner.step(drawn)["loss"], expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_zero_has_loss_one():
    """On data of unit second moment, at every noise level."""
    learner = learner_of(SEEDS, batch=1000)
    learner.network.out.weight.data.zero_()
    for log_sigma in (-4.0, 0.0, 4.0):
        drawn = first(learner, SEEDS)
        drawn["sigma"] = torch.full_like(drawn["sigma"], math.exp(log_sigma))
        torch.testing.assert_close(loss_of(learner, learner.network, drawn), torch.ones(3), rtol=0, atol=0.05)


# -- rates -------------------------------------------------------------------------------------------------------------


def test_the_learning_rate_rises_from_a_tenth_of_the_peak_and_then_falls_along_half_a_cosine():
    learner = learner_of([0], lr=1.0, steps=100)
    drawn = first(learner, [0])

    def rate(done: int) -> float:
        learner.adam.done.fill_(done)
        learner.step(drawn)
        return learner.adam.rate.item()

    assert [rate(n) for n in (0, 5, 10)] == pytest.approx([0.1, 0.55, 1.0])
    assert [rate(n) for n in (40, 55, 100)] == pytest.approx([0.75, 0.5, 0.0], abs=1e-6)


def followed(rates: list[float], values: list[float], start: float) -> float:
    """A running average of a parameter that has these values after each step."""
    average = torch.tensor(start, dtype=torch.float64)
    for rate, value in zip(rates, values, strict=True):
        average.lerp_(torch.tensor(value, dtype=torch.float64), rate)
    return average.item()


def rates_of(learner: TrajectoryLearner, steps: int) -> list[float]:
    rates = []
    for done in range(steps):
        learner.adam.done.fill_(done)
        rates.append(learner.follow().item())
    return rates


def test_averages_forget_the_random_start():
    """Its share after 3,000 steps, and in closed form the average of a parameter that equals the number of steps.

    The first 200 of 300 updates leave the mean of 10, 20 ... 2000; each later one moves by 1/200 of the way.
    """
    rates = rates_of(learner_of([0], ema=0.005, ema_every=10), 3000)
    assert [n + 1 for n, rate in enumerate(rates) if rate] == list(range(10, 3001, 10))
    assert followed(rates, [0.0] * 3000, start=1.0) == 0
    assert followed([0.005 if rate else 0.0 for rate in rates], [0.0] * 3000, 1.0) == pytest.approx(0.995**300)
    after_200, lag = 1005.0, 10 * 199.0  # what follows a ramp of 10 an update at the rate r lags by 10 (1 - r) / r
    expected = 3000 - lag + (after_200 - (2000 - lag)) * 0.995**100
    assert followed(rates, [n + 1.0 for n in range(3000)], start=7.0) == pytest.approx(expected, rel=1e-6)


def test_the_average_follows_the_parameters_at_these_rates(tmp_path):
    learner = learner_of(SEEDS)
    path, step = [], learner.step

    def watched(drawn):
        info = step(drawn)
        path.append(learner.network.out.weight.detach().clone())
        return info

    learner.step = watched
    rates = rates_of(learner_of(SEEDS), 13)
    fit(learner, "trajectories", tmp_path, SEEDS, 13)
    average = torch.zeros_like(path[0])  # the first update, whose rate is 1, forgets it
    for rate, value in zip(rates, path, strict=True):
        average.lerp_(value, rate)
    torch.testing.assert_close(learner.average.out.weight, average)
    assert torch.equal(learner.tensors()["ema.out.weight"], learner.average.out.weight)
    assert torch.equal(learner.tensors()["raw.out.weight"], path[-1])


# -- training ----------------------------------------------------------------------------------------------------------


def test_members_train_as_they_would_alone(tmp_path):
    check_members(learner_of, "trajectories", SEEDS, tmp_path)


def test_a_resumed_training_ends_in_the_same_bytes(tmp_path):
    check_resume(learner_of, "trajectories", SEEDS, tmp_path, at=13)


def test_averages_are_kept_between_updates_and_a_state_says_so():
    learner = learner_of(SEEDS, ema_every=10)
    drawn = learner.draw(streams_of(SEEDS))
    before = {name: value.clone() for name, value in learner.average.state_dict().items()}
    for i in range(9):
        learner.step({name: value[i] for name, value in drawn.items()})
    state = learner.state()
    assert all(torch.equal(state[f"average.{name}"], value) for name, value in before.items())
    learner.step({name: value[9] for name, value in drawn.items()})
    assert torch.equal(state["average.out.weight"], learner.network.out.weight)


@pytest.mark.training
def test_training_reaches_the_least_loss_of_windows_that_repeat_one_number(tmp_path):
    """x_0 = z in all of L rows, z ~ N(0, 1): given L noisy rows z has the variance sigma^2 / (L + sigma^2).

    Over c_out^2 that is (1 + sigma^2) / (L + sigma^2).
    """
    values = torch.randn(5000, generator=generator(0, "z", 0))
    rows = ((values - values.mean()) / values.std(correction=0)).repeat_interleave(3).unsqueeze(-1)
    settings = TrajectoriesSettings(
        length=3, features=32, blocks=1, groups=2, batch=128, steps=300, lr=1e-2, ema=0.02, ema_every=1
    )
    learner = TrajectoryLearner(rows, torch.arange(0, len(rows), 3), settings, [0, 1], CPU)
    fit(learner, "trajectories", tmp_path, [0, 1], settings.steps)
    fresh = {name: value.transpose(0, 1).flatten(1, 2) for name, value in learner.draw(streams_of([7, 8])).items()}
    square = fresh["sigma"].square()
    ratio = loss_of(learner, learner.average, fresh) / ((1 + square) / (3 + square)).mean(1)
    assert (ratio > 0.94).all(), "6,400 windows know it to 1.5 %"
    assert (ratio < 1.2).all()
