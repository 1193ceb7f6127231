"""Generation of trajectories by a diffusion model, guided by a target policy (PGD, arXiv 2404.06356, Algorithm 1)."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from swgctl import signals
from swgctl.config.synthetic import Generation
from swgctl.diffusion import Act, Channels, edm, policy_posterior, policy_shift
from swgctl.errors import SwgError
from swgctl.files import load_tensors
from swgctl.models import UNet
from swgctl.policies.loading import averages, filled
from swgctl.randomness import normal
from swgctl.store import Artifact
from swgctl.tasks import windows
from swgctl.tasks.transitions import Transitions
from swgctl.training.execution import Step, runner

BATCH = 256  # windows of a member that are drawn together, at most; their noise is, so results depend on it

Generators = Callable[[str, int], list[torch.Generator]]  # stream, index -> one a member


def check_finite(x: Tensor, stage: str) -> Tensor:
    """The windows that a stage has drawn.  Raises SwgError where a value of one is not finite."""
    if not bool(x.isfinite().all()):
        raise SwgError(
            f"{stage}: the trajectories are not finite",
            "a smaller --lambda, or look at the model with swgctl plot training",
        )
    return x


@dataclass
class TrajectorySampler:
    """Trajectory models of S members side by side.

    network   F(x (S, B, L, D), c_noise (S, B)) -> (S, B, L, D), with averaged parameters
    channels  of a row, with their scale
    length    L, rows in a window
    """

    network: edm.Network
    channels: Channels
    length: int

    @torch.no_grad()
    def draw(
        self,
        count: int,
        settings: Generation,
        act: Act | None,
        generators: Generators,
        mode: str = "eager",
        report: Callable[[int], object] = lambda done: None,
    ) -> Tensor:
        """Draw `count` windows a member, (S, count, L, D) z-scored (`Channels.outside` gives their units back).

        act         the target policy, whose parameters may change between two calls; None: unguided, as at scale 0
        generators  of each batch, `generators("noise", batch)`; they set the number of members and the device
        mode        of `execution.runner`: on CUDA one step of the walk is captured, and replayed for all steps
        report      called after each batch with the number of windows that a member has

        Raises Interrupted after a signal, where signals are deferred.
        """
        batches = math.ceil(count / BATCH)
        size = math.ceil(count / batches)  # alike for all, since a captured step has one shape; the rest is left out
        sources = generators("noise", 0)
        shape = (len(sources), size, self.length, len(self.channels))
        device = sources[0].device
        x = torch.empty(shape, device=device)
        windows = torch.empty(shape[0], batches * size, *shape[2:], device=device)
        table, step = self._walk(x, settings, act)
        if mode == "compiled":  # compiling anew in each call costs minutes, and fuses little
            mode = "graph" if device.type == "cuda" else "eager"
        advance = runner(step, lambda: {"x": x}, mode, device)
        for batch in range(batches):
            sources = generators("noise", batch)
            x.copy_(table["sigma"][0] * normal(sources, shape))
            for n in range(settings.levels):
                advance({name: column[n] for name, column in table.items()} | {"eps": normal(sources, shape)})
                signals.check()
            windows[:, batch * size : (batch + 1) * size] = x
            report(min((batch + 1) * size, count))
        return windows[:, :count]

    def _walk(self, x: Tensor, settings: Generation, act: Act | None) -> tuple[dict[str, Tensor], Step]:
        """The table (N,) of the walk's numbers, and its step, which changes x in place."""
        walk = edm.Walk(**settings.model_dump(include={field.name for field in fields(edm.Walk)}))
        denoise: edm.Denoise = partial(edm.denoised, self.network)
        shift = None
        if act is not None and settings.scale > 0:
            if settings.guidance == "posterior":
                denoise = policy_posterior(denoise, act, self.channels, settings.scale)
            else:
                shift = policy_shift(
                    act,
                    self.channels,
                    settings.scale,
                    beta=settings.ramp,
                    unit=settings.unit,
                    denoised=settings.denoised,
                )

        def step(at: dict[str, Tensor]) -> dict[str, Tensor]:
            x.copy_(edm.step(denoise, x, at, at["eps"], published=walk.rule == "published", shift=shift))
            return {}

        return {name: column.to(x) for name, column in walk.table(shift).items()}, step


def load_trajectories(artifact: Artifact, device: str) -> TrajectorySampler:
    """The averaged trajectory models of a `trajectories` artifact, with their channels.  Raises CorruptError."""
    facts, params = artifact.meta["metrics"]["data"], artifact.params
    shape = params["features"], params["blocks"], params["groups"]
    sizes = facts["observation_dim"], facts["action_dim"]
    with artifact.reading("denoiser.safetensors") as path:
        tensors = load_tensors(path)
        channels = Channels(*sizes, tensors["mean"], tensors["std"])
        network = filled(lambda: UNet(len(artifact.seeds), len(channels), *shape), averages(tensors))
    return TrajectorySampler(network.to(device).requires_grad_(False), channels.to(device), params["length"])


def transitions_of(x: Tensor, channels: Channels, seeds: list[int], returns: tuple[float, float, float]) -> Transitions:
    """Windows x (S, W, L, D), z-scored, as a synthetic set: `windows.transitions_of`."""
    observations, actions, rewards, terminals = (part.cpu().numpy() for part in channels.outside(x))
    return windows.transitions_of(observations, actions, rewards, terminals, seeds, returns)
