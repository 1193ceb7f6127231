"""Batched matrix products: their bias, and the rounding of their factors to bf16 on CUDA."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_rounds = False  # see `rounded`


@contextlib.contextmanager
def rounded(on: bool) -> Iterator[None]:
    """Inside the block, round the factors of products on CUDA to bf16, or do not; sums and results stay fp32.

    PyTorch's own setting stops at TF32 there, which has the same range, three more bits and half the rate.
    """
    global _rounds
    before, _rounds = _rounds, on
    try:
        yield
    finally:
        _rounds = before


def bmm(x: Tensor, y: Tensor) -> Tensor:
    """x @ y (S, B, outputs) for x (S, B, inputs) and y (S, inputs, outputs)."""
    return _Rounded.apply(x, y) if _rounds and _on_cuda(x) and x.dtype == torch.float32 else torch.bmm(x, y)


def affine(bias: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """bias + x @ y, for a bias that broadcasts to the product.

    On CUDA `baddbmm` would first copy the bias over the whole result and then read it again, and torch.compile could
    fuse neither with what follows.
    """
    return bmm(x, y) + bias if _on_cuda(x) else torch.baddbmm(bias, x, y)


def _on_cuda(x: Tensor) -> bool:
    return x.is_cuda


class _Rounded(torch.autograd.Function):
    """x @ y of factors rounded to bf16, summed and stored in fp32; both gradients are such products.

    PyTorch has no derivative for a `bmm` whose results are of another type than its factors.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.inputs, ctx.outputs = y.shape[-2:]
        x, y = _aligned(x.bfloat16(), (-1,)), _aligned(y.bfloat16(), (-2, -1))
        ctx.save_for_backward(x, y)
        return _summed(x, y)[..., : ctx.outputs]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        gradient = _aligned(gradient.bfloat16(), (-1,))
        of_x, of_y = ctx.needs_input_grad
        return (
            _summed(gradient, y.mT)[..., : ctx.inputs] if of_x else None,
            _summed(x.mT, gradient)[:, : ctx.inputs, : ctx.outputs] if of_y else None,
        )


def _aligned(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x with zeros after its last numbers, so that a dimension of a few of them is a multiple of 8: tensor cores read
    16 bytes at once, and where rows begin between them their products take up to five times as long.  One is left."""
    padding = [0] * 4
    for dim in dims:
        if x.shape[dim] > 1:
            padding[-2 * dim - 1] = -x.shape[dim] % 8
    return F.pad(x, padding) if any(padding) else x


def _summed(x: Tensor, y: Tensor) -> Tensor:
    """x @ y in fp32 for factors in bf16, whose products fp32 holds exactly."""
    return torch.bmm(x, y, out_dtype=torch.float32) if x.is_cuda else torch.bmm(x.float(), y.float())
