"""Twin Q and V, multi-layer perceptrons (SWG, appendix B.2)."""

import itertools
from typing import cast

import torch
from torch import Tensor, nn

from swgctl.models.layers import Linear, product
from swgctl.models.perceptron import Perceptrons


class MLP(nn.Module):
    """Perceptron (*members, B, inputs) -> (*members, B, outputs), ReLU between the layers.

    outputs  None: one, (*members, B)
    init     of the weights, see `Linear`
    """

    def __init__(
        self,
        members: tuple[int, ...],
        inputs: int,
        hidden: list[int],
        outputs: int | None = None,
        init: str = "xavier",
    ):
        super().__init__()
        self.scalar = outputs is None
        sizes = [inputs, *hidden, outputs or 1]
        self.layers = nn.ModuleList(Linear(members, a, b, init) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cpu and not torch.compiler.is_compiling():
            x = Perceptrons.apply(x, *[p for layer in self.layers for p in (layer.weight, layer.bias)])
        else:
            *hidden, last = self.layers
            for layer in hidden:
                x = layer(x).relu_()
            x = last(x)
        return x.squeeze(-1) if self.scalar else x


class TwinQ(nn.Module):
    """Q (S, 2, ...) and its target of the same shape, for S seeds."""

    def __init__(self, seeds: int, observation_dim: int, action_dim: int, hidden: list[int], init: str = "xavier"):
        super().__init__()
        self.action_dim = action_dim
        self.q = MLP((seeds, 2), observation_dim + action_dim, hidden, init=init)
        self.q_target = MLP((seeds, 2), observation_dim + action_dim, hidden, init=init).requires_grad_(False)

    def twins(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The input of Q: (S, B, O) and (S, B, A) -> (S, 2, B, O + A)."""
        x = torch.cat([observations, actions], -1)
        return x.unsqueeze(1).expand(-1, 2, -1, -1)

    def first(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Q of the first twin (S, B), differentiable in the actions and not in the parameters."""
        x = torch.cat([observations, actions], -1)
        layers = cast("list[Linear]", list(self.q.layers))
        *hidden, last = [(layer.weight[:, 0].detach(), layer.bias[:, 0].detach()) for layer in layers]
        for weight, bias in hidden:
            x = product(x, weight, bias).relu_()
        return product(x, *last).squeeze(-1)


class Critic(TwinQ):
    """Q (S, 2, ...), its target of the same shape, and V (S, ...), for S seeds."""

    def __init__(self, seeds: int, observation_dim: int, action_dim: int, hidden: list[int], init: str = "xavier"):
        super().__init__(seeds, observation_dim, action_dim, hidden, init)
        self.v = MLP((seeds,), observation_dim, hidden, init=init)

    def value(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(min over the target twins of Q, V), each (S, B); A(s, a) is their difference."""
        return self.q_target(self.twins(observations, actions)).amin(1), self.v(observations)
