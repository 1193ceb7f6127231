"""Perceptrons network by network: autograd's values and gradients, on any number of threads."""

import threading

import pytest
import torch
from torch.autograd import gradcheck

from swgctl.models import critic, reset
from swgctl.models.cores import each
from swgctl.models.critic import MLP, Critic
from swgctl.models.perceptron import Perceptrons

ROWS = critic.APART[1]


@pytest.fixture
def threads():
    """threads(n) gives n threads to an operation, until the test ends."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def net(members=(3, 2), outputs=None, hidden=(32, 16), seed=0) -> tuple[MLP, torch.Tensor]:
    """A network with biases that are not 0, and its input."""
    source = torch.Generator().manual_seed(seed)
    mlp = MLP(members, 5, list(hidden), outputs)
    for parameter in mlp.parameters():
        parameter.data.normal_(0, 0.3, generator=source)
    return mlp, torch.randn(*members, ROWS, 5, generator=source)


def apart(mlp: MLP, x: torch.Tensor) -> torch.Tensor:
    """Network by network, however few they are."""
    values = Perceptrons.apply(x, *[p for layer in mlp.layers for p in (layer.weight, layer.bias)])
    return values.squeeze(-1) if mlp.scalar else values


def learnt(forward, mlp: MLP, x: torch.Tensor) -> list[torch.Tensor]:
    """Values, and gradients of a loss in the parameters and in x."""
    x = x.clone().requires_grad_()
    values = forward(mlp, x)
    return [values.detach(), *torch.autograd.grad(values.sin().sum(), [x, *mlp.parameters()])]


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("outputs", [None, 4])
@pytest.mark.parametrize("members", [(1,), (3,), (3, 2)])
def test_it_computes_what_autograd_computes(members, outputs, count, threads, monkeypatch):
    monkeypatch.setattr(critic, "APART", (100, 1))
    threads(count)
    mlp, x = net(members, outputs)
    mlp, x = mlp.double(), x.double()
    for one, other in zip(learnt(apart, mlp, x), learnt(MLP.forward, mlp, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize(
    ("members", "rows", "way"), [((3,), ROWS, 1), ((2, 2), ROWS, 1), ((2,), ROWS, 0), ((3,), ROWS - 1, 0)]
)
def test_few_networks_and_few_rows_are_one_batch(members, rows, way, monkeypatch):
    taken = []
    monkeypatch.setattr("swgctl.models.perceptron.each", lambda task, count: taken.append(count))
    mlp, x = net(members)
    mlp(x[..., :rows, :])
    assert len(taken) == way


def test_its_gradients_are_the_differences_of_its_values():
    mlp, x = net((2,), hidden=(4, 3))
    parameters = [p.detach().double().requires_grad_() for layer in mlp.layers for p in (layer.weight, layer.bias)]
    assert gradcheck(Perceptrons.apply, (x[:, :6].double().requires_grad_(), *parameters))


def test_a_network_is_the_same_to_the_bit_beside_others_and_alone(threads):
    """On as many threads as there are networks, or on one."""
    mlp, x = net((3,))
    threads(3)
    together = learnt(apart, mlp, x)
    threads(1)
    for member in range(3):
        alone = MLP((1,), 5, [32, 16])
        for one, all_of_them in zip(alone.parameters(), mlp.parameters(), strict=True):
            one.data.copy_(all_of_them[member : member + 1])
        for mine, ours in zip(learnt(apart, alone, x[member : member + 1]), together, strict=True):
            assert torch.equal(mine, ours[member : member + 1])


def test_twins_share_their_input():
    """An expanded input is not copied, and its gradient is the twins' sum."""
    both = Critic(2, 3, 2, [16])
    reset(both, [torch.Generator().manual_seed(s) for s in range(2)])
    observations, actions = torch.randn(2, ROWS, 3), torch.randn(2, ROWS, 2, requires_grad=True)
    twins = both.twins(observations, actions)
    (together,) = torch.autograd.grad(both.q(twins).sum(), actions)
    first, second = (torch.autograd.grad(both.q(twins)[:, i].sum(), actions)[0] for i in range(2))
    torch.testing.assert_close(together, first + second)


def test_without_autograd_and_in_inference_mode(threads):
    mlp, x = net()
    expected = mlp(x).detach()
    threads(2)
    with torch.no_grad():
        assert torch.equal(mlp(x), expected)
    with torch.inference_mode():
        assert torch.equal(mlp(x), expected)


# -- tasks on cores ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "part"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_each_task_is_called_once_with_its_part_of_the_threads(count, part, threads):
    threads(4)
    called, seen = [], set()

    def task(i):
        called.append(i)
        seen.add((torch.get_num_threads(), torch.is_grad_enabled()))

    each(task, count)
    assert sorted(called) == [*range(count)]
    assert seen == {(part, False)}
    assert (torch.get_num_threads(), torch.is_grad_enabled()) == (4, True)


def test_tasks_run_side_by_side(threads):
    """Each waits for the other."""
    threads(2)
    barrier = threading.Barrier(2, timeout=60)
    each(lambda _: barrier.wait(), 2)


@pytest.mark.parametrize("broken", [0, 1])
def test_a_tasks_error_is_the_callers(broken, threads):
    threads(2)
    barrier = threading.Barrier(2, timeout=60)

    def task(i):
        barrier.wait()
        if i == broken:
            raise ArithmeticError("no")

    with pytest.raises(ArithmeticError, match="no"):
        each(task, 2)
    assert torch.get_num_threads() == 2
