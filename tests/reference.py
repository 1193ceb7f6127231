"""IQL's critic as single-file implementations write it: a network a function, a tensor a parameter, eager PyTorch.

An oracle for the learner's numbers, and what its speed is measured beside.
"""

import copy

import torch
from torch import nn


def mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))


class PlainCritic:
    """One seed: two Q, their targets, V; an Adam each for Q and V."""

    def __init__(self, data: dict[str, torch.Tensor], tau=0.7, gamma=0.99, rate=0.005, lr=3e-4):
        observations, actions = data["observations"].shape[1], data["actions"].shape[1]
        self.data, self.tau, self.gamma, self.rate = data, tau, gamma, rate
        self.q = nn.ModuleList(mlp(observations + actions) for _ in range(2))
        self.v = mlp(observations)
        self.target = copy.deepcopy(self.q).requires_grad_(False)
        self.q_adam = torch.optim.Adam(self.q.parameters(), lr=lr)
        self.v_adam = torch.optim.Adam(self.v.parameters(), lr=lr)

    def take(self, learner) -> None:
        """The parameters of a learner's only member."""
        twins = [*learner.critic.q.layers], [*learner.critic.q_target.layers], [*learner.critic.v.layers]
        with torch.no_grad():
            for i in range(2):
                for net, layers in ((self.q[i], twins[0]), (self.target[i], twins[1])):
                    for linear, layer in zip(net[::2], layers, strict=True):
                        linear.weight.copy_(layer.weight[0, i].T)
                        linear.bias.copy_(layer.bias[0, i, 0])
            for linear, layer in zip(self.v[::2], twins[2], strict=True):
                linear.weight.copy_(layer.weight[0].T)
                linear.bias.copy_(layer.bias[0, 0])

    def step(self, rows: torch.Tensor) -> None:
        observations, actions, rewards, terminals, following = (self.data[name][rows] for name in self.data)
        both = torch.cat([observations, actions], 1)
        with torch.no_grad():
            target = torch.min(self.target[0](both), self.target[1](both))
        u = target - self.v(observations)
        loss = (torch.abs(self.tau - (u < 0).float()) * u**2).mean()
        self.v_adam.zero_grad()
        loss.backward()
        self.v_adam.step()
        with torch.no_grad():
            aim = rewards + self.gamma * (1 - terminals) * self.v(following)
        loss = sum(((q(both) - aim) ** 2).mean() for q in self.q)
        self.q_adam.zero_grad()
        loss.backward()
        self.q_adam.step()
        with torch.no_grad():
            for old, new in zip(self.target.parameters(), self.q.parameters(), strict=True):
                old.copy_((1 - self.rate) * old + self.rate * new)
