"""Learning of an ensemble of one-step models: its loss, its rows, a linear system, members and resumption."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.learners import CPU, transitions
from support.training import check_members, check_resume, fit

from swgctl.config import DynamicsSettings
from swgctl.errors import InputError
from swgctl.learners.dynamics import DynamicsLearner, decays, gaussian_nll
from swgctl.randomness import generator
from swgctl.tasks.transitions import Transitions
from swgctl.training import draws

SEEDS = [0, 3, 7]
SMALL = DynamicsSettings(members=3, elites=2, hidden=[16, 16], batch=32)


def learner_of(seeds, data: Transitions | None = None, **changes) -> DynamicsLearner:
    return DynamicsLearner(data or transitions(), SMALL.model_copy(update=changes), seeds, CPU)


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_the_likelihood_in_closed_form():
    """0 at mean = target with log-variance 0; an error e at variance v adds e^2 / v + log v."""
    target = torch.randn(2, 3, 5, 4, generator=generator(0, "target", 0))
    zero = torch.zeros_like(target)
    assert gaussian_nll(target, zero, target).tolist() == [[0.0] * 3] * 2
    nll = gaussian_nll(target + 3, zero + math.log(2), target)
    torch.testing.assert_close(nll, torch.full((2, 3), 9 / 2 + math.log(2)))
    exact = -torch.distributions.Normal(target, 2**0.5).log_prob(target + 3).mean((-1, -2))
    torch.testing.assert_close(nll / 2 + math.log(2 * math.pi) / 2, exact)


def test_the_decay_of_the_published_depth_and_of_others():
    assert decays(5) == pytest.approx([2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4])
    assert decays(2) == pytest.approx([2.5e-5, 1e-4])
    assert decays(1) == [1e-4]


def test_the_loss_sums_over_networks_and_adds_decay_and_bounds():
    """With zero weights the mean is 0 and the log-variance the clamped 0; then the weights' part alone is added."""
    learner = learner_of(SEEDS)
    rows = torch.randint(len(learner.rows), (3, 3, 32), generator=generator(0, "rows", 0))
    y = learner.rows[rows][..., -4:]
    with torch.no_grad():
        for p in learner.ensemble.layers.parameters():
            p.zero_()
        clamped = learner.ensemble(torch.zeros(3, 1, 1, 5))[1][0, 0, 0, 0].item()
    nll = (y.square() * math.exp(-clamped) + clamped).mean((2, 3))
    info = learner.step({"rows": rows})
    bounds = 0.01 * 4 * 10.5
    torch.testing.assert_close(info["nll"], nll.mean(1))
    torch.testing.assert_close(info["loss"], nll.sum(1) + bounds)
    torch.testing.assert_close(info["mse"], y.square().mean((1, 2, 3)))

    learner = learner_of(SEEDS)
    squares = [layer.weight.detach().square().sum((1, 2, 3)) for layer in learner.ensemble.layers]
    decay = sum(d / 2 * square for d, square in zip((2.5e-5, 5e-5, 1e-4), squares, strict=True))
    info = learner.step({"rows": rows})
    torch.testing.assert_close(info["loss"] - 3 * info["nll"] - bounds, decay, rtol=0, atol=3e-6)


# -- the rows ----------------------------------------------------------------------------------------------------------


def test_a_row_is_the_state_the_action_the_change_and_the_reward():
    """Rows without a known next state and terminal ones are left out."""
    data = transitions()
    data.known_next[5] = False
    kept = np.flatnonzero(data.known_next & ~data.terminals)
    assert 0 < len(kept) < len(data) - 1
    change = data.next_observations - data.observations
    expected = np.hstack([data.observations, data.actions, change, data.rewards[:, None]])[kept]
    np.testing.assert_array_equal(learner_of([0], data).rows.numpy(), expected)


def test_rows_held_out_are_a_fifth_and_no_network_draws_them():
    learner = learner_of(SEEDS)
    count = len(learner.rows)
    assert learner.holdout.shape == (3, int(0.2 * count))
    assert learner.bootstrap.shape == (3, 3, count - int(0.2 * count))
    drawn = next(draws(learner, "dynamics", SEEDS, CPU))["rows"]
    assert drawn.shape == (3, 3, 32)
    for s in range(3):
        held = set(learner.holdout[s].tolist())
        training = set(range(count)) - held
        assert len(held) == learner.holdout.shape[1]
        for m in range(3):
            resample = learner.bootstrap[s, m].tolist()
            assert set(resample) <= training
            # a resample misses a share 1/e of its rows, here with a deviation of about 0.03
            assert len(set(resample)) / len(training) == pytest.approx(1 - 1 / math.e, abs=0.12)
            assert set(drawn[s, m].tolist()) <= set(resample)
        x = learner.rows[sorted(training), :5].double()
        torch.testing.assert_close(learner.ensemble.mean[s, 0, 0].double(), x.mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(learner.ensemble.std[s, 0, 0].double(), x.std(0, correction=0), rtol=1e-5, atol=0)
    assert len({tuple(resample) for resample in learner.bootstrap.flatten(0, 1).tolist()}) == 9
    assert len({tuple(held) for held in learner.holdout.tolist()}) == 3


def test_at_most_a_thousand_rows_are_held_out():
    assert learner_of([0], transitions(8000)).holdout.shape == (1, 1000)


def test_a_constant_input_has_deviation_one():
    data = transitions()
    data.observations[:, 1] = 0.1
    learner = learner_of([0], data)
    assert learner.ensemble.std[0, 0, 0, 1] == 1
    assert learner.ensemble.mean[0, 0, 0, 1] == pytest.approx(0.1)


def test_data_without_transitions_are_refused():
    data = transitions()
    with pytest.raises(InputError, match=r"1 row\(s\) have a next state"):
        learner_of([0], replace(data, terminals=np.arange(len(data)) > 0))


# -- seeds are an axis -------------------------------------------------------------------------------------------------


def test_a_member_learns_as_it_does_alone(tmp_path):
    check_members(learner_of, "dynamics", SEEDS, tmp_path)


@pytest.mark.parametrize("at", [1, 23])
def test_cut_and_resumed_is_bit_for_bit_one_run(at, tmp_path):
    """Within the first chunk of draws, and in the second."""
    check_resume(learner_of, "dynamics", SEEDS, tmp_path, at)


# -- what it learns ----------------------------------------------------------------------------------------------------

CHANGE = np.array([[-0.1, 0.3, 0.5], [-0.2, -0.1, 0.1]])  # s' - s = [s, a] CHANGE^T + noise
REWARD = np.array([1.0, 0.0, -0.5])
NOISE = np.array([0.05, 0.1, 0.2])  # sd of the noise of s' and r


def linear(rows: int = 3000) -> Transitions:
    rng = np.random.default_rng(0)
    x = np.hstack([rng.normal(size=(rows, 2)), rng.uniform(-1, 1, (rows, 1))])
    y = x @ np.vstack([CHANGE, REWARD]).T + NOISE * rng.normal(size=(rows, 3))
    x, y = x.astype(np.float32), y.astype(np.float32)
    none = np.zeros(rows, bool)
    return Transitions(x[:, :2], x[:, 2:], y[:, 2], x[:, :2] + y[:, :2], none, none, ~none)


@pytest.mark.training
def test_an_ensemble_learns_a_linear_system_and_its_noise(tmp_path):
    seeds = [0, 1]
    learner = learner_of(seeds, linear(), hidden=[32, 32], batch=128, lr=3e-3)
    fit(learner, "dynamics", tmp_path, seeds, 600)
    rng = np.random.default_rng(1)
    x = np.hstack([rng.normal(size=(500, 2)), rng.uniform(-1, 1, (500, 1))])
    with torch.no_grad():
        mean, log_var = learner.ensemble(torch.tensor(x, dtype=torch.float32).expand(2, 1, -1, -1))
    truth = torch.tensor(x @ np.vstack([CHANGE, REWARD]).T, dtype=torch.float32)
    error = (mean - truth).square().mean(2).sqrt()  # (S, M, 3)
    assert (error < 0.6 * torch.tensor(NOISE)).all(), error
    sd = (log_var / 2).exp().square().mean((1, 2)).sqrt()  # (S, 3)
    np.testing.assert_allclose(sd, np.broadcast_to(NOISE, (2, 3)), rtol=0.2)


def test_elites_are_the_networks_of_least_held_out_error_the_best_first():
    """A network whose last layer is 0 predicts 0 plus its bias, here further and further from the target."""
    learner = learner_of([0, 1], linear(), members=4, elites=3)
    offsets = torch.tensor([[2.0, 0.5, 3.0, 1.0], [0.1, 0.4, 0.3, 0.2]])
    with torch.no_grad():
        last = learner.ensemble.layers[-1]
        last.weight.zero_()
        last.bias[..., :3] = offsets[..., None, None]
    assert learner.elites().tolist() == [[1, 3, 0], [0, 3, 2]]
    targets = learner.rows[learner.holdout][..., 3:]
    by_hand = (targets.unsqueeze(1) - offsets[..., None, None]).square().mean((2, 3))
    torch.testing.assert_close(learner.holdout_mse(), by_hand)
    tensors = learner.tensors()
    assert tensors["elites"].dtype == torch.int64
    assert tensors.keys() - {"elites"} == learner.ensemble.state_dict().keys()
