"""Twin Q and V, multi-layer perceptrons (SWG, appendix B.2)."""

import itertools

import torch
from torch import Tensor, nn

from swgctl.models.layers import Linear


class MLP(nn.Module):
    """Perceptron (*members, B, inputs) -> (*members, B): ReLU between the layers, one output."""

    def __init__(self, members: tuple[int, ...], inputs: int, hidden: list[int]):
        super().__init__()
        sizes = [inputs, *hidden, 1]
        self.layers = nn.ModuleList(Linear(members, a, b) for a, b in itertools.pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu_()
        return last(x).squeeze(-1)


class Critic(nn.Module):
    """Q (S, 2, ...), its target of the same shape, and V (S, ...), for S seeds."""

    def __init__(self, seeds: int, observation_dim: int, action_dim: int, hidden: list[int]):
        super().__init__()
        self.action_dim = action_dim
        self.q = MLP((seeds, 2), observation_dim + action_dim, hidden)
        self.q_target = MLP((seeds, 2), observation_dim + action_dim, hidden).requires_grad_(False)
        self.v = MLP((seeds,), observation_dim, hidden)

    def twins(self, observations: Tensor, actions: Tensor) -> Tensor:
        """The input of Q: (S, B, O) and (S, B, A) -> (S, 2, B, O + A)."""
        x = torch.cat([observations, actions], -1)
        return x.unsqueeze(1).expand(-1, 2, -1, -1)

    def value(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """(min over the target twins of Q, V), each (S, B); A(s, a) is their difference."""
        return self.q_target(self.twins(observations, actions)).amin(1), self.v(observations)
