"""compare: every guidance on one critic, one data set, one weight and one denoiser."""

import json
import statistics
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from swgctl import tasks
from swgctl.config import AUGMENT, EVAL, GUIDE, EvalSettings, Method, Resolved, methods
from swgctl.console import say
from swgctl.errors import UsageError, closest, nearest
from swgctl.evaluation import comparison
from swgctl.evaluation.comparison import NONE, RESAMPLE
from swgctl.plots import guidances as picture
from swgctl.reports import guidances as report
from swgctl.stages import run
from swgctl.stages.graph import Node, graph
from swgctl.store import Artifact, Store
from swgctl.tasks import Task

CANDIDATES = (1, 8)  # of `none`, and of the methods that guide, then select
SELECTING = ("swg", "ddice")  # SWG-R, and D-DICE's guide-then-select
JOINT = ("augment", "diffuse")  # take the place of the behaviour model in a chain
SET_ELSEWHERE = {"eval.method": "--methods", "guide.method": "--methods", "guide.weight": "--weight"}
REPEATS, WARM = 40, 4  # proposals that are timed, and before them


def compare(
    names: Sequence[str],
    *,
    environment: str | None = None,
    only: Sequence[str] | None = None,
    flags: dict[str, Any],
    plain: bool = False,
    recipe: str | None = None,
    assignments: tuple[str, ...] = (),
    store: str | None = None,
    device: str = "auto",
    mode: str = "auto",
    as_json: bool = False,
) -> None:
    """Build what is missing, then print a table a task on stderr, and on stdout the picture's path, or the rows.

    names  tasks; only: the methods, None for all; flags: settings by dotted name, None where not given
    plain  the guides are of the behaviour model, not of the joint policy
    Everything is checked before anything is built.  Raises UsageError, InputError.
    """
    target = Store.locate(store)
    run.check_execution(device, mode)
    chosen = chosen_methods(only)
    wanted = [NONE, *(name for name in (RESAMPLE, *chosen) if name in chosen)]
    problems = [tasks.get(name, environment) for name in dict.fromkeys(names)]
    planned = [(task, *resolve(task, recipe, assignments, flags)) for task in problems]
    plans = [(resolved, evaluations(task, resolved, scales, chosen, plain)) for task, resolved, scales in planned]
    for resolved, ends in plans:
        results = run.build_nodes(ends, resolved, target, device=device, mode=mode)
        artifacts = [results[identity].artifact for identity in dict.fromkeys(end.identity for end in ends)]
        comparison.check_common(artifacts)
        rows = comparison.rows(artifacts, dict.fromkeys(wanted))
        times = milliseconds(artifacts, rows, device)
        none = times[NONE, 1]
        for row in rows:
            own = times[row["method"], row["candidates"]]
            row |= {"weight": resolved.of(AUGMENT).weight, "action_ms": own, "action_ratio": own / none}
        report.show(rows)
        path = picture.compare(target, rows)
        if as_json:
            say(f"picture: {path}")
        print("\n".join(map(json.dumps, rows)) if as_json else path, flush=True)


def comparable() -> dict[str, Method]:
    """The methods that guide, or choose from, a denoiser."""
    return {name: row for name, row in methods().items() if row.stages[-2:-1] in (("diffuse",), ("guide",))}


def chosen_methods(only: Sequence[str] | None) -> list[str]:
    """The methods of those names, in the table's order; None: all.  Raises UsageError for an unknown name."""
    every = comparable()
    if only is None:
        return list(every)
    for name in only:
        if name not in (NONE, *every):
            raise UsageError(
                f"unknown method '{name}'{nearest(name, every)}",
                f"swgctl compare TASK --methods {closest(name, every) or ','.join(every)}",
            )
    return [name for name in every if name in only]


def resolve(
    task: Task, recipe: str | None, assignments: tuple[str, ...], flags: dict[str, Any]
) -> tuple[Resolved, list[float]]:
    """The settings of all evaluations, rho = 0 and M = 1 among them, and the scales above 0.  Raises UsageError."""
    for text in assignments:
        if option := SET_ELSEWHERE.get(text.partition("=")[0].strip()):
            raise UsageError(
                f"--set {text}: compare has one for all rows, by {option}",
                f"swgctl compare TASK {option} {text.partition('=')[2].strip()}",
            )
    resolved = run.resolve_run(task, recipe, assignments, flags | {"eval.method": "swg"})
    s = resolved.of(EVAL)
    asked = s.resample if resolved.origin["eval.resample"] in ("flag", "--set") else CANDIDATES
    scales = [rho for rho in s.rho if rho > 0]
    if not scales:
        raise UsageError("compare needs a guidance scale above 0", "swgctl compare TASK --rho 1,4,8")
    return _with(resolved, rho=[0.0, *scales], resample=sorted({1, *asked})), scales


def _with(resolved: Resolved, **changes: Any) -> Resolved:
    """The same configuration with other settings of `eval`."""
    settings = EvalSettings.model_validate(resolved[EVAL.name].model_dump() | changes)
    return replace(resolved, settings=resolved.settings | {EVAL.name: settings})


def evaluations(task: Task, resolved: Resolved, scales: list[float], chosen: list[str], plain: bool) -> list[Node]:
    """The evaluations to compare, as nodes whose settings are checked; their ancestors coincide.

    What is not guided is evaluated once: with SWG on the joint policy, or, where `plain`, on the behaviour model.
    Raises UsageError.
    """
    # A guide of a joint policy takes the weight of its data.
    weight = resolved.of(AUGMENT).model_dump() if plain else {"weight": ""}
    guide = resolved.of(GUIDE).model_copy(update=weight)
    resolved = replace(resolved, settings=resolved.settings | {GUIDE.name: guide})
    several, select = resolved.of(EVAL).resample, resolved.of(EVAL).select
    if plain and select == "self":
        raise UsageError(
            "eval.select = self ranks by a model's own weight, and a behaviour model has none",
            "swgctl compare TASK --plain --set eval.select=critic",
        )
    cells: dict[str, tuple[list[float], list[int]]] = {
        RESAMPLE if plain else "swg": ([0.0], several if RESAMPLE in chosen else [1])
    }
    for name in chosen:
        if name != RESAMPLE:
            rho, candidates = cells.get(name, ([], [1]))
            cells[name] = ([*rho, *scales], several if name in SELECTING else candidates)
    ends = []
    for name, (rho, candidates) in cells.items():
        method = methods()[name]
        # One candidate is no choice.
        choice = select if max(candidates) > 1 else EvalSettings.model_fields["select"].default
        changed = _with(resolved, rho=rho, resample=candidates, select=choice)
        ends.append(run.check_nodes(graph(task, changed, chain(method, plain), name)))
    return ends


def chain(method: Method, plain: bool) -> tuple[str, ...]:
    """A method's stages, with the joint policy for its denoiser unless `plain`."""
    if plain or "behaviour" not in method.stages:
        return method.stages
    at = method.stages.index("behaviour")
    return (*method.stages[:at], *JOINT, *method.stages[at + 1 :])


def milliseconds(evaluations: Iterable[Artifact], rows: list[dict], device: str) -> dict[tuple[str, int], float]:
    """Duration of an action of all seeds at one observation each, by method and number of candidates.

    It is the median over REPEATS proposals; the policies take turns.
    """
    import torch

    from swgctl.bench.measure import wait
    from swgctl.policies.diffusion import assemble
    from swgctl.randomness import generator
    from swgctl.training.execution import pick_device, products

    device = pick_device(device)
    policies = {}
    for evaluation in evaluations:
        settings = EvalSettings.model_validate(
            {name: value for name, value in evaluation.params.items() if name in EvalSettings.model_fields}
        )
        source = comparison.policy_of(evaluation)
        critic = evaluation.parent("critic") if "critic" in evaluation.meta["inputs"] else None
        policies[evaluation.id] = assemble(source, critic, settings, device), settings.precision
    cells = {(row["method"], row["candidates"]): row for row in rows}
    times: dict[tuple[str, int], list[float]] = {key: [] for key in cells}
    noise = generator(0, "compare/noise", 0, torch.device(device))
    acting = {}
    for turn in range(-WARM, REPEATS):
        for key, row in cells.items():
            policy, precision = policies[row["evaluation"]]
            width = policy.sampler.denoiser.observation_dim
            observations = torch.zeros(len(policy.seeds), 1, width, device=device)
            cell = {"rho": row["rho"], "candidates": row["candidates"], "temperature": 1.0}
            with products(precision):
                if key not in acting:
                    acting[key] = policy.prepare([cell])
                wait(torch.device(device))
                started = time.perf_counter()
                acting[key](observations, noise)
                wait(torch.device(device))
            if turn >= 0:
                times[key].append(1000 * (time.perf_counter() - started))
    return {key: statistics.median(durations) for key, durations in times.items()}
