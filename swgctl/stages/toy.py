"""toy: a density of the plane and an energy -> samples of q(a) w(a), for every beta (SWG, section 6.1, appendix B.1).

Writes denoiser.safetensors (the last and the averaged parameters; those of `models.ToyGuide` where the guidance is not
SWG's), samples.hdf5 (a group for each beta), summary.json (distances) and picture.png (samples above, ground truth
below, as in Figures 2 and 3).
"""

import json
from collections.abc import Mapping
from pathlib import Path

from swgctl.config import TOY, ToySettings
from swgctl.errors import UsageError, closest, nearest
from swgctl.files import canonical, new_hdf5, save_tensors
from swgctl.stages.job import Job, train
from swgctl.store import Artifact
from swgctl.tasks import Task

NAMES = ("8gaussians", "2spirals", "swissroll", "rings", "moons", "checkerboard")


def task_of(density: str | None, environment: str | None = None) -> Task:
    """A density as a task, without an environment, so that the store can file its artifacts.  Raises UsageError."""
    if density not in NAMES:
        raise UsageError(
            f"no density is called '{density}'{nearest(str(density), NAMES)}",
            f"swgctl toy {closest(str(density), NAMES) or NAMES[0]}   # one of {', '.join(NAMES)}; or all",
        )
    return Task(density, "", f"toy:{density}", "none", "toy", references=None, horizon=None)


def prepare(task: Task, settings: ToySettings, seeds: list[int], inputs: Mapping) -> Job[ToySettings]:
    return Job(TOY, task, settings, settings.keyed() | {"density": task.name}, seeds)


def build(job: Job[ToySettings], directory: Path, work: Path) -> dict:
    import torch

    from swgctl import toys
    from swgctl.learners.toy import ToyLearner
    from swgctl.learners.toy_energy import ToyEnergyLearner
    from swgctl.plots.figures import save, styled
    from swgctl.plots.toys import draw_toys
    from swgctl.randomness import generator
    from swgctl.training.execution import products

    s = job.settings
    density, device = toys.DENSITIES[job.task.name], torch.device(job.device)
    raw, labels = density.draw(s.rows, generator(s.seed, "toy/data", 0))
    frame = toys.Frame.of(raw)
    make = ToyLearner if s.method == "swg" else ToyEnergyLearner
    learner = make(frame.inside(raw), labels, s, job.seeds, device)
    metrics = train(job, learner, directory, work)
    parameters = learner.network.state_dict()
    averages = {f"average.{name}": value for name, value in learner.average.state_dict().items()}
    save_tensors(directory / "denoiser.safetensors", parameters | averages, job.stage.name, job.task, job.seeds)

    with products(s.precision):
        samples = toys.draw_all(learner.walk, density, frame, s, job.seeds)
    cells = toys.compare(samples, density, s)
    (directory / "summary.json").write_text(json.dumps({"cells": cells}, indent=1, sort_keys=True) + "\n")
    _write(directory / "samples.hdf5", samples, job)
    with styled():
        save(draw_toys({job.task.name: {"samples": samples}}), directory / "picture.png", "png")
    return metrics | {"cells": cells}


def show(artifact: Artifact) -> None:
    """Print each distance beside its floor."""
    from swgctl.reports.results import print_toy

    print_toy(artifact)


def _write(path: Path, samples: dict, job: Job) -> None:
    about = {
        "guided": "a of guided samples, in the density's units (seeds, samples, 2)",
        "guided_weight": "w of guided samples, as the model has it (seeds, samples)",
        "unguided": "a of unguided samples",
        "reweighted": "a of unguided samples of all beta, drawn again in proportion to their exact weights",
        "truth": "independent draws from the target (draws, samples, 2)",
    }
    with new_hdf5(path) as file:
        file.attrs["swg"] = canonical({"density": job.task.name, "seeds": job.seeds, "params": job.params})
        for beta, arrays in samples.items():
            for name, array in arrays.items():
                dataset = file.create_dataset(f"beta={beta:g}/{name}", data=array.numpy())
                dataset.attrs["long_name"] = about[name]
