"""Values and gradients of ReLU networks on a processor: what autograd does, in fewer passes over the activations."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swgctl.models.batched import affine, bmm

relu_gradient_ = torch.ops.aten.threshold_backward.grad_input


class Perceptrons(torch.autograd.Function):
    """x (*members, B, inputs), then weight (*members, inputs, outputs) and bias (*members, 1, outputs) of each layer ->
    (*members, B, outputs); ReLU between the layers.  It can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        h = x.flatten(0, -3)
        inputs: list[Tensor] = []
        weights, biases = ([p.flatten(0, -3) for p in parameters[i::2]] for i in (0, 1))
        for weight, bias in zip(weights, biases, strict=True):
            inputs.append(h.relu_() if inputs else h)
            h = affine(bias, h, weight)
        ctx.save_for_backward(*inputs, *weights)
        ctx.members = x.shape[:-2]
        return h.unflatten(0, ctx.members)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        layers, d = len(ctx.saved_tensors) // 2, d.flatten(0, -3)
        inputs, weights = ctx.saved_tensors[:layers], ctx.saved_tensors[layers:]
        gradients: list[Tensor | None] = []
        for i in reversed(range(layers)):
            of_weight, of_bias = ctx.needs_input_grad[1 + 2 * i : 3 + 2 * i]
            gradients[:0] = (
                bmm(inputs[i].mT, d) if of_weight else None,
                d.sum(1, keepdim=True) if of_bias else None,
            )
            if i or ctx.needs_input_grad[0]:
                d = bmm(d, weights[i].mT)
            if i:
                relu_gradient_(d, inputs[i], 0, grad_input=d)
        first = d if ctx.needs_input_grad[0] else None
        return tuple(g if g is None else g.unflatten(0, ctx.members) for g in (first, *gradients))
