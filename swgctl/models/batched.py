"""Matrix products of float32 tensors, batched: their bias, and the rounding of their factors to bf16."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# A processor's products with a smaller side stay fp32: rounding their factors takes as long as they do.
WIDE = 32

_rounds: tuple[str, ...] = ()  # see `rounded`


@contextlib.contextmanager
def rounded(*devices: str) -> Iterator[None]:
    """Inside the block, round the factors of products on these types of device, "cpu" and "cuda", to bf16.

    Sums are fp32.  So are results on CUDA; those of a processor are rounded to bf16 as well, since PyTorch has no other
    product of bf16 factors there.  PyTorch's own setting stops at TF32 on CUDA, which has the same range, three more
    bits and half the rate, and on a processor without AMX at fp32.
    """
    global _rounds
    before, _rounds = _rounds, devices
    try:
        yield
    finally:
        _rounds = before


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """x @ y (S, B, outputs) for x (S, B, inputs) and y (S, inputs, outputs)."""
    if _rounding(x, y):
        return _Rounded.apply(x, y) if torch.is_grad_enabled() else _product(x, y)[0]
    if _slim(x, y):
        return x * y if x.shape[-1] == 1 else (x * y.mT).sum(-1, keepdim=True)
    return torch.bmm(x, y)


def factor(x: Tensor, y: Tensor) -> Tensor:
    """x, rounded already where a product with y would round it, so that copies of it to multiply are half as large.

    Not where gradients are wanted: those of the copies would be rounded before they are added.
    """
    return x.bfloat16() if _rounding(x, y) and not torch.is_grad_enabled() else x


def affine(bias: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """bias + x @ y, for a bias that broadcasts to the product.

    On CUDA `baddbmm` would first copy the bias over the whole result and then read it again, and torch.compile could
    fuse neither with what follows.
    """
    apart = _device(x) == "cuda" or _rounding(x, y) or _slim(x, y)
    return bmm(x, y) + bias if apart else torch.baddbmm(bias, x, y)


def _slim(x: Tensor, y: Tensor) -> bool:
    """True for a product of one input or one output on a processor, whose library takes several times as long for it as
    for the multiplications that it consists of."""
    return _device(x) == "cpu" and 1 in (x.shape[-1], y.shape[-1])


def _rounding(x: Tensor, y: Tensor) -> bool:
    """True if `rounded` asks for it, and if x is a `factor` that is rounded already."""
    device = _device(x)
    if x.dtype == torch.bfloat16:
        return True
    if device not in _rounds or x.dtype != torch.float32:
        return False
    return device == "cuda" or min(*x.shape[-2:], y.shape[-1]) >= WIDE


def _device(x: Tensor) -> str:
    return x.device.type


class _Rounded(torch.autograd.Function):
    """x @ y of factors rounded to bf16, summed and stored in fp32; both gradients are such products.

    PyTorch has no derivative for a `bmm` whose results are of another type than its factors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.inputs, ctx.outputs = y.shape[-2:]
        product, *factors = _product(x, y)
        ctx.save_for_backward(*factors)
        return product

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        gradient = _aligned(gradient.bfloat16(), (-1,))
        of_x, of_y = ctx.needs_input_grad
        return (
            _summed(gradient, y.mT)[..., : ctx.inputs] if of_x else None,
            _summed(x.mT, gradient)[:, : ctx.inputs, : ctx.outputs] if of_y else None,
        )


def _product(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x @ y in fp32, and the factors in bf16 that it is of."""
    outputs = y.shape[-1]
    x, y = _aligned(x.bfloat16(), (-1,)), _aligned(y.bfloat16(), (-2, -1))
    return _summed(x, y)[..., :outputs], x, y


def _aligned(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """On CUDA, x with zeros after its last numbers, so that a dimension of a few of them is a multiple of 8: tensor
    cores read 16 bytes at once, and where rows begin between them their products take up to five times as long.  One is
    left.
    """
    padding = [0] * 4
    for dim in dims:
        if x.shape[dim] > 1 and _device(x) == "cuda":
            padding[-2 * dim - 1] = -x.shape[dim] % 8
    return F.pad(x, padding) if any(padding) else x


def _summed(x: Tensor, y: Tensor) -> Tensor:
    """x @ y in fp32 for factors in bf16, whose products fp32 holds exactly."""
    if x.is_cuda:
        return torch.bmm(x, y, out_dtype=torch.float32)
    return torch.bmm(x, y).float() if _device(x) == "cpu" else torch.bmm(x.float(), y.float())
