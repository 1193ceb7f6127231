"""A network in training and the running average of its parameters, which sampling uses."""

import copy
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from swgctl.models import reset
from swgctl.randomness import generator
from swgctl.training.optimisers import Adam, average_

Network = TypeVar("Network", bound=nn.Module)


class Trained(Protocol):
    """The settings of a training that `Averaged` reads."""

    @property
    def lr(self) -> float: ...

    @property
    def steps(self) -> int: ...


class Averaged(Generic[Network]):
    """A network with a seed axis, `average`, its running average, and Adam.

    name      prefix of the stream of a member's first parameters
    schedule  arguments of `Adam` for its learning rate
    """

    def __init__(
        self,
        network: Network,
        settings: Trained,
        seeds: list[int],
        device: torch.device,
        name: str,
        **schedule: Any,
    ):
        reset(network, [generator(seed, f"{name}/init", 0) for seed in seeds])
        self.network = network.to(device)
        self.average = copy.deepcopy(network).requires_grad_(False)
        self.parameters: list[Tensor] = list(network.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.adam = Adam(self.parameters, settings.lr, steps=settings.steps, **schedule)
        self.members = torch.arange(len(seeds), device=device).unsqueeze(1)

    def descend(self, loss: Tensor, rate: float | Tensor) -> None:
        """Take one step down the gradient of the loss (S,), and let the average follow at `rate`."""
        self.adam.descend(loss.sum())  # summed over the seeds, so members never mix
        average_(self.averages, self.parameters, rate)

    def state(self) -> dict[str, Tensor]:
        averages = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return self.network.state_dict() | averages | self.adam.tensors("adam")

    def tensors(self) -> dict[str, Tensor]:
        """What an artifact keeps: `ema.*`, the averaged parameters, and `raw.*`, the last ones."""
        averaged = {f"ema.{name}": value for name, value in self.average.state_dict().items()}
        return averaged | {f"raw.{name}": value for name, value in self.network.state_dict().items()}
