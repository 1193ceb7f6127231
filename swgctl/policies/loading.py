"""The parts of a policy, read from artifacts: denoiser, energy, critic, weight.  Each raises CorruptError."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from swgctl.config import BehaviourSettings, DiffuseSettings, Settings, WeightSettings
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
    schedule = getattr(Schedule, trained.schedule)(trained.K)
    with artifact.reading("policy.safetensors") as path:
        tensors = load_tensors(path)
        size = len(artifact.seeds), facts["observation_dim"], channels
        denoiser = filled(lambda: Denoiser(*size, **trained.network(), schedule=schedule), averages(tensors))
        low, high = bounds(facts["action_dim"], tensors.get("weight_range"))
        channel = tensors.get("weight_channel")
        if channel is not None and channel.shape != (size[0], 2):
            raise ValueError("its weight's channel is not that of its seeds")
    box = low.to(device), high.to(device)
    return Sampler(denoiser.to(device).requires_grad_(False), schedule, box, channel=channel)


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


def weight_lines(sampler: Sampler, guide: Artifact | None) -> tuple[Tensor, Tensor]:
    """Intercept and slope (S, K) that turn w_hat of a joint denoiser's channel into the weight: its channel's own, of
    the line of a calibration (a guide) where there is one; 0 and 1 if there is neither."""
    shape = (*sampler.denoiser.members, len(sampler.schedule))
    intercept, slope = torch.zeros(shape), torch.ones(shape)
    if guide:
        intercept, slope = load_calibration(guide)
    if sampler.channel is not None:
        offset, factor = sampler.channel.split(1, 1)
        intercept, slope = offset + factor * intercept, factor * slope
    return intercept, slope


def load_calibration(guide: Artifact) -> tuple[Tensor, Tensor]:
    """Intercept and slope r_k (S, K) of a calibration, in units of the denoiser's channel.  Raises CorruptError."""
    with guide.reading("calibration.safetensors") as path:
        tensors = load_tensors(path)
        intercept, slope = tensors["intercept"], tensors["slope"]
        steps = len(guide.meta["metrics"]["calibration"]["slope"])
        if not intercept.shape == slope.shape == (len(guide.seeds), steps):
            raise ValueError("its lines are not those of its seeds and steps")
    return intercept, slope


def load_line(sampler: Sampler, guide: Artifact | None, device: str) -> Line | None:
    """`weight_lines` by step: k -> intercept (S, 1) and slope (S, 1); None where w_hat is the weight itself."""
    if guide is None and sampler.channel is None:
        return None
    intercept, slope = (value.to(device) for value in weight_lines(sampler, guide))
    return lambda k: (intercept[:, k : k + 1], slope[:, k : k + 1])


def weigher(params: dict) -> Weigh:
    """The function advantage -> weight of an augment's or a guide's parameters, which omit what the weight ignores."""
    options = WeightSettings().model_dump() | _fields(WeightSettings, params)
    name = options.pop("weight")
    return lambda advantage: weigh(name, advantage, tau=params["tau"], alpha=params["alpha"], **options)


@dataclass
class LogWeight:
    """log w(s, a) by a critic, differentiable in the action."""

    critic: Critic
    weigh: Weigh

    def __call__(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(S, B) for observations (S, B, O) and actions (S, B, A).  It can be differentiated once."""
        differentiated = torch.is_grad_enabled() and actions.requires_grad
        a = actions.detach().requires_grad_(differentiated)
        with products("fp32"):  # an advantage is a small difference of large numbers
            q, v = self.critic.value(observations, a)
            log_w = self.weigh(q - v).log()
            if not differentiated:
                return log_w
            (gradient,) = torch.autograd.grad(log_w.sum(), a)
        # Its gradient is taken here, since a caller's would be one of the caller's precision.
        return log_w.detach() + ((actions - a.detach()) * gradient).sum(-1)

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
