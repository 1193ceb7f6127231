"""diffuse: a weight-augmented data set -> one denoiser of z = [action, weight] (SWG, Algorithm 1).

Writes policy.safetensors: `ema.*`, the averaged parameters that sampling uses; `raw.*`, the last ones; `weight_range`
(S, 2), the least and the greatest weight that each member has seen.
"""

import copy
from pathlib import Path

import h5py
import torch
from torch import Tensor

from swgctl import training
from swgctl.config import DiffuseSettings, Resolved
from swgctl.critics import soft_update
from swgctl.diffusion import Schedule
from swgctl.errors import CorruptError
from swgctl.models import Denoiser, reset
from swgctl.optimisers import Adam
from swgctl.stages import Job
from swgctl.store import save_tensors
from swgctl.tasks import Task

REVISION = 1


def prepare(task: Task, resolved: Resolved, inputs: dict, device: str) -> Job:
    settings: DiffuseSettings = resolved["diffuse"]
    seeds = inputs["augment"].seeds
    return Job("diffuse", REVISION, task, settings, settings.keyed(), seeds, inputs, device=device)


def build(job: Job, directory: Path, work: Path) -> dict:
    path = job.inputs["augment"].file("data.hdf5")
    try:
        with h5py.File(path) as file:
            observations, actions, weights = (
                torch.from_numpy(file[name][()]) for name in ("observations", "actions", "weights")
            )
    except (OSError, KeyError) as error:
        raise CorruptError(f"{path} cannot be read: {error}") from None
    device = torch.device(job.device)
    learner = DiffuseLearner(observations, actions, weights, job.settings, job.seeds, device)
    rows = training.train(
        learner,
        name="diffuse",
        seeds=job.seeds,
        steps=job.settings.steps,
        work=work,
        device=device,
        precision=job.settings.precision,
    )
    tensors = {f"ema.{name}": tensor for name, tensor in learner.average.state_dict().items()}
    tensors |= {f"raw.{name}": tensor for name, tensor in learner.denoiser.state_dict().items()}
    tensors["weight_range"] = torch.stack([learner.weights.amin(1), learner.weights.amax(1)], 1)
    save_tensors(directory / "policy.safetensors", tensors, job.stage, job.task, job.seeds)
    (directory / "metrics.jsonl").write_text(training.to_lines(rows))
    facts = {
        "observation_dim": observations.shape[1],
        "action_dim": actions.shape[1],
        "parameters": sum(p[0].numel() for p in learner.denoiser.parameters()),
    }
    return training.summary(rows) | {"data": facts}


class DiffuseLearner:
    """S denoisers and their running averages.  See `training.Learner`."""

    chunk = 50

    def __init__(self, observations, actions, weights, settings: DiffuseSettings, seeds: list[int], device):
        """observations (N, O), actions (N, A), weights (S, N)."""
        self.settings = settings
        self.observations, self.actions = observations.to(device), actions.to(device)
        self.weights = weights.to(device)
        if settings.weight_scale == "unit":
            self.weights = self.weights / self.weights.mean(1, keepdim=True)
        self.schedule = getattr(Schedule, settings.schedule)(settings.K)
        self.alpha, self.sigma = (x.to(device, torch.float32) for x in (self.schedule.alpha, self.schedule.sigma))
        self.members = torch.arange(len(seeds), device=device).unsqueeze(1)
        self.denoiser = Denoiser(
            len(seeds),
            observations.shape[1],
            actions.shape[1],
            settings.K,
            settings.width,
            settings.blocks,
            settings.weight_block,
            settings.dropout,
        )
        reset(self.denoiser, [training.generator(seed, "diffuse/init", 0) for seed in seeds])
        self.denoiser.to(device)
        self.average = copy.deepcopy(self.denoiser).requires_grad_(False)
        self.parameters, self.averages = list(self.denoiser.parameters()), list(self.average.parameters())
        self.adam = Adam(self.parameters, settings.lr)

    def draw(self, streams: training.Streams) -> dict[str, Tensor]:
        c, batch, rows = self.chunk, self.settings.batch, len(self.actions)
        channels = self.actions.shape[1] + 1
        drawn = {
            "rows": [torch.randint(rows, (c, batch), generator=g, device=g.device) for g in streams("batch")],
            "k": [torch.randint(self.settings.K, (c, batch), generator=g, device=g.device) for g in streams("k")],
            "eps": [torch.randn(c, batch, channels, generator=g, device=g.device) for g in streams("noise")],
        }
        if self.settings.dropout:
            shape = (c, self.settings.blocks, batch, self.settings.width)
            drawn["keep"] = [_bernoulli(shape, 1 - self.settings.dropout, g) for g in streams("dropout")]
        return {name: torch.stack(values, 1) for name, values in drawn.items()}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, eps = drawn["rows"], drawn["k"], drawn["eps"]
        weights = self.weights[self.members, rows].unsqueeze(-1)
        z0 = torch.cat([self.actions[rows], weights], -1)
        z = self.alpha[k].unsqueeze(-1) * z0 + self.sigma[k].unsqueeze(-1) * eps
        error = self.denoiser(z, k, self.observations[rows], drawn.get("keep")) - eps
        channels = error.square().mean(1)  # equation 9: the mean over the batch of the sum over the channels
        loss = channels.sum(-1)
        self.adam.descend(loss.sum())  # summed over the seeds, so members never mix
        soft_update(self.averages, self.parameters, self.settings.ema)
        channels = channels.detach()
        return {
            "loss": loss.detach(),
            "action_loss": channels[:, :-1].sum(-1),
            "weight_loss": channels[:, -1],
        }

    def state(self) -> dict[str, Tensor]:
        averages = {f"average.{name}": value for name, value in self.average.state_dict().items()}
        return self.denoiser.state_dict() | averages | self.adam.tensors("adam")


def _bernoulli(shape: tuple[int, ...], p: float, generator: torch.Generator) -> Tensor:
    """True with probability p, from 16 random bits each: a quarter of the cost of `bernoulli_` on a CPU."""
    count = int(torch.tensor(shape).prod())
    words = torch.empty((count + 3) // 4, dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    return (words.view(torch.int16)[:count] <= round(p * 2**16) - 2**15 - 1).view(shape)
