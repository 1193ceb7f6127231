"""Batched matrix products: their bias, and the rounding of their factors to bf16 on CUDA."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
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
        x, y = x.bfloat16(), y.bfloat16()
        ctx.save_for_backward(x, y)
        return _summed(x, y)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, y = ctx.saved_tensors
        gradient = gradient.bfloat16()
        of_x, of_y = ctx.needs_input_grad
        return _summed(gradient, y.mT) if of_x else None, _summed(x.mT, gradient) if of_y else None


def _summed(x: Tensor, y: Tensor) -> Tensor:
    """x @ y in fp32 for factors in bf16, whose products fp32 holds exactly."""
    return torch.bmm(x, y, out_dtype=torch.float32) if x.is_cuda else torch.bmm(x.float(), y.float())
