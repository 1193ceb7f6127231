"""TD3+BC and IQL: closed forms, plain single-network references, data, and a toy whose solution is known."""

import copy
import math

import pytest
import torch
from support.learners import CPU, transitions
from support.training import check_members, check_resume, fit
from torch import nn

from swgctl.bench.peers.plain import descend, follow
from swgctl.config import AgentSettings
from swgctl.learners import losses
from swgctl.learners.agent import LEARNERS, AgentLearner, Experience
from swgctl.learners.rows import Rows
from swgctl.randomness import generator
from swgctl.training.loop import draws

SEEDS = [0, 3, 7]
O, A = 3, 2  # noqa: E741 - of `transitions()`
STATISTICS = torch.tensor([0.3, -0.2, 0.1]), torch.tensor([1.5, 0.5, 1.0])


def settings_of(algo: str, **changes) -> AgentSettings:
    return AgentSettings(algo=algo, **{"hidden": [16, 16], "batch": 32, **changes})


def table() -> torch.Tensor:
    """(1, 200, 10)."""
    return torch.from_numpy(transitions().packed("none")).unsqueeze(0)


def learner_of(algo: str, seeds=SEEDS, **changes) -> AgentLearner:
    """An agent whose member's rows are its own: all rows but those up to its seed."""
    values = table().repeat(len(seeds), 1, 1) + torch.tensor(seeds).view(-1, 1, 1) * 0.01
    numbers = torch.stack([torch.arange(seed, seed + 150) for seed in seeds])
    return LEARNERS[algo](Experience(values, Rows(numbers)), STATISTICS, settings_of(algo, **changes), seeds, CPU)


# -- seeds are an axis, and a run can be cut ---------------------------------------------------------------------------


@pytest.mark.parametrize("algo", LEARNERS)
def test_a_member_learns_as_it_does_alone(algo, tmp_path):
    check_members(lambda seeds: learner_of(algo, seeds), "agent", SEEDS, tmp_path)


@pytest.mark.parametrize("algo", LEARNERS)
def test_members_differ(algo, tmp_path):
    for name, values in fit(learner_of(algo), "agent", tmp_path, SEEDS, 2)[-1].items():
        assert not name.endswith("loss") or len(set(values)) == len(SEEDS)


@pytest.mark.parametrize("algo", LEARNERS)
def test_cut_and_resumed_is_bit_for_bit_one_run(algo, tmp_path):
    check_resume(lambda seeds: learner_of(algo, seeds), "agent", SEEDS, tmp_path, 13)


# -- losses in closed form ---------------------------------------------------------------------------------------------


def test_td3bc_is_a_scaled_q_and_a_mean_over_dimensions():
    """-2.5 * 2 / 2 + (0.36 + 0.64) / 2 = -2."""
    actions = torch.zeros(4, 2)
    q, policy_actions = torch.full((4,), 2.0), torch.tensor([0.6, 0.8]).expand(4, 2)
    loss, info = losses.td3bc_loss(q, policy_actions, actions, 2.5)
    assert loss.item() == pytest.approx(-2.0, abs=1e-5)
    assert info["cloning_error"].item() == pytest.approx(0.5)


def test_td3bcs_scale_has_no_gradient():
    """d loss / d Q_i = -alpha / (n mean |Q|); with a gradient through the scale, equal Q would have none."""
    q = torch.full((4,), -2.0, requires_grad=True)
    loss, _ = losses.td3bc_loss(q, torch.zeros(4, 2), torch.zeros(4, 2), 2.5)
    loss.backward()
    torch.testing.assert_close(q.grad, torch.full((4,), -2.5 / 8))


def test_iqls_actor_clones_by_the_exponential_of_the_advantage():
    """e^3 ln 2 pi = 36.9147 at the mean of a unit Gaussian in two dimensions."""
    zeros = torch.zeros(3, 4, 2)
    loss, info = losses.weighted_cloning_loss(torch.ones(3, 4), zeros, zeros, torch.ones(()), 3.0, 100.0)
    torch.testing.assert_close(loss, torch.full((3,), 36.9147), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(info["log_density"], torch.full((3,), -math.log(2 * math.pi)))


@pytest.mark.parametrize(("advantage", "weight"), [(1.53, math.exp(4.59)), (1.53506, 100.0), (400.0, 100.0)])
def test_iqls_weight_is_clipped_at_100(advantage, weight):
    zeros = torch.zeros(4, 2)
    loss, _ = losses.weighted_cloning_loss(torch.full((4,), advantage), zeros, zeros, torch.ones(()), 3.0, 100.0)
    assert loss.item() == pytest.approx(weight * math.log(2 * math.pi), rel=1e-5)


def test_a_density_is_of_the_members_standard_deviation():
    """log N of all dimensions: -(0.5^2 / 0.25^2 + 1^2 / 2^2) / 2 - log(0.25 * 2) - log 2 pi, twice the weight 1."""
    mean, actions = torch.zeros(1, 4, 2), torch.tensor([0.5, 1.0]).expand(1, 4, 2)
    sd = torch.tensor([0.25, 2.0]).view(1, 1, 2)
    loss, _ = losses.weighted_cloning_loss(torch.zeros(1, 4), actions, mean, sd, 3.0, 100.0)
    assert loss.item() == pytest.approx((4 + 0.25) / 2 + math.log(0.5) + math.log(2 * math.pi), rel=1e-5)


def test_td3bcs_target_is_the_lesser_twins():
    """r + gamma min(3, 2) = 2.98 for Q = 0 of both twins, so that their loss is 2 * 2.98^2."""
    values = torch.zeros(1, 5, 10)
    values[..., O + A] = 1.0
    settings = settings_of("td3bc").model_copy(update={"critic_updates": 1, "target_rate": 0.0})
    learner = LEARNERS["td3bc"](Experience(values, Rows(torch.arange(5))), STATISTICS, settings, [0], CPU)
    with torch.no_grad():
        for p in learner.critic.parameters():
            p.zero_()
        learner.critic.q_target.layers[-1].bias.copy_(torch.tensor([3.0, 2.0]).view(1, 2, 1, 1))
    info = learner.step(next(draws(learner, "agent", [0], CPU)))
    assert info["q_loss"].item() == pytest.approx(2 * 2.98**2, rel=1e-5)


# -- against one network of each kind in plain PyTorch -----------------------------------------------------------------


def plain(net, *index) -> nn.Sequential:
    """One member of a perceptron, in torch.nn's layers."""
    layers: list[nn.Module] = []
    for layer in net.layers:
        linear = nn.Linear(*layer.weight.shape[-2:])
        with torch.no_grad():
            linear.weight.copy_(layer.weight[index].T)
            linear.bias.copy_(layer.bias[index][0])
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def assert_same(net, expected: nn.Sequential, *index) -> None:
    for layer, linear in zip(net.layers, expected[::2], strict=True):
        torch.testing.assert_close(layer.weight[index].T, linear.weight, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.bias[index][0], linear.bias, rtol=1e-4, atol=1e-5)


class Plain:
    """One seed: an actor, two Q and their targets; observations are z-scored first."""

    def __init__(self, learner: AgentLearner):
        self.settings = learner.settings
        self.actor = plain(learner.actor.net, 0)
        self.q = nn.ModuleList(plain(learner.critic.q, 0, i) for i in range(2))
        self.q_target = copy.deepcopy(self.q)
        self.actor_adam = self.adam(self.actor.parameters())
        self.q_adams = [self.adam(q.parameters()) for q in self.q]

    def adam(self, parameters) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, lr=self.settings.lr, eps=1e-5)

    def rows(self, numbers: torch.Tensor) -> list[torch.Tensor]:
        s, a, r, done, following = table()[0, numbers].split([O, A, 1, 1, O], 1)
        mean, std = STATISTICS
        return [(s - mean) / (std + 1e-3), a, r[:, 0], done[:, 0], (following - mean) / (std + 1e-3)]

    def descend_q(self, s, a, aim) -> None:
        for q, adam in zip(self.q, self.q_adams, strict=True):
            descend(adam, (q(torch.cat([s, a], 1))[:, 0] - aim).square().mean())

    def least(self, s, a) -> torch.Tensor:
        return torch.min(*(q(torch.cat([s, a], 1))[:, 0] for q in self.q_target)).detach()


class PlainTD3BC(Plain):
    def __init__(self, learner):
        super().__init__(learner)
        self.actor_target = copy.deepcopy(self.actor)

    def step(self, numbers, noises) -> None:
        s, a, r, done, following = self.rows(numbers)
        follow(self.q_target, self.q, self.settings.target_rate)
        follow(self.actor_target, self.actor, self.settings.target_rate)
        pi = self.actor(s).tanh()
        q = self.q[0](torch.cat([s, pi], 1))
        scale = 2.5 / q.abs().mean().item()
        descend(self.actor_adam, -scale * q.mean() + ((pi - a) ** 2).mean())
        for noise in noises:
            action = (self.actor_target(following).tanh() + (0.2 * noise).clamp(-0.5, 0.5)).clamp(-1, 1)
            self.descend_q(s, a, r + 0.99 * (1 - done) * self.least(following, action))


class PlainIQL(Plain):
    def __init__(self, learner):
        super().__init__(learner)
        self.v = plain(learner.critic.v, 0)
        self.v_adam = self.adam(self.v.parameters())
        self.log_std = nn.Parameter(torch.zeros(A))
        self.actor_adam.add_param_group({"params": [self.log_std]})

    def step(self, numbers) -> None:
        s, a, r, done, following = self.rows(numbers)
        follow(self.q_target, self.q, self.settings.target_rate)
        u = self.least(s, a) - self.v(s)[:, 0]
        descend(self.v_adam, (torch.where(u < 0, 0.3, 0.7) * u**2).mean())
        self.descend_q(s, a, r + 0.99 * (1 - done) * self.v(following)[:, 0].detach())
        weight = (3 * u.detach()).exp().clamp(max=100)
        distance = ((a - self.actor(s).tanh()) / self.log_std.exp()) ** 2 / 2
        density = -(distance + self.log_std + math.log(2 * math.pi) / 2).sum(1)
        descend(self.actor_adam, -(weight * density).mean())


def shared_learner(algo: str, **changes) -> AgentLearner:
    """One seed on all rows."""
    data = Experience(table(), Rows(torch.arange(200)))
    return LEARNERS[algo](data, STATISTICS, settings_of(algo, target_rate=0.5, **changes), [0], CPU)


def test_td3bc_is_a_plain_implementation():
    """Three steps; the targets' rate of one half shows what follows before and what after an update."""
    learner = shared_learner("td3bc")
    reference, drawn = PlainTD3BC(learner), draws(learner, "agent", [0], CPU)
    for _ in range(3):
        one = next(drawn)
        learner.step(one)
        reference.step(one["rows"][0], one["noise"][0])
    assert_same(learner.actor.net, reference.actor, 0)
    assert_same(learner.actor_target.net, reference.actor_target, 0)
    for i in range(2):
        assert_same(learner.critic.q, reference.q[i], 0, i)
        assert_same(learner.critic.q_target, reference.q_target[i], 0, i)


def test_iql_is_a_plain_implementation():
    """Three steps: Q bootstraps from V after its update, the actor's advantage is of V before."""
    learner = shared_learner("iql", lr=3e-3)
    reference, drawn = PlainIQL(learner), draws(learner, "agent", [0], CPU)
    for _ in range(3):
        one = next(drawn)
        learner.step(one)
        reference.step(one["rows"][0])
    assert_same(learner.actor.net, reference.actor, 0)
    assert_same(learner.critic.v, reference.v, 0)
    torch.testing.assert_close(learner.actor.log_std[0], reference.log_std, rtol=1e-4, atol=1e-5)
    for i in range(2):
        assert_same(learner.critic.q, reference.q[i], 0, i)
        assert_same(learner.critic.q_target, reference.q_target[i], 0, i)


@pytest.mark.parametrize("algo", LEARNERS)
def test_targets_start_as_copies_and_nothing_is_z_scored_unless_asked(algo):
    learner = shared_learner(algo, normalise=False)
    for target, online in zip(learner.targets, learner.online, strict=True):
        assert torch.equal(target, online)
    batch = learner.batch({"rows": torch.arange(32).view(1, 32)})
    assert torch.equal(batch.observations, table()[:, :32, :O])
    assert torch.equal(batch.next_observations, table()[:, :32, -O:])


# -- data --------------------------------------------------------------------------------------------------------------


def generators(*seeds) -> list[torch.Generator]:
    return [generator(seed, "rows", 0) for seed in seeds]


def test_rows_are_looked_up_by_uniform_draws_of_each_member():
    numbers = torch.tensor([2, 3, 5, 7, 11])
    drawn = Rows(numbers).draw((4, 6), generators(*SEEDS))
    picks = [torch.randint(5, (4, 6), generator=g) for g in generators(*SEEDS)]
    assert torch.equal(drawn, numbers[torch.stack(picks, 1)])
    own = torch.stack([numbers, numbers + 100, numbers + 200])
    drawn = Rows(own).draw((4, 6), generators(*SEEDS))
    for s, pick in enumerate(picks):
        assert torch.equal(drawn[:, s], own[s][pick])
    counts = Rows(numbers).draw((1, 10_000), generators(0)).flatten().bincount(minlength=12)[numbers]
    assert (counts - 2000).abs().max() < 5 * 40  # five standard deviations


def test_values_of_rows_are_shared_or_each_members():
    values = torch.arange(10.0).view(2, 5)
    assert torch.equal(Rows(torch.tensor([4, 0])).of(values), torch.tensor([[4.0, 0.0], [9.0, 5.0]]))
    assert torch.equal(Rows(torch.tensor([[4, 0], [1, 2]])).of(values), torch.tensor([[4.0, 0.0], [6.0, 7.0]]))


def test_a_slot_that_is_filled_is_what_is_drawn_from_then_on():
    learner, drawn = learner_of("td3bc", keep=2), draws(learner_of("td3bc"), "agent", SEEDS, CPU)
    before, place = learner.data.table.clone(), learner.data.table.data_ptr()
    new = torch.randn(3, 100, 10, generator=generator(0, "new", 0))
    learner.fill(new, 1)
    assert learner.data.table.data_ptr() == place
    assert torch.equal(learner.data.table, torch.cat([before[:, :100], new], 1))
    rows = next(drawn)["rows"]
    assert (rows >= 100).any()
    assert (rows < 100).any()
    batch = learner.batch({"rows": rows})
    for s in range(3):
        expected = torch.where((rows[s] >= 100).unsqueeze(1), new[s, rows[s] % 100], before[s, rows[s] % 100])
        assert torch.equal(batch.actions[s], expected[:, O : O + A])


def test_a_slot_takes_its_own_number_of_rows():
    for shape in ((3, 99, 10), (1, 100, 10), (3, 100, 9)):
        with pytest.raises(ValueError, match="a slot of 2"):
            learner_of("td3bc", keep=2).fill(torch.zeros(shape), 0)


@pytest.mark.parametrize("real", [8, 32])
def test_some_rows_of_a_batch_are_the_tasks_own(real):
    synthetic = torch.zeros(3, 50, 10)
    data, own = Experience(synthetic, Rows(torch.arange(50))), Experience(table(), Rows(torch.arange(100, 200)))
    learner = LEARNERS["iql"](data, STATISTICS, settings_of("iql", real=real), SEEDS, CPU, own)
    drawn = next(draws(learner, "agent", SEEDS, CPU))
    batch = learner.batch(drawn)
    assert batch.actions.shape == (3, 32, A)
    assert batch.actions[:, : 32 - real].abs().sum() == 0
    assert drawn["real"].min() >= 100
    assert torch.equal(batch.actions[:, 32 - real :], table()[0, drawn["real"], O : O + A])
    learner.step(drawn)


def test_all_rows_are_of_the_one_table_where_there_is_no_other():
    """As where the one table is the task's own data."""
    learner = shared_learner("iql", real=8)
    drawn = next(draws(learner, "agent", [0], CPU))
    assert {name: value.shape for name, value in drawn.items()} == {"rows": (1, 32)}


# -- a bandit of two actions -------------------------------------------------------------------------------------------


@pytest.mark.training
@pytest.mark.parametrize("algo", LEARNERS)
def test_agents_take_the_better_of_two_actions(algo, tmp_path):
    """In the one state half of the rows take 0.5 for the reward 1, the others -0.5 for 0.

    IQL's V is the 0.7-expectile of (0, 1), 0.7, so that the weights are e^0.9 and e^-2.1 and the mean of the actions
    is 0.5 (e^0.9 - e^-2.1) / (e^0.9 + e^-2.1) = 0.4526.  TD3+BC goes on up the slope of Q until the clone's pull
    stops it.
    """
    better = (torch.arange(100) % 2 == 0).float().unsqueeze(1)
    states = torch.ones(100, 2)
    columns = (states, better - 0.5, better, torch.ones(100, 1), states)
    data = Experience(torch.cat(columns, 1).unsqueeze(0), Rows(torch.arange(100)))
    settings = settings_of(algo, lr=3e-3, batch=64, target_rate=0.05)
    learner = LEARNERS[algo](data, (torch.zeros(2), torch.ones(2)), settings, [0, 1], CPU)
    fit(learner, "agent", tmp_path, [0, 1], 200)
    with torch.no_grad():
        actions = learner.actor(torch.ones(2, 2)).squeeze(1)
    if algo == "iql":
        torch.testing.assert_close(actions, torch.full((2,), 0.4526), rtol=0, atol=0.04)
    else:
        assert (actions > 0.45).all()
