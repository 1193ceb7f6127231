"""eval: a policy, a behaviour model, a guide or an agent -> scores of roll-outs (SWG, Algorithm 2 and section 6.2).

Writes episodes.csv, one row an episode, and summary.json, one cell for each (temperature, candidates, rho).
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

from swgctl.config import EVAL, EvalSettings, a, methods
from swgctl.console import say
from swgctl.errors import InputError, UsageError
from swgctl.evaluation import scores
from swgctl.policies.origin import check_ranking, denoiser_of, weight_of
from swgctl.stages.job import Job, check_horizon
from swgctl.store import Artifact
from swgctl.tasks import Task


def unread(inputs: Mapping, settings: EvalSettings) -> set[str]:
    """All but the number of episodes and the seed, of an agent, which acts by its mean action; else what other methods'
    guidance takes."""
    if "agent" in inputs:
        return set(EvalSettings.model_fields) - {"episodes", "seed", "method"}
    guide = inputs.get("guide")  # in a plan the settings have its method
    method = guide.params["method"] if isinstance(guide, Artifact) else settings.method
    taken = () if "behaviour" in inputs else methods()[method].options
    return {option for method in methods().values() for option in method.options} - set(taken)


def check(task: Task, settings: EvalSettings) -> None:
    """Refuse a task without a horizon, and settings that exclude each other.  Raises InputError, UsageError."""
    check_horizon(task)
    if "agent" in methods()[settings.method].stages:
        return
    if settings.select == "sample" and max(settings.resample) == 1:
        raise UsageError(
            "--select sample draws one of several candidates, and there is one",
            "swgctl eval --select sample --resample 8",
        )
    if not methods()[settings.method].guidance:
        help = f"swgctl run TASK --method {settings.method} --rho 0   # or: swgctl eval --rho 0"
        check_unguided(settings, f"{settings.method} only chooses among candidates", help)


def check_unguided(settings: EvalSettings, why: str, help: str) -> None:
    """Raise UsageError for a scale above 0."""
    if max(settings.rho) > 0:
        raise UsageError(f"rho = {max(settings.rho):g}: {why}, and nothing guides it", help)


def prepare(task: Task, settings: EvalSettings, seeds: list[int], inputs: Mapping[str, Artifact]) -> Job[EvalSettings]:
    role = EVAL.filled(inputs)
    assert role
    source = inputs[role]
    of_task = {
        "environment": task.environment,
        "horizon": task.horizon,
        "references": task.references and list(task.references),
    } | ({"score": task.score} if task.score != "return" else {})
    acts, default = "agent" in methods()[settings.method].stages, EvalSettings.model_fields["method"].default
    if acts and role != "agent":
        raise UsageError(
            f"--method {settings.method} evaluates an agent, and {source.id} is {a(source.stage)}",
            f"swgctl eval --from {source.id}",
        )
    if role == "agent":
        if not acts and settings.method != default:
            raise UsageError(
                f"--method {settings.method}: {source.id} is an agent, which nothing guides",
                f"swgctl eval --from {source.id}",
            )
        check_horizon(task)
        if others := [name for name in inputs if name != role]:
            raise UsageError(
                f"{others[0]} ranks candidates, and an agent has one action", f"swgctl eval --from {source.id}"
            )
        params = settings.model_dump(include={"episodes", "seed"}) | of_task
        return Job(EVAL, task, settings, params, seeds, inputs)
    if role == "guide":
        if settings.method not in (source.params["method"], default):
            raise UsageError(
                f"--method {settings.method}: {source.id} guides by {source.params['method']}",
                f"swgctl guide {settings.method}   # on the same denoiser and critic",
            )
        settings = settings.model_copy(update={"method": source.params["method"]})
    check(task, settings)
    _check_guidance(settings, role, source)
    if "critic" in inputs:
        if not EVAL.inputs["critic"].when(settings, role):
            raise UsageError(
                "--critic ranks candidates, and there are none to rank",
                "swgctl eval --critic REF --resample 8 --select critic",
            )
        _check_weight(inputs, source)
        check_ranking(inputs["critic"], source, weight_of(source))
    params = settings.keyed() | of_task
    if role != "diffuse":
        params.pop("method", None)  # the guide's, which is another input
    return Job(EVAL, task, settings, params, seeds, inputs, walks=True)


def _check_guidance(settings: EvalSettings, role: str, source: Artifact) -> None:
    """Raise UsageError where the settings ask for a guidance, or a choice, that the policy does not have."""
    plain = role == "behaviour" or "behaviour" in source.meta["inputs"]
    several = max(settings.resample) > 1
    steps = denoiser_of(source).params["K"] - (settings.sampler == "dpm-solver-2s")
    if settings.nfe > steps:
        raise UsageError(
            f"eval.nfe = {settings.nfe}: {settings.sampler} walks at most {steps} of this denoiser's steps",
            f"swgctl eval --set eval.nfe={steps}",
        )
    if role == "behaviour":
        check_unguided(settings, f"{source.id} is a plain behaviour model", f"swgctl guide cep --from {source.id}")
    if role != "guide" and methods()[settings.method].takes:
        raise UsageError(
            f"{settings.method} needs a guide",
            f"swgctl guide {settings.method} --from {source.id}   # then swgctl eval",
        )
    if several and settings.select == "self" and plain:
        raise UsageError(
            f"--select self ranks by the model's own weight, and {source.id} has none", "swgctl eval --select critic"
        )
    if several and settings.select == "sample" and role == "behaviour":
        raise UsageError(
            f"--select sample draws in proportion to a weight, and {source.id} has none",
            f"swgctl guide resample --from {source.id}",
        )


def _check_weight(inputs: Mapping[str, Artifact], source: Artifact) -> None:
    """Raise InputError if the weight that ranks is that of other data than the policy's."""
    if "augment" in inputs and inputs["augment"].digest != source.parent("augment").digest:
        raise InputError(
            f"{inputs['augment'].id} is not the augmented data set that {source.id} learnt from",
            "swgctl eval without --from augment=REF",
        )


def build(job: Job[EvalSettings], directory: Path, work: Path) -> dict:
    from swgctl.evaluation.rollout import grid, roll_out
    from swgctl.policies.agent import load_agent
    from swgctl.policies.diffusion import assemble
    from swgctl.policies.policy import Cell, Policy
    from swgctl.training.execution import products

    s = job.settings
    role = EVAL.filled(job.inputs)
    assert role
    source = job.inputs[role]
    policy: Policy
    cells: list[Cell]
    if role == "agent":
        policy, cells, precision = load_agent(source, job.device), [{}], "fp32"
    else:
        cells, precision = grid(s), s.precision
        if 0 in s.temperature and max(s.resample) > 1:
            say("eval: at temperature 0 all candidates are equal, so its cells of several are left out")
        policy = assemble(source, job.inputs.get("critic"), s, job.device, job.mode)
    with products(precision):
        episodes = roll_out(policy, job.task, cells, s.episodes, s.seed)
    scores.add_scores(episodes, job.task)
    with open(directory / "episodes.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, episodes[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(episodes)
    table = scores.cells(episodes, None if role == "agent" else s.sampler)
    if role in ("behaviour", "guide"):  # those of `diffuse` are of its own guidance, as they always were
        name = source.params.get("method", "none")
        table = [cell | {"guidance": name if cell["rho"] > 0 else "none"} for cell in table]
    task = {name: value for name, value in job.task.to_json().items() if name != "source"}
    summary = {"task": task, "cells": table}
    (directory / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n")
    return {"cells": table}


def show(artifact: Artifact) -> None:
    """Print every cell, under the returns of the data."""
    from swgctl.reports.results import print_evaluation

    print_evaluation(artifact)
