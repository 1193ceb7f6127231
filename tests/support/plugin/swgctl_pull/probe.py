"""probe: an augmented data set -> a linear model of the advantage, by ridge regression."""

import h5py
import torch

from swgctl.files import save_tensors
from swgctl.stages import Job
from swgctl_pull import PROBE


def prepare(task, settings, seeds, inputs):
    return Job(PROBE, task, settings, settings.keyed(), seeds, inputs)


def build(job, directory, work):
    with h5py.File(job.inputs["augment"].file("data.hdf5")) as file:
        x, y = (torch.from_numpy(file[name][()]).double() for name in ("observations", "advantages"))
    gram = x.T @ x + job.settings.ridge * torch.eye(x.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, x.T @ y.T).T.float().contiguous()
    save_tensors(directory / "probe.safetensors", {"weights": weights}, job.stage.name, job.task, job.seeds)
    return {"others": len(job.inputs) - 1, "norm": float(weights.norm())}
