"""Products as CUDA runs them, with the CPU in its place: the bias apart, factors rounded to bf16; and as a processor
that multiplies in bf16 does, which every processor can, if slowly."""

from itertools import islice

import pytest
import torch
from support.learners import CPU, critic_learner, diffuse_learner
from torch.utils._python_dispatch import TorchDispatchMode

from swgctl.models import batched
from swgctl.training import draws
from swgctl.training.execution import products

S, B, IN, OUT = 3, 64, 48, 32


def tensors(dtype=torch.float32):
    source = torch.Generator().manual_seed(0)
    shapes = (S, 1, OUT), (S, B, IN), (S, IN, OUT)
    return [torch.randn(shape, generator=source).to(dtype).requires_grad_() for shape in shapes]


@pytest.fixture
def as_cuda(monkeypatch):
    """Every tensor takes the way of those on CUDA."""
    monkeypatch.setattr(batched, "_device", lambda x: "cuda")


def test_on_a_cpu_factors_stay_as_they_are_and_the_bias_is_part_of_the_product():
    bias, x, y = tensors()
    with batched.rounded("cuda"):
        assert torch.equal(batched.affine(bias, x, y), torch.baddbmm(bias, x, y))
        assert torch.equal(batched.bmm(x, y), torch.bmm(x, y))


@pytest.mark.usefixtures("as_cuda")
def test_rounded_factors_give_the_exact_products_of_their_roundings_and_so_do_the_gradients():
    bias, x, y = tensors()
    weight = torch.randn(S, B, OUT, generator=torch.Generator().manual_seed(1))
    with batched.rounded("cuda"):
        answer = batched.affine(bias, x, y)
    gradients = torch.autograd.grad((answer * weight).sum(), (bias, x, y))
    near = [t.detach().bfloat16().double() for t in (x, y, weight)]
    wanted = near[0] @ near[1] + bias.double()
    torch.testing.assert_close(answer.double(), wanted, rtol=0, atol=1e-5)
    exact = weight.double().sum(1, keepdim=True), near[2] @ near[1].mT, near[0].mT @ near[2]
    for gradient, expected in zip(gradients, exact, strict=True):
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.usefixtures("as_cuda")
def test_the_error_is_that_of_two_roundings_to_eight_bits():
    """|error| <= (2^-8 + 2^-18) sum |x| |y|: each factor is off by half a unit in the eighth bit at most."""
    _, x, y = tensors()
    with torch.no_grad(), batched.rounded("cuda"):
        error = (batched.bmm(x, y).double() - x.double() @ y.double()).abs()
    bound = (2**-8 + 2**-18) * (x.abs().double() @ y.abs().double()) + 1e-5
    assert (error <= bound).all()
    assert error.max() > 1e-3


def rounding(*tensors):
    return [t.detach().bfloat16().double() for t in tensors]


def near(found, exact):
    """Within the rounding of a result to eight bits, and that of fp32's sums."""
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)
    assert torch.equal(found, found.bfloat16().float())


def test_on_a_cpu_a_product_of_rounded_factors_is_itself_rounded_and_so_are_its_gradients():
    _, x, y = tensors()
    weight = torch.randn(S, B, OUT, generator=torch.Generator().manual_seed(1))
    with batched.rounded("cpu"):
        answer = batched.bmm(x, y)
        of_x, of_y = torch.autograd.grad((answer * weight).sum(), (x, y))
    a, b, d = rounding(x, y, weight)
    for found, exact in ((answer, a @ b), (of_x, d @ b.mT), (of_y, a.mT @ d)):
        near(found, exact)


@pytest.mark.parametrize("narrow", [0, 1, 2])
def test_on_a_cpu_a_narrow_product_stays_exact(narrow):
    rows, inputs, outputs = (31 if i == narrow else 64 for i in range(3))
    source = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, rows, inputs, generator=source), torch.randn(2, inputs, outputs, generator=source)
    bias = torch.randn(2, 1, outputs, generator=source)
    with batched.rounded("cpu"):
        assert torch.equal(batched.affine(bias, x, y), torch.baddbmm(bias, x, y))


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(64, 48, 1), (64, 1, 48), (1, 48, 1), (3, 1, 1)])
def test_a_product_of_one_input_or_output_is_that_and_so_are_its_gradients(rows, inputs, outputs):
    source = torch.Generator().manual_seed(0)
    shapes = (2, 1, outputs), (2, rows, inputs), (2, inputs, outputs)
    given = [torch.randn(shape, generator=source, dtype=torch.float64, requires_grad=True) for shape in shapes]
    one, other = batched.affine(*given), torch.baddbmm(*given)
    torch.testing.assert_close(one, other)
    for mine, theirs in zip(*(torch.autograd.grad(z.sin().sum(), given) for z in (one, other)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_rounding_ends_with_its_block_and_a_block_inside_may_be_exact():
    with batched.rounded("cuda"):
        with batched.rounded():
            assert not batched._rounds
        assert batched._rounds
        with pytest.raises(ZeroDivisionError), batched.rounded():
            _ = 1 / 0
        assert batched._rounds
    assert not batched._rounds


class Ops(TorchDispatchMode):
    """The names of all operations, backward passes included."""

    def __init__(self):
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("name", "make"), [("critic", critic_learner), ("diffuse", diffuse_learner)])
def test_a_step_has_no_product_that_copies_its_bias_and_learns_the_same(name, make, monkeypatch):
    """Eight steps as CUDA's are close to the CPU's in fp32, and near them with rounded factors."""
    whole, apart, coarse, processor = (make([0, 3]) for _ in range(4))
    steps = list(islice(draws(whole, name, [0, 3], CPU), 8))
    for drawn in steps:
        whole.step(drawn)
    monkeypatch.setattr(batched, "_device", lambda x: "cuda")
    with Ops() as ops:
        for drawn in steps:
            apart.step(drawn)
    assert "bmm" in ops.names
    assert not ops.names & {"baddbmm", "addmm", "addbmm"}
    with batched.rounded("cuda"):
        for drawn in steps:
            coarse.step(drawn)
    monkeypatch.undo()
    with batched.rounded("cpu"):
        for drawn in steps:
            processor.step(drawn)
    for key, value in whole.state().items():
        torch.testing.assert_close(apart.state()[key], value, rtol=1e-3, atol=1e-4, msg=key)
        torch.testing.assert_close(coarse.state()[key], value, rtol=0.3, atol=0.02, msg=key)
        torch.testing.assert_close(processor.state()[key], value, rtol=0.3, atol=0.02, msg=key)


@pytest.mark.slow  # compiling takes a while
@pytest.mark.usefixtures("as_cuda")
def test_a_compiled_product_is_rounded_as_its_block_says_when_it_runs():
    """Inductor leaves out a rounding that is followed by its opposite, which only this stand-in has."""

    def squares(bias, x, y):
        coarse = batched.affine(bias, x, y)
        with products("fp32"):
            exact = batched.affine(bias, x, y)
        return (coarse - exact).square().sum(), coarse.square().sum()

    compiled = torch.compile(squares, dynamic=False, options={"emulate_precision_casts": True})
    with batched.rounded("cuda"):
        for function in (squares, compiled):
            given = tensors()
            error, total = function(*given)
            gradients = torch.autograd.grad(total, given)
            if function is squares:
                wanted = error, total, gradients
    assert wanted[0] > 0.1
    torch.testing.assert_close((error, total), wanted[:2], rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients, wanted[2], rtol=1e-4, atol=1e-3)
