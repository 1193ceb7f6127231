"""eval: a policy, and a critic to rank candidates by -> scores of guided roll-outs (SWG, Algorithm 2 and section 6.2).

Writes episodes.csv, one row an episode, and summary.json, one cell for each (temperature, candidates, rho).
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from swgctl.config import EVAL, EvalSettings
from swgctl.console import say
from swgctl.errors import UsageError
from swgctl.evaluation import scores
from swgctl.policies.ranking import check_ranking
from swgctl.stages.job import Job, check_horizon
from swgctl.store import Artifact
from swgctl.tasks import Task


def check(task: Task, settings: EvalSettings) -> None:
    """Refuse a task without a horizon.  Raises InputError."""
    check_horizon(task)


def prepare(task: Task, settings: EvalSettings, seeds: list[int], inputs: Mapping[str, Artifact]) -> Job[EvalSettings]:
    check(task, settings)
    if "critic" in inputs:
        if not EVAL.inputs["critic"].when(settings):
            raise UsageError(
                "--critic ranks candidates, and there are none to rank",
                "swgctl eval --critic REF --resample 8 --select critic",
            )
        check_ranking(inputs["critic"], inputs["diffuse"], inputs["augment"])
    params = settings.keyed() | {
        "environment": task.environment,
        "horizon": task.horizon,
        "references": task.references and list(task.references),
    }
    if task.score != "return":
        params["score"] = task.score
    return Job(EVAL, task, settings, params, seeds, inputs)


def build(job: Job[EvalSettings], directory: Path, work: Path) -> dict:
    from swgctl.evaluation.rollout import grid, roll_out
    from swgctl.policies.diffusion import assemble, ranking_of
    from swgctl.training.execution import products

    s = job.settings
    cells = grid(s)
    if 0 in s.temperature and max(s.resample) > 1:
        say("eval: at temperature 0 all candidates are equal, so its cells of several are left out")
    ranking = ranking_of(job.inputs.get("critic"), job.inputs.get("augment"), job.device)
    policy = assemble(job.inputs["diffuse"], ranking, s, job.device)
    with products(s.precision):
        episodes = roll_out(policy, job.task, cells, s.episodes, s.seed)
    scores.add_scores(episodes, job.task)
    with open(directory / "episodes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, episodes[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(episodes)
    table = scores.cells(episodes, s.sampler)
    task = {name: value for name, value in job.task.to_json().items() if name != "source"}
    summary = {"task": task, "cells": table}
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return {"cells": table}


def show(artifact: Artifact) -> None:
    """Print every cell, under the returns of the data."""
    from swgctl.reports.results import print_evaluation

    print_evaluation(artifact)
