"""The two learners as single-file implementations write them: one seed, torch.nn's layers, eager PyTorch.

Oracles for the learners' numbers, and what their speed is measured beside.
"""

import copy
import math

import torch
import torch.nn.functional as F
from torch import nn


def descend(adam: torch.optim.Adam, loss: torch.Tensor) -> None:
    adam.zero_grad()
    loss.backward()
    adam.step()


def follow(average: nn.Module, net: nn.Module, rate: float) -> None:
    with torch.no_grad():
        for old, new in zip(average.parameters(), net.parameters(), strict=True):
            old.copy_((1 - rate) * old + rate * new)


def mlp(inputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1))


def linears(net: nn.Module) -> list[nn.Linear]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear)]


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
                    for linear, layer in zip(linears(net), layers, strict=True):
                        linear.weight.copy_(layer.weight[0, i].T)
                        linear.bias.copy_(layer.bias[0, i, 0])
            for linear, layer in zip(linears(self.v), twins[2], strict=True):
                linear.weight.copy_(layer.weight[0].T)
                linear.bias.copy_(layer.bias[0, 0])

    def step(self, rows: torch.Tensor) -> None:
        observations, actions, rewards, terminals, following = (self.data[name][rows] for name in self.data)
        both = torch.cat([observations, actions], 1)
        with torch.no_grad():
            target = torch.min(self.target[0](both), self.target[1](both))
        u = target - self.v(observations)
        loss = (torch.abs(self.tau - (u < 0).float()) * u**2).mean()
        descend(self.v_adam, loss)
        with torch.no_grad():
            aim = rewards + self.gamma * (1 - terminals) * self.v(following)
        descend(self.q_adam, sum(((q(both) - aim) ** 2).mean() for q in self.q))
        follow(self.target, self.q, self.rate)


class PlainDenoiser(nn.Module):
    """IDQL's LN-ResNet with a weight head after its second block."""

    def __init__(self, observations: int, actions: int, width=256, blocks=3, dropout=0.1):
        super().__init__()
        self.frequency = nn.Parameter(torch.randn(1, 64) * 0.2)
        self.step = nn.Sequential(nn.Linear(128, 256), nn.SiLU(), nn.Linear(256, 256))
        self.entry = nn.Linear(actions + 1 + observations + 256, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(dropout),
                nn.LayerNorm(width, eps=1e-6),  # flax' eps, as in IDQL
                nn.Linear(width, 4 * width),
                nn.SiLU(),
                nn.Linear(4 * width, width),
            )
            for _ in range(blocks)
        )
        self.weight_head = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        self.action_head = nn.Sequential(nn.SiLU(), nn.Linear(width, actions))

    def forward(self, z, k, observations):
        phase = 2 * math.pi * k.float().unsqueeze(1) * self.frequency
        step = self.step(torch.cat([phase.cos(), phase.sin()], 1))
        h = self.entry(torch.cat([z, observations, step], 1))
        for i, block in enumerate(self.blocks):
            h = h + block(h)
            if i == 1:
                weight = self.weight_head(h)
        return torch.cat([self.action_head(h), weight], 1)


class PlainDiffusion:
    """One seed of the denoiser's training: K = 15 of the variance-preserving schedule, Adam, a running average."""

    def __init__(self, observations, actions, weights, alpha, sigma, dropout=0.1, lr=3e-4, ema=0.001):
        self.data, self.alpha, self.sigma, self.ema = (observations, actions, weights), alpha, sigma, ema
        self.net = PlainDenoiser(observations.shape[1], actions.shape[1], dropout=dropout)
        self.average = copy.deepcopy(self.net).requires_grad_(False)
        self.adam = torch.optim.Adam(self.net.parameters(), lr=lr)

    def take(self, learner) -> None:
        """The parameters of a learner's only member."""
        theirs = learner.denoiser
        pairs = [(self.net.step[0], theirs.step_in), (self.net.step[2], theirs.step_out)]
        pairs += [(self.net.entry, theirs.entry), (self.net.action_head[1], theirs.action_out)]
        pairs += [(self.net.weight_head[0], theirs.weight_in), (self.net.weight_head[2], theirs.weight_out)]
        for block, layer in zip(self.net.blocks, theirs.blocks, strict=True):
            pairs += [(block[2], layer.up), (block[4], layer.down)]
        with torch.no_grad():
            self.net.frequency.copy_(theirs.fourier.frequency[0])
            for linear, layer in pairs:
                linear.weight.copy_(layer.weight[0].T)
                linear.bias.copy_(layer.bias[0, 0])
        self.average.load_state_dict(self.net.state_dict())

    def step(self, rows, k, eps) -> None:
        observations, actions, weights = (column[rows] for column in self.data)
        z0 = torch.cat([actions, weights], 1)
        z = self.alpha[k].unsqueeze(1) * z0 + self.sigma[k].unsqueeze(1) * eps
        descend(self.adam, F.mse_loss(self.net(z, k, observations), eps, reduction="none").sum(1).mean())
        follow(self.average, self.net, self.ema)
