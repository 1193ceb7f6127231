"""Critics beside the in-sample one: CQL's penalty, values within the data's support, D-DICE's V."""

import math

import numpy as np
import pytest
import torch
from support.learners import CPU, CRITIC, critic_learner, transitions
from support.training import chain, check_members, check_resume, fit

from swgctl.config import CriticSettings
from swgctl.learners import CriticLearner
from swgctl.learners.critic import UNIFORM
from swgctl.randomness import generator
from swgctl.training.loop import draws

SEEDS = [0, 3, 7]
ROWS = torch.tensor([[0, 7, 31], [5, 199, 2], [16, 16, 64]])  # of three members; row 16 is terminal


def learner_of(loss: str, seeds=SEEDS, **settings) -> CriticLearner:
    return critic_learner(seeds, settings=CRITIC.model_copy(update={"loss": loss, **settings}))


@pytest.mark.parametrize("loss", ["cql", "isq", "dice"])
def test_a_member_learns_as_it_does_alone(loss, tmp_path):
    check_members(lambda seeds: learner_of(loss, seeds), loss, SEEDS, tmp_path)


@pytest.mark.parametrize(("loss", "at"), [("cql", 13), ("cql", 20), ("isq", 13), ("dice", 13)])
def test_cut_and_resumed_is_bit_for_bit_one_run(loss, at, tmp_path):
    """CQL's draws come 20 steps at a time."""
    check_resume(lambda seeds: learner_of(loss, seeds), loss, SEEDS, tmp_path, at)


def test_candidates_are_isqs_and_of_no_other_loss():
    data, candidates = transitions(), torch.zeros(1, 200, 4, 2)
    for loss, given in (("isq", None), ("cql", candidates)):
        with pytest.raises(ValueError, match="isq, and no other"):
            CriticLearner(data, CRITIC.model_copy(update={"loss": loss}), "none", [0], CPU, given)


# -- CQL ---------------------------------------------------------------------------------------------------------------


def test_uniform_actions_are_uniform_and_leave_the_rows_as_they_are():
    drawn = next(draws(learner_of("cql"), "critic", SEEDS, CPU))
    uniform = drawn["uniform"]
    assert uniform.shape == (3, CRITIC.batch, UNIFORM, 2)
    assert uniform.abs().max() <= 1
    # 1,024 numbers a member: the mean of as many has a deviation of 0.018, that of their squares one of 0.0093
    assert uniform.mean((1, 2, 3)).abs().max() < 0.08
    torch.testing.assert_close(uniform.square().mean((1, 2, 3)), torch.full((3,), 1 / 3), rtol=0, atol=0.04)
    assert len({tuple(member.flatten().tolist()) for member in uniform}) == 3


def penalty_by_hand(learner: CriticLearner, member: int, uniform: torch.Tensor) -> float:
    """Row by row: log mean_j exp Q(s, u_j) - Q(s, a), summed over the twins."""
    data, total = transitions(), 0.0
    for row, many in zip(ROWS[member], uniform[member], strict=True):
        actions = torch.cat([torch.from_numpy(data.actions[row])[None], many])
        observations = torch.from_numpy(data.observations[row]).expand(len(actions), -1)
        twins = learner.critic.q(learner.critic.twins(observations.expand(3, -1, -1), actions.expand(3, -1, -1)))
        for q in twins[member].tolist():
            total += math.log(sum(map(math.exp, q[1:])) / UNIFORM) - q[0]
    return total / len(ROWS[member])


def test_cql_is_the_expectile_critic_and_a_penalty():
    uniform = torch.rand(3, 3, UNIFORM, 2, generator=generator(0, "uniform", 0)) * 2 - 1
    plain, costless, cql = learner_of("expectile"), learner_of("cql", cql_alpha=0.0), learner_of("cql", cql_alpha=2.5)
    expected = [penalty_by_hand(cql, member, uniform) for member in range(3)]
    q_loss = plain.step({"rows": ROWS})["q_loss"]
    info = cql.step({"rows": ROWS, "uniform": uniform})
    torch.testing.assert_close(info["penalty"], torch.tensor(expected))
    torch.testing.assert_close(info["q_loss"], q_loss + 2.5 * torch.tensor(expected))
    costless.step({"rows": ROWS, "uniform": uniform})
    for name, value in plain.state().items():
        torch.testing.assert_close(costless.state()[name], value)
    assert not torch.equal(cql.critic.q.layers[0].weight, plain.critic.q.layers[0].weight)
    torch.testing.assert_close(cql.critic.v.layers[0].weight, plain.critic.v.layers[0].weight)


# -- in-support Q-learning ---------------------------------------------------------------------------------------------


def test_the_in_support_targets_by_hand():
    """r + gamma (1 - done) sum_i softmax(q_beta Q)_i Q_i by the lesser target twin, and V(s') beside it."""
    learner = learner_of("isq", q_beta=2.0, gamma=0.9)
    critic, data = learner.critic, transitions()
    for p in learner.q_target:
        p.mul_(1.5)
    expected: dict[str, list[float]] = {"q_loss": [], "v_loss": []}
    for member in range(3):
        q_errors, v_errors = [], []
        for row in ROWS[member].tolist():
            actions, state = learner.candidates[:, row], torch.from_numpy(data.next_observations[row])
            states = state.expand(3, 4, -1)
            with torch.no_grad():
                least = critic.q_target(critic.twins(states, actions))[member].amin(0).tolist()
                v = critic.v(states)[member, 0].item()
                here = [torch.from_numpy(x[row]).expand(3, 1, -1) for x in (data.observations, data.actions)]
                twins = critic.q(critic.twins(*here))[member, :, 0].tolist()
            mass = [math.exp(2 * q) for q in least]
            value = sum(m * q for m, q in zip(mass, least, strict=True)) / sum(mass)
            live = 0.0 if data.terminals[row] else 1.0
            q_errors += [(data.rewards[row] + 0.9 * live * value - q) ** 2 for q in twins]
            v_errors.append(live * (value - v) ** 2)
        expected["q_loss"].append(sum(q_errors) / 3)
        expected["v_loss"].append(sum(v_errors) / 3)
    assert data.terminals[ROWS.flatten().numpy()].any()
    info = learner.step({"rows": ROWS})
    for name, values in expected.items():
        torch.testing.assert_close(info[name], torch.tensor(values, dtype=torch.float32), rtol=1e-4, atol=1e-5)


# -- values that are known ---------------------------------------------------------------------------------------------


def solve(value_of, gamma: float, length: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Q (length, 2) of (right, stay) and V (length,) of `chain` by value iteration; value_of maps Q (2,) to V."""
    v = np.zeros(length)
    for _ in range(200):
        q = np.stack([np.append(gamma * v[1:], 1.0), gamma * v], 1)
        v = np.array([value_of(row) for row in q])
    return q, v


def dice_value(q: np.ndarray, alpha: float) -> float:
    """v where the weights of two equally frequent actions have mean one, by bisection between the two."""
    low, high = q.min(), q.max()
    for _ in range(40):
        v = (low + high) / 2
        u = (q - v) / alpha
        low, high = (v, high) if np.where(u < 0, np.exp(u), u / 2 + 1).mean() > 1 else (low, v)
    return low


def softmax_value(q: np.ndarray, beta: float) -> float:
    mass = np.exp(beta * (q - q.max()))
    return (mass * q).sum() / mass.sum()


@pytest.mark.training
@pytest.mark.parametrize(
    ("settings", "value_of", "tolerance"),
    [
        ({"loss": "isq", "q_beta": 1.0, "steps": 500}, lambda q: softmax_value(q, 1.0), 0.01),
        ({"loss": "isq", "q_beta": 10.0, "steps": 500}, lambda q: softmax_value(q, 10.0), 0.01),
        ({"loss": "dice", "alpha": 0.5, "steps": 1000}, lambda q: dice_value(q, 0.5), 0.08),
    ],
)
def test_critics_find_the_values_of_a_chain(settings, value_of, tolerance, tmp_path):
    """Both actions are the candidates of every next state, and equally frequent in the data."""
    gamma, seeds, data = 0.9, [0, 1], chain()
    q, v = solve(value_of, gamma)
    both = torch.tensor([1.0, -1.0]).view(1, 1, 2, 1).expand(2, len(data), 2, 1)
    learner = CriticLearner(
        data,
        CriticSettings(gamma=gamma, lr=1e-3, batch=128, hidden=[32, 32], target_rate=0.05, **settings),
        "none",
        seeds,
        CPU,
        both if settings["loss"] == "isq" else None,
    )
    fit(learner, "critic", tmp_path, seeds, settings["steps"])
    s, a = (torch.from_numpy(x).expand(2, -1, -1) for x in (data.observations, data.actions))
    with torch.no_grad():
        found_q, found_v = learner.critic.value(s, a)
    for member in range(2):
        np.testing.assert_allclose(found_q[member].view(4, 2), q, rtol=tolerance)
        np.testing.assert_allclose(found_v[member].view(4, 2)[:, 0], v, rtol=tolerance)


@pytest.mark.training
def test_cql_puts_actions_that_nobody_took_below_the_datas(tmp_path):
    """Both actions, -1 and 1, end an episode with reward 1: between them a critic is flat, and CQL's has a valley."""
    data = chain(1)
    data.rewards[:], data.terminals[:] = 1.0, True
    settings = CRITIC.model_copy(update={"lr": 3e-3, "batch": 32, "hidden": [32, 32], "target_rate": 0.05})
    gaps = {}
    for loss in ("expectile", "cql"):
        learner = CriticLearner(data, settings.model_copy(update={"loss": loss}), "none", [0, 1], CPU)
        fit(learner, "critic", tmp_path / loss, [0, 1], 200)
        actions = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).view(1, 5, 1).expand(2, -1, -1)
        with torch.no_grad():
            q, _ = learner.critic.value(torch.ones(2, 5, 1), actions)
        gaps[loss] = q[:, [0, 4]].mean(1) - q[:, 1:4].mean(1)
    assert (gaps["cql"] > gaps["expectile"] + 3).all()
