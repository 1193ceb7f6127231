"""eval: a policy, and a critic to rank candidates by -> scores of guided roll-outs (SWG, Algorithm 2 and section 6.2).

Writes episodes.csv, one row an episode, and summary.json, one cell for each (rho, candidates).
"""

import csv
import json
from pathlib import Path

from swgctl import scores
from swgctl.config import EvalSettings, Resolved
from swgctl.errors import UsageError
from swgctl.lineage import check_ranking
from swgctl.stages import Job, check_horizon
from swgctl.tasks import Task

REVISION = 2


def prepare(task: Task, resolved: Resolved, inputs: dict) -> Job:
    settings: EvalSettings = resolved["eval"]
    inputs = dict(inputs)
    check_horizon(task)
    ranked = max(settings.resample) > 1 and settings.select == "critic"
    if ranked or "critic" in inputs:
        augmented = inputs["augment"] = inputs["diffuse"].parent("augment")  # which weight to rank by
        if "critic" not in inputs:
            inputs["critic"] = augmented.parent("critic")
        check_ranking(inputs["critic"], inputs["diffuse"], augmented)
    if "critic" in inputs and not ranked:
        raise UsageError("--critic ranks candidates, and there are none to rank", "--resample 8 --select critic")
    params = settings.keyed() | {
        "environment": task.environment,
        "horizon": task.horizon,
        "references": task.references and list(task.references),
    }
    return Job("eval", REVISION, task, settings, params, inputs["diffuse"].seeds, inputs)


def build(job: Job, directory: Path, work: Path) -> dict:
    from swgctl.execution import products
    from swgctl.policy import assemble, weigher
    from swgctl.rollout import Plan, roll_out

    s: EvalSettings = job.settings
    critic = job.inputs.get("critic")
    policy = assemble(job.inputs["diffuse"], critic, critic and weigher(job.inputs["augment"].params), job.device)
    plan = Plan(s.rho, s.resample, s.episodes, s.temperature, s.sampler, s.w_min, s.clip, s.seed)
    with products(s.precision):
        episodes = roll_out(policy, job.task, plan)
    scores.add_scores(episodes, job.task)
    with open(directory / "episodes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, episodes[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(episodes)
    cells = scores.cells(episodes, s.sampler, s.temperature)
    task = {name: value for name, value in job.task.to_json().items() if name != "source"}
    summary = {"task": task, "cells": cells}
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return {"cells": cells}
