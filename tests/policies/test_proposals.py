"""Proposals that are prepared once for fixed cells: they are those made anew, wait for nothing, and can be replayed."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from support.policies import at, policy_of
from torch.utils._python_dispatch import TorchDispatchMode

from swgctl.diffusion import Schedule, energy_guided, late, rescaled
from swgctl.models import Critic, Denoiser, Energy, reset
from swgctl.policies.proposals import on_device
from swgctl.randomness import generator
from swgctl.training.execution import capture
from swgctl.weights import expectile

SEEDS, O, A, K = [0, 3], 3, 2, 5  # noqa: E741 - the shapes' names
CELLS = [
    {"rho": 0.0, "candidates": 1, "temperature": 1.0},
    {"rho": 2.0, "candidates": 3, "temperature": 0.5},
    {"rho": 5.0, "candidates": 2, "temperature": 1.0},
]
CUDA = torch.device("cuda", max(torch.cuda.device_count(), 1) - 1)
DEVICES = ["cpu", pytest.param(str(CUDA), marks=pytest.mark.cuda)]


def network(kind, *sizes, **options):
    net = kind(len(SEEDS), *sizes, **options)
    reset(net, [generator(seed, kind.__name__, 0) for seed in SEEDS])
    return net.requires_grad_(False)


def policy(guide=lambda rho, row: at(rho), draw=False, weight_net=0, device="cpu"):
    denoiser = network(Denoiser, O, A + 1, K, width=16, weight_net=weight_net)
    denoiser.weight_out.bias += 0.3
    free = torch.tensor([[-2.0, 2.0]]).expand(len(SEEDS), 2)
    whole = policy_of(
        SEEDS, A, denoiser, free, Schedule.vp(K), network(Critic, O, A, [16]), lambda a: expectile(a, 0.7)
    )
    return replace(whole, guide=guide, ranking=replace(whole.ranking, draw=draw))


def placed(one, device):
    """A policy on another device."""
    device = torch.device(device)
    sampler = replace(
        one.sampler, denoiser=one.sampler.denoiser.to(device), bounds=tuple(b.to(device) for b in one.sampler.bounds)
    )
    ranking = replace(one.ranking, critic=one.ranking.critic.to(device))
    return replace(one, sampler=sampler, ranking=ranking, device=device)


def by_energy(device="cpu"):
    energy = network(Energy, A + 1, O, K, hidden=[16]).to(device)

    def guide(rho, row):
        table = energy.step_table(energy.entry)
        return lambda x: late(rescaled(energy_guided(rho, energy.bind(x, row, table))), 3)

    return guide


POLICIES = {
    "self": policy,
    "apart": partial(policy, weight_net=8),
    "draw": partial(policy, draw=True),
    "energy": lambda device="cpu": replace(policy(by_energy(device)), statistics=()),
}


def observations(step):
    return torch.randn(len(SEEDS), len(CELLS), O, generator=generator(0, "observations", step))


def equal(one, other):
    (a, x), (b, y) = one, other
    return torch.equal(a, b) and x.keys() == y.keys() and all(torch.equal(x[name], y[name]) for name in x)


@pytest.mark.parametrize("name", POLICIES)
def test_a_prepared_walk_is_to_the_bit_the_one_made_for_each_step(name):
    one = POLICIES[name]()
    prepared = one.prepare(CELLS)
    for step in range(3):
        anew = one.prepare(CELLS)
        sampler = replace(one.sampler, denoiser=Anew(one.sampler.denoiser))
        unprepared = replace(one, sampler=sampler).prepare(CELLS)
        x = observations(step)
        answers = [walk(x, generator(0, "noise", step)) for walk in (prepared, anew, unprepared)]
        assert equal(*answers[:2])
        assert equal(answers[0], answers[2])


class Anew:
    """A denoiser that computes its step tables at each use."""

    def __init__(self, denoiser):
        self.denoiser, self.channels = denoiser, denoiser.channels

    def tables(self):
        return []

    def bind(self, observations, row, tables):
        return self.denoiser.bind(observations, row)


def recorder(calls, function):
    """A graph on a CPU: trials, then a replay that calls the function with what is in place."""
    calls.append("recorded")
    for _ in range(4):
        function()
    return lambda: (calls.append("replayed"), function())


@pytest.mark.parametrize("name", POLICIES)
def test_a_replayed_walk_is_the_walk_with_fresh_noise_and_observations(name):
    one, calls = POLICIES[name](), []
    eager, captured = one.prepare(CELLS), replace(one, record=partial(recorder, calls)).prepare(CELLS)
    source, same = generator(0, "noise", 0), generator(0, "noise", 0)
    answers = [(eager(observations(step), source), captured(observations(step), same)) for step in range(4)]
    assert all(equal(*pair) for pair in answers), "a later call must not overwrite what an earlier one returned"
    assert not torch.equal(answers[2][1][0], answers[3][1][0])
    assert calls == ["recorded", *["replayed"] * 3], "the first call runs as it is"


@pytest.mark.cuda
@pytest.mark.parametrize("name", POLICIES)
def test_a_graph_of_the_walk_is_the_walk(name):
    one = placed(POLICIES[name](device=CUDA), CUDA)
    eager = replace(one, record=None).prepare(CELLS)
    captured = replace(one, record=partial(capture, device=CUDA)).prepare(CELLS)
    source, same = generator(0, "noise", 0, CUDA), generator(0, "noise", 0, CUDA)
    for step in range(4):
        x = observations(step).to(CUDA)
        assert equal(eager(x, source), captured(x, same))


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a device: reading a number, and shapes that depend on values.

    The schedule, in double precision, is the host's.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        waits = name in ("nonzero", "repeat_interleave", "masked_select", "is_nonzero", "equal")
        reads = name == "_local_scalar_dense" and args[0].dtype != torch.float64
        assert not waits, name
        assert not reads, f"{name} of {args[0].dtype}"
        return function(*args, **(kwargs or {}))


@pytest.mark.cuda
@pytest.mark.parametrize("name", POLICIES)
def test_a_prepared_walk_never_waits_for_a_gpu(name):
    walk = placed(POLICIES[name](device=CUDA), CUDA).prepare(CELLS)
    x, source = observations(0).to(CUDA), generator(0, "noise", 0, CUDA)
    walk(x, source)  # what happens at first calls only
    torch.cuda.set_sync_debug_mode("error")
    try:
        walk(x, source)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_prepared_walk_waits_for_nothing_on_its_device(name, sampler, monkeypatch):
    monkeypatch.setattr("swgctl.diffusion.guidance.check_scale", lambda rho: None)  # reads what is on a CPU alone
    one = POLICIES[name]()
    walk = replace(one, sampler=replace(one.sampler, name=sampler)).prepare(CELLS)
    for part in walk.walks:
        part.temperature = 0.7  # a tensor of them is read on a CPU alone, too
    with NoWaiting():
        walk(observations(0), generator(0, "noise", 0))


@pytest.mark.parametrize("name", POLICIES)
def test_rows_that_nothing_guides_walk_apart_with_the_noise_that_is_theirs(name):
    """As each row's walk alone does, given its part of the same noise."""
    one, x = POLICIES[name](), observations(0)
    walk = one.prepare(CELLS)
    assert [(part.guidance is None, part.row.tolist()) for part in walk.walks] == [
        (True, [0]),
        (False, [1, 1, 1, 2, 2]),
    ]
    drawn = torch.randn(K + 1, len(SEEDS), 6, A + 1, generator=generator(0, "noise", 0))
    source = iter(drawn)
    actions, shares = walk(x, lambda shape: next(source))
    assert shares.keys() == set(one.statistics)
    assert all(not share[:, 0].any() for share in shares.values())
    for row, places in enumerate(([0], [1, 2, 3], [4, 5])):
        source = iter(drawn[:, :, places])
        alone, shared = one.prepare(CELLS[row : row + 1])(
            x[:, row : row + 1], lambda shape, source=source: next(source)
        )
        torch.testing.assert_close(actions[:, row : row + 1], alone, rtol=1e-4, atol=1e-5)
        for key, share in shared.items():
            torch.testing.assert_close(shares[key][:, row : row + 1], share)


# -- act ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_noise_of_a_generator_is_the_same_on_every_device(device):
    noise = on_device(generator(0, "noise", 0), torch.device(device))((4, 5))
    assert noise.device == torch.device(device)
    assert torch.equal(noise.cpu(), torch.randn(4, 5, generator=generator(0, "noise", 0)))


@pytest.mark.cuda
def test_act_takes_a_generator_of_either_device():
    """With the CPU's, CUDA's actions are the CPU's, but for rounding."""
    x, how = observations(0), {"rho": 2.0, "candidates": 2}
    here, there = policy(), placed(policy(), CUDA)
    wanted = here.act(x, **how, generator=generator(0, "noise", 0))
    for _ in range(3):  # as it is, recorded, replayed
        actions = there.act(x, **how, generator=generator(0, "noise", 0))
        torch.testing.assert_close(actions.cpu(), wanted, rtol=0, atol=1e-3)
    assert there.act(x, **how, generator=generator(0, "noise", 0, CUDA)).shape == wanted.shape


def test_act_prepares_once_for_alike_calls_and_anew_for_others():
    one = policy()
    prepared = []
    for how in ({"rho": 2.0}, {"rho": 2.0}, {"rho": 3.0}, {"rho": 3.0, "sampler": "ddim"}):
        one.act(observations(0), **how)
        prepared.append(one._last[2])
    assert prepared[0] is prepared[1]
    assert len({id(walk) for walk in prepared}) == 3
    one.ranking = replace(one.ranking, draw=True)
    one.act(observations(0), rho=3.0, sampler="ddim")
    assert one._last[2] is not prepared[-1]
