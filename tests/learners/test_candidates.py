"""Candidates as rows of a joint denoiser's training, and the channel and the head of its weight."""

import functools

import pytest
import torch
from support.learners import CPU, DIFFUSE, diffuse_learner
from support.training import check_members, check_resume

from swgctl.config import DiffuseSettings
from swgctl.diffusion import Schedule, sample
from swgctl.learners import DiffuseLearner
from swgctl.learners.rows import Candidates
from swgctl.randomness import generator
from swgctl.weights import channel

SEEDS = [0, 3, 7]
SEVERAL = 8  # of a batch of 32


learner_of = functools.partial(diffuse_learner, candidate_rows=SEVERAL)


def with_head(**changes):
    return functools.partial(learner_of, settings=DIFFUSE.model_copy(update=changes))


def test_a_member_learns_as_it_does_alone(tmp_path):
    check_members(with_head(weight_form="data", weight_scale="standard"), "diffuse", SEEDS, tmp_path)


def test_cut_and_resumed_is_bit_for_bit_one_run(tmp_path):
    check_resume(with_head(weight_form="data", weight_scale="standard"), "diffuse", SEEDS, tmp_path, at=13, steps=16)


# -- what is drawn -----------------------------------------------------------------------------------------------------


def drawn_by(learner, index=0):
    return learner.draw(lambda stream: [generator(seed, f"diffuse/{stream}", index) for seed in SEEDS])


def test_a_batch_has_its_share_of_candidates_each_with_its_state_and_its_weight():
    learner = learner_of(SEEDS)
    drawn = drawn_by(learner)
    assert drawn["rows"].shape == (learner.chunk, 3, 32 - SEVERAL)
    assert drawn["candidates"].shape == (learner.chunk, 3, SEVERAL)
    assert set(drawn["candidates"].flatten().tolist()) == set(range(150))
    observations, z0 = learner.batch({name: value[0] for name, value in drawn.items()})
    beside = learner.candidates
    for s in range(3):
        of_data, picks = drawn["rows"][0, s], drawn["candidates"][0, s]
        assert torch.equal(observations[s, :-SEVERAL], learner.observations[of_data])
        assert torch.equal(z0[s, :-SEVERAL, :-1], learner.actions[of_data])
        assert torch.equal(z0[s, :-SEVERAL, -1], learner.weights[s, of_data])
        assert torch.equal(observations[s, -SEVERAL:], learner.observations[4 * (picks // 3)])
        assert torch.equal(z0[s, -SEVERAL:, :-1], beside.actions[s, picks])
        assert torch.equal(z0[s, -SEVERAL:, -1], beside.weights[s, picks])


def test_candidates_leave_all_other_draws_as_they_are():
    """The data's rows, steps, noise and masks; without candidates, of the batch's whole length."""
    plain, mixed = diffuse_learner(SEEDS), learner_of(SEEDS)
    without, beside = drawn_by(plain, 3), drawn_by(mixed, 3)
    assert without.keys() == beside.keys() - {"candidates"}
    for name in ("k", "eps", "keep"):
        assert torch.equal(without[name], beside[name])
    numbers = [torch.randint(200, (50, 32), generator=generator(seed, "diffuse/batch", 3)) for seed in SEEDS]
    assert torch.equal(without["rows"], torch.stack(numbers, 1))


def test_candidates_of_the_exact_denoiser_leave_the_moments_of_the_action_as_they_are():
    """Data a ~ N(0.2 s, 0.3^2) of states s = -1, 1, whose exact denoiser is linear; half of a batch are its samples.

    Mean, variance and covariance with the state within four standard errors of the batch's rows, as if independent,
    and the variance of 60,000 samples of 100 steps."""
    n, K, sd = 4_000, 100, 0.3
    source = torch.Generator().manual_seed(0)
    states = torch.randint(2, (n, 1), generator=source) * 2.0 - 1
    data = 0.2 * states + sd * torch.randn(n, 1, generator=source)
    schedule = Schedule.cosine(K)

    def denoise(z, k):
        alpha, sigma = schedule.at(k)
        return sigma * (z - alpha * 0.2 * states.unsqueeze(1)) / ((alpha * sd) ** 2 + sigma**2)

    drawn = sample(denoise, schedule, (n, 15, 1), generator=source)
    candidates = Candidates.at(torch.arange(n), drawn.unsqueeze(0), drawn[..., 0].unsqueeze(0))
    settings = DiffuseSettings(width=16, batch=1000, K=5)
    of_mixture = [DiffuseLearner(states, data, data.T, settings, [0], CPU, candidates=candidates, candidate_rows=500)]
    of_data = [DiffuseLearner(states, data, data.T, settings, [0], CPU)]
    for (learner,) in (of_mixture, of_data):
        batches = [learner.draw(lambda stream, i=i: [generator(0, stream, i)]) for i in range(2)]
        rows = [learner.batch({k: v[i] for k, v in batch.items()}) for batch in batches for i in range(50)]
        s, a = (torch.cat([one[j][0, :, 0] for one in rows]).double() for j in (0, 1))
        error = 4 * sd / n**0.5
        assert s.mean().item() == pytest.approx(0, abs=4 / n**0.5)
        assert a.mean().item() == pytest.approx(0, abs=error + 0.2 * 4 / n**0.5)
        assert (a * s).mean().item() == pytest.approx(0.2, abs=error)
        assert (a - 0.2 * s).var().item() == pytest.approx(sd**2, abs=4 * sd**2 * (2 / n) ** 0.5 + 0.02 * sd**2)


# -- the weight's channel and its head ---------------------------------------------------------------------------------


def test_a_standard_channel_is_z_scored_over_the_data_and_its_line_gives_the_weight_back():
    raw, standard = learner_of(SEEDS), with_head(weight_scale="standard")(SEEDS)
    torch.testing.assert_close(standard.weights.mean(1), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(standard.weights.std(1, correction=0), torch.ones(3))
    offset, factor = standard.channel
    torch.testing.assert_close(offset + factor * standard.weights, raw.weights)
    torch.testing.assert_close(offset + factor * standard.candidates.weights, raw.candidates.weights)
    assert raw.channel[0].tolist() == [[0]] * 3
    assert raw.channel[1].tolist() == [[1]] * 3


def test_a_channel_of_equal_weights_is_zero():
    offset, factor = channel("standard", torch.full((2, 997), 0.7))  # whose mean is rounded
    torch.testing.assert_close(offset, torch.full((2, 1), 0.7))
    assert factor.tolist() == [[1], [1]]
    with pytest.raises(ValueError, match="unknown scale"):
        channel("log", torch.ones(1, 2))


def test_the_loss_of_a_head_that_predicts_the_weight_is_the_squared_error_of_the_weight():
    """Of a network of zeros, which predicts the weight 0 and no noise in the action."""
    learner = with_head(weight_form="data")(SEEDS)
    for p in learner.denoiser.parameters():
        p.data.zero_()
    one = {name: value[0] for name, value in drawn_by(learner).items()}
    _, z0 = learner.batch(one)
    info = learner.step(one)
    torch.testing.assert_close(info["weight_loss"], z0[..., -1].square().mean(-1), rtol=1e-4, atol=0)
    torch.testing.assert_close(info["action_loss"], one["eps"][..., :-1].square().sum(-1).mean(-1))
    torch.testing.assert_close(info["loss"], info["weight_loss"] + info["action_loss"])
