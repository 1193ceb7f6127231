"""The parts of a policy, read from artifacts: denoiser, energy, critic, weight.  Each raises CorruptError."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from swgctl.config import AugmentSettings, BehaviourSettings, DiffuseSettings, Settings
from swgctl.diffusion import Schedule
from swgctl.diffusion.guidance import Line
from swgctl.files import load_tensors
from swgctl.models import Critic, Denoiser, Energy
from swgctl.policies.sampler import Sampler, bounds
from swgctl.store import Artifact
from swgctl.training.execution import products
from swgctl.weights import weigh

N = TypeVar("N", bound=nn.Module)
Weigh = Callable[[Tensor], Tensor]


def load_denoiser(artifact: Artifact, device: str) -> Sampler:
    """The averaged denoiser of `diffuse` or `behaviour`, with its schedule and bounds, as a DDPM sampler."""
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    settings = DiffuseSettings if artifact.stage == "diffuse" else BehaviourSettings
    trained = settings(**_fields(settings, params))
    channels = trained.channels(facts["action_dim"])
    with artifact.reading("policy.safetensors") as path:
        tensors = load_tensors(path)
        size = len(artifact.seeds), facts["observation_dim"], channels
        denoiser = filled(lambda: Denoiser(*size, **trained.network()), averages(tensors))
        low, high = bounds(facts["action_dim"], tensors.get("weight_range"))
    schedule = getattr(Schedule, trained.schedule)(trained.K)
    return Sampler(denoiser.to(device).requires_grad_(False), schedule, (low.to(device), high.to(device)))


def load_critic(artifact: Artifact, device: str) -> Critic:
    """Q and V of a critic."""
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    sizes = len(artifact.seeds), facts["observation_dim"], facts["action_dim"], params["hidden"]
    with artifact.reading("critic.safetensors") as path:
        critic = filled(lambda: Critic(*sizes), load_tensors(path))
    return critic.to(device).requires_grad_(False)


def load_energy(artifact: Artifact, sampler: Sampler, device: str) -> Energy:
    """The averaged energy of a guide for the denoiser of a sampler."""
    net, seeds, hidden = sampler.denoiser, len(artifact.seeds), artifact.params["hidden"]
    with artifact.reading("energy.safetensors") as path:
        sizes = seeds, net.channels, net.observation_dim, len(sampler.schedule), hidden
        energy = filled(lambda: Energy(*sizes), averages(load_tensors(path)))
    return energy.to(device).requires_grad_(False)


def load_line(artifact: Artifact, device: str) -> Line:
    """The calibration of a guide: step k -> intercept (S, 1) and slope (S, 1)."""
    with artifact.reading("calibration.safetensors") as path:
        tensors = load_tensors(path)
        intercept, slope = (tensors[name].to(device) for name in ("intercept", "slope"))
        if intercept.shape != slope.shape or slope.dim() != 2 or len(slope) != len(artifact.seeds):
            raise ValueError("its lines are not those of its seeds")
    return lambda k: (intercept[:, k : k + 1], slope[:, k : k + 1])


def weigher(params: dict) -> Weigh:
    """The function advantage -> weight of an augment's or a guide's parameters, which omit what the weight ignores."""
    options = AugmentSettings().model_dump() | _fields(AugmentSettings, params)
    name = options.pop("weight")
    return lambda advantage: weigh(name, advantage, tau=params["tau"], alpha=params["alpha"], **options)


@dataclass
class LogWeight:
    """log w(s, a) by a critic, differentiable in the action."""

    critic: Critic
    weigh: Weigh

    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(S, B) for observations (S, B, O) and actions (S, B, A)."""
        with products("fp32"):  # an advantage is a small difference of large numbers
            q, v = self.critic.value(observations, actions)
        return self.weigh(q - v).log()

    def of_z(self, observations: Tensor, z: Tensor) -> Tensor:
        """The same for z = [action, ...] (S, B, channels)."""
        return self(observations, z[..., : self.critic.action_dim])


def filled(make: Callable[[], N], tensors: dict[str, Tensor]) -> N:
    """The network that `make` makes, with these tensors.  Raises ValueError where they are not its own.

    They are compared before it is made: its sizes are a record's word, and may be more than any memory holds.
    """
    with torch.device("meta"):
        network = make()
    shapes = {name: tensor.shape for name, tensor in network.state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in tensors.items()}:
        raise ValueError(f"its tensors are not those of a {type(network).__name__.lower()} of the recorded sizes")
    network = make()
    network.load_state_dict(tensors)
    return network


def averages(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The averaged parameters, `ema.*`, by the names that their network has."""
    return {name.removeprefix("ema."): tensor for name, tensor in tensors.items() if name.startswith("ema.")}


def _fields(settings: type[Settings], params: dict) -> dict:
    """The parameters that are fields of the settings: keys hold others beside them, such as the environment."""
    return {name: value for name, value in params.items() if name in settings.model_fields}
