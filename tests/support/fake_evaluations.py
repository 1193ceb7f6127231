"""Evaluations that nobody rolled out: artifacts in a store with the settings of a real chain and made-up episodes."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from swgctl import config
from swgctl.evaluation import scores
from swgctl.store import Artifact, Store, make_key
from swgctl.tasks import Task, get

LATER = "2026-01-02T00:00:00Z"
Returns = dict[tuple[float, int, int], list[float]]  # (rho, M, seed) -> the returns of its episodes


def evaluation(
    store: Path, task: Task | str, returns: Returns, at: str = "2026-01-01T00:00:00Z", **changed
) -> Artifact:
    """An evaluation and the three artifacts that it was made from.

    changed  settings by dotted name, with _ for the dot (diffuse_lr=1e-4); data: the sha256 of the data; policy: what
             the policy's file holds, so that its digest can be another; successes: {seed: 0 or 1 of each episode}
    """
    task = get(task) if isinstance(task, str) else task
    store, seeds = Store(store), sorted({seed for _, _, seed in returns})
    data, policy, card = changed.pop("data", "d" * 64), changed.pop("policy", ""), changed.pop("card", None)
    episodes = _rows(task, returns, changed.pop("successes", None))
    settings = _settings(task, changed)
    settings["eval"] |= {"rho": sorted({r for r, _, _ in returns}), "resample": sorted({m for _, m, _ in returns})}
    settings["eval"]["episodes"] = len(next(iter(returns.values())))
    losses = "".join(json.dumps(row) + "\n" for row in _losses(seeds))
    parent = None
    for stage, files in (
        ("critic", {"critic.txt": "Q and V", "metrics.jsonl": losses}),
        ("augment", {"data.txt": "weights"}),
        ("diffuse", {"policy.txt": f"a denoiser {policy}", "metrics.jsonl": losses}),
        ("eval", {"episodes.csv": _table(episodes)}),
    ):
        inputs = {parent.stage: parent} if parent else {}
        metrics = {"data": {"return_mean": 0.0, "return_best": 1.0}}
        if stage == "eval":
            metrics = {"cells": scores.cells(episodes, settings["eval"]["sampler"])}
        parent = _artifact(store, task, stage, settings[stage], seeds, inputs, data, files, metrics, at, card)
    return parent


def guided_evaluation(
    store: Path, task: Task | str, returns: Returns, method: str, at="2026-01-01T00:00:00Z"
) -> Artifact:
    """An evaluation of a behaviour model that a guide guides, and all that it was made from."""
    task = get(task) if isinstance(task, str) else task
    store, seeds, settings = Store(store), sorted({seed for _, _, seed in returns}), _settings(task, {})
    settings["behaviour"] |= {"task": task.name, "environment": task.environment, "horizon": task.horizon}
    settings["guide"]["method"] = method
    settings["eval"] |= {"rho": sorted({r for r, _, _ in returns}), "resample": sorted({m for _, m, _ in returns})}
    settings["eval"]["episodes"] = len(next(iter(returns.values())))
    del settings["eval"]["method"]

    def make(stage: str, inputs: dict[str, Artifact]) -> Artifact:
        files = {"made.txt": stage}
        return _artifact(store, task, stage, settings[stage], seeds, inputs, "d" * 64, files, {}, at)

    guide = make("guide", {"behaviour": make("behaviour", {}), "critic": make("critic", {})})
    rows = _rows(task, returns)
    files, metrics = {"episodes.csv": _table(rows)}, {"cells": scores.cells(rows, settings["eval"]["sampler"])}
    return _artifact(store, task, "eval", settings["eval"], seeds, {"guide": guide}, "d" * 64, files, metrics, at)


def agent_evaluation(
    store: Path,
    task: Task | str,
    returns: dict[int, list[float]],
    algo: str = "td3bc",
    of: str = "data",
    at: str = "2026-01-01T00:00:00Z",
    **changed,
) -> Artifact:
    """An evaluation of an agent, by seed the returns of its episodes, and all that it was made from.

    of       "data": the task's own; "regenerated": its own synthetic data, by `agent.scale`; else sets of synthetic
             data, each by its scale, or "dynamics" for roll-outs of a dynamics model: "0", "1 0", "1 dynamics"
    changed  as for `evaluation`; target: settings of the agent that guides, and the `data` that it learnt from
    """
    task = get(task) if isinstance(task, str) else task
    store, seeds = Store(store), sorted(returns)
    data, policy, target = changed.pop("data", "d" * 64), changed.pop("policy", ""), changed.pop("target", {})
    settings = _settings(task, {"agent_algo": algo} | changed)
    settings["agent"] |= {"environment": task.environment}
    kept = {"environment", "horizon", "references", "episodes", "seed"}
    settings["eval"] = {name: value for name, value in settings["eval"].items() if name in kept}
    settings["eval"]["episodes"] = len(next(iter(returns.values())))

    def make(stage: str, inputs: dict, text: str = "", **more) -> Artifact:
        source = more.pop("data", data)
        params, files = settings[stage] | more, {"made.txt": f"{stage} {text}"}
        return _artifact(store, task, stage, params, seeds, inputs, source, files, {}, at)

    def synthetic(scale: str) -> Artifact:
        guide = {"agent": make("agent", {}, "that guides", **target)}
        if scale == "dynamics":
            return make("synth", {"dynamics": make("dynamics", {}), **guide}, scale)
        return make(
            "synth", {"trajectories": make("trajectories", {})} | (guide if scale != "0" else {}), scale=float(scale)
        )

    if of == "data":
        inputs = {}
    elif of == "regenerated":
        inputs = {"trajectories": make("trajectories", {})}
    else:
        inputs = {f"synth.{i}" if i > 1 else "synth": synthetic(scale) for i, scale in enumerate(of.split(), 1)}
    agent = make("agent", inputs, policy)
    rows = [
        {"seed": seed, "episode": i, "return": value, "length": 10}
        for seed, values in returns.items()
        for i, value in enumerate(values)
    ]
    scores.add_scores(rows, task)
    files, metrics = {"episodes.csv": _table(rows)}, {"cells": scores.cells(rows, None)}
    return _artifact(store, task, "eval", settings["eval"], seeds, {"agent": agent}, data, files, metrics, at)


def _settings(task: Task, changed: dict) -> dict[str, dict]:
    """The settings of every stage, with the `changed` ones, named as for `evaluation`."""
    settings = {
        name: row.settings().keyed() | row.settings().model_dump(exclude={"temperature"})
        for name, row in config.stages().items()
    }
    for name, value in changed.items():
        stage, _, key = name.partition("_")
        settings[stage][key] = value
    place = {"environment": task.environment, "horizon": task.horizon}
    settings["critic"] |= {"task": task.name, **place}
    settings["eval"] |= {**place, "references": task.references and list(task.references)}
    return settings


def _artifact(
    store: Store,
    task: Task,
    stage: str,
    params: dict,
    seeds: list[int],
    inputs: dict[str, Artifact],
    data: str,
    files: dict[str, str],
    metrics: dict,
    at: str,
    card: str | None = None,
) -> Artifact:
    """An artifact of these files, made from the inputs, or from a data file of this sha256 without any."""
    source = None if inputs else {"path": "data.hdf5", "sha256": data}
    where = {"device": "cuda:1", "card": card} if card else {"device": "cpu"}
    digests = {role: one.digest for role, one in inputs.items()}
    record = {
        "stage": stage,
        "revision": 1,
        "task": task.to_json(),
        "key": make_key(stage, 1, params, seeds, digests, source and data),
        "params": params,
        "seeds": seeds,
        "inputs": {
            role: {
                "stage": one.stage,
                "task": one.task,
                "key": one.key,
                "digest": one.digest,
                "path": str(one.path),
            }
            for role, one in inputs.items()
        },
        "source": source,
        "origin": {},
        "chosen": None,
    }

    def make(directory: Path, _) -> dict:
        for name, text in files.items():
            (directory / name).write_text(f"{text} of {record['key']}" if name.endswith(".txt") else text)
        return {"metrics": metrics, "made": {"at": at, "host": "", "versions": {}, **where}}

    artifact, _ = store.build(record, make)
    return artifact


def normal(cells: list[tuple[float, int]], seeds: range, mean=1000.0, spread=100.0, episodes=20, stream=0) -> Returns:
    """Returns about `mean`, which rises with rho and M; each seed has its own level."""
    found = {}
    for rho, m in cells:
        for seed in seeds:
            random = np.random.default_rng([seed, int(10 * rho), m, stream])
            level = mean * (1 + 0.3 * np.tanh(rho / 8) - 0.0004 * rho**2 + 0.05 * np.log2(m)) + spread * random.normal()
            found[rho, m, seed] = (level + spread * random.normal(size=episodes)).tolist()
    return found


def _rows(task: Task, returns: Returns, successes: dict[int, list[int]] | None = None) -> list[dict]:
    rows = [
        {"seed": seed, "rho": float(rho), "candidates": m, "temperature": 1.0, "episode": i, "return": value}
        | {"length": 10, "clamped": 0.0}
        | ({"success": float(successes[seed][i])} if successes else {})
        for (rho, m, seed), values in returns.items()
        for i, value in enumerate(values)
    ]
    scores.add_scores(rows, task)
    return rows


def _table(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _losses(seeds: list[int]) -> list[dict]:
    return [
        {
            "step": step,
            "loss": [1.0 / step + 0.01 * seed for seed in seeds],
            "v": [step * 0.5] * len(seeds),
            "train_s": 1.0,
        }
        for step in range(5, 1001, 5)
    ]


def several(store: Path) -> Path:
    """A store with a whole family, a part of one in two protocols, a task of no paper, and one without scores."""
    for i, task in enumerate(("kitchen-partial-v0", "kitchen-mixed-v0", "kitchen-complete-v0")):
        evaluation(store, task, normal([(r, m) for m in (1, 8) for r in (0.0, 10.0, 15.0)], range(5), 2 + i / 5, 0.1))
    sweep = [(0.0, 1), (5.0, 1), (20.0, 1), (0.0, 8), (20.0, 8)]  # without (5, 8)
    evaluation(store, "hopper-medium-v2", normal(sweep, range(5), 1800))
    evaluation(store, "halfcheetah-medium-v2", normal(sweep, range(5), 5000))
    evaluation(store, "hopper-medium-v2", normal([(20.0, 1)], range(3), 1900), LATER, diffuse_lr=1e-4)
    evaluation(store, "demo", normal([(0.0, 1), (5.0, 1), (10.0, 1)], [0], 2000))
    evaluation(store, replace(get("demo"), name="mine_100", references=None), normal([(0.0, 1)], range(2), 900))
    return store
