"""An agent (TD3+BC, IQL) as a policy: the mean action of an actor."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.files import load_tensors
from swgctl.models import Actor
from swgctl.policies.loading import filled
from swgctl.policies.policy import Cell, Propose
from swgctl.store import Artifact


@dataclass
class Agent:
    """S actors that act side by side by their mean actions: a `Policy` whose cells are empty."""

    seeds: list[int]
    actor: Actor
    noise_shape: tuple[int, ...] = (0,)
    statistics: tuple[str, ...] = ()

    @property
    def action_dim(self) -> int:
        return self.actor.action_dim

    @property
    def device(self) -> torch.device:
        return self.actor.mean.device

    def act(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """See `Actor.act`: mean (S, ..., A) in [-1, 1] and standard deviation at observations (S, ..., O).

        An agent of one seed acts for any number of members.
        """
        return self.actor.act(observations)

    def prepare(self, cells: Sequence[Cell]) -> Propose:
        """See `Policy.prepare`."""

        @torch.no_grad()
        def propose(observations: Tensor, noise: object) -> tuple[Tensor, dict[str, Tensor]]:
            return self.actor(observations), {}

        return propose


def load_agent(artifact: Artifact, device: str) -> Agent:
    """The actor of an agent.  Raises CorruptError."""
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    sizes = len(artifact.seeds), facts["observation_dim"], facts["action_dim"], params["hidden"]
    gaussian = params["algo"] == "iql"
    with artifact.reading("agent.safetensors") as path:
        tensors = {name: one for name, one in load_tensors(path).items() if name.startswith("actor.")}
        ours = {name.removeprefix("actor."): tensor for name, tensor in tensors.items()}
        actor = filled(lambda: Actor(*sizes, gaussian=gaussian), ours)
    return Agent(artifact.seeds, actor.to(device).requires_grad_(False))
