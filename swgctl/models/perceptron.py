"""Values and gradients of ReLU networks on a processor, network by network: what autograd does, in fewer passes.

A batched product shares each of its small products among the cores, and between products all activations of all
networks pass through memory.  One network's fit into a core's cache.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from swgctl.models.batched import multiply
from swgctl.models.cores import each

Layers = list[tuple[Tensor, Tensor]]  # weight (inputs, outputs) and bias (1, outputs) of each layer

relu_gradient_ = torch.ops.aten.threshold_backward.grad_input


def activations(x: Tensor, layers: Layers, out: list[Tensor]) -> None:
    """Outputs of one network's layers for x (B, inputs), written to `out`, (B, outputs) each."""
    for i, ((weight, bias), h) in enumerate(zip(layers, out, strict=True)):
        multiply(x, weight, h)
        h.add_(bias)
        x = h.relu_() if i < len(layers) - 1 else h


def gradients(inputs: list[Tensor], layers: Layers, d: Tensor, out: Layers, into: Tensor | None) -> None:
    """Gradients of one network's parameters, written to `out`, and of its first input, to `into` unless None.

    inputs  of each layer, (B, inputs): x, then the activations of the hidden layers
    d       gradient of the last layer's output, (B, outputs)
    """
    for i in reversed(range(len(layers))):
        weight, (of_weight, of_bias) = layers[i][0], out[i]
        multiply(inputs[i].T, d, of_weight)
        torch.sum(d, 0, keepdim=True, out=of_bias)
        if i:
            before = torch.empty_like(inputs[i])
            multiply(d, weight.T, before)
            d = relu_gradient_(before, inputs[i], 0, grad_input=before)
        elif into is not None:
            multiply(d, weight.T, into)


class Perceptrons(torch.autograd.Function):
    """x (*members, B, inputs), then weight (*members, inputs, outputs) and bias (*members, 1, outputs) of each layer ->
    (*members, B, outputs); ReLU between the layers.  It can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        members, rows = parameters[0].shape[:-2], x.shape[-2]
        inputs, networks = _apart(x), _networks(parameters)
        *widths, outputs = [bias.shape[-1] for bias in parameters[1::2]]
        values = x.new_empty(*members, rows, outputs)
        kept = [x.new_empty(*members, rows, width) for width in widths] if any(ctx.needs_input_grad) else []
        ctx.save_for_backward(x, *parameters, *kept)
        hidden, last = [_apart(h) for h in kept], _apart(values)

        def task(i: int) -> None:
            between = [h[i] for h in hidden] if kept else [x.new_empty(rows, width) for width in widths]
            activations(inputs[i], networks[i], [*between, last[i]])

        each(task, len(networks))
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        x, *saved = ctx.saved_tensors
        layers = (len(saved) + 1) // 3  # two parameters of each, and the activations of all but the last
        parameters = saved[: 2 * layers]
        inputs = [_apart(h) for h in (x, *saved[2 * layers :])]
        of_x = x.new_empty(x.shape) if ctx.needs_input_grad[0] else None
        of_parameters = [p.new_empty(p.shape) for p in parameters]
        networks, out, last = _networks(parameters), _networks(of_parameters), _apart(d)
        first = None if of_x is None else _apart(of_x)

        def task(i: int) -> None:
            gradients([h[i] for h in inputs], networks[i], last[i], out[i], None if first is None else first[i])

        each(task, len(networks))
        return of_x, *of_parameters


def _apart(x: Tensor) -> list[Tensor]:
    """The networks' matrices (B, features) in x (*members, B, features)."""
    return [x] if x.dim() == 2 else [part for member in x.unbind() for part in _apart(member)]


def _networks(parameters: Sequence[Tensor]) -> list[Layers]:
    """Each network's layers, of the weight and bias of each layer of all."""
    columns = [_apart(p) for p in parameters]
    return [list(zip(network[::2], network[1::2], strict=True)) for network in zip(*columns, strict=True)]
