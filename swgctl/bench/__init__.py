"""Rates of training, sampling and evaluation at the paper's sizes, or a recipe's, against the machine's limit.

A rate is the median of several repeats, which take turns, so that noise of the machine affects all cases alike.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import torch

from swgctl import config, console
from swgctl.bench import inference, synthetic
from swgctl.bench.cases import HORIZON, ROWS, SETTINGS, evaluation_case, sampling_case, training_case
from swgctl.bench.measure import measure, modes, precisions
from swgctl.config import EvalSettings, Resolved
from swgctl.console import quoted, say
from swgctl.errors import UsageError, closest, nearest


def train_table(what: str, seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """Training steps of one member and of all, in every mode and precision."""
    counts = list(dict.fromkeys([1, seeds]))
    makers = [
        partial(training_case, what, SETTINGS[what](), n, mode, precision, device)
        for n, mode, precision in itertools.product(counts, modes(device), precisions(device))
    ]
    yield from measure(makers, device, repeats)


def sample_table(seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """Guided and unguided sampling; a step is the network's work for one environment step."""
    makers = [
        partial(sampling_case, guided, seeds, precision, device)
        for precision, guided in itertools.product(precisions(device), (False, True))
    ]
    yield from measure(makers, device, repeats)


SWEEP = [1.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0], [1, 2, 4, 8, 16]  # the paper's rho and M


def eval_table(seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """One cell with 1 candidate, one with 16, and the paper's sweep of 35; a step is one of all environments."""
    precision = EvalSettings().precision
    with ExitStack() as stack:
        cells = [([10.0], [1]), ([10.0], [16]), SWEEP]
        makers = [partial(evaluation_case, *cell, seeds, precision, device, stack) for cell in cells]
        yield from measure(makers, device, repeats)


AXES = {"batch": (64, 256, 1024, 4096), "width": (64, 128, 256, 512), "rows": (10_000, 100_000, 1_000_000)}


def scaling_table(seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """Growth of a training step's cost along one axis, with the others at the paper's sizes."""
    mode = "graph" if device.type == "cuda" else "eager"
    for what, (axis, values) in itertools.product(SETTINGS, (AXES | {"seeds": sorted({1, 2, seeds})}).items()):
        makers = []
        for value in values:
            settings = SETTINGS[what](**{"batch": {"batch": value}, "width": _width(what, value)}.get(axis, {}))
            members, rows = (value if axis == name else usual for name, usual in (("seeds", 1), ("rows", ROWS)))
            how = (mode, settings.precision, device, rows)
            makers.append(partial(training_case, what, settings, members, *how, axis=axis, value=value))
        yield from measure(makers, device, repeats, 0.3)


def _width(what: str, value: int) -> dict:
    return {"hidden": [value, value]} if what == "critic" else {"width": value}


DEFAULT = ("critic", "diffuse", "sample", "eval")
SIZED: dict[str, Callable[[Resolved, int, torch.device, int], Iterator[dict]]] = {  # by a recipe
    "trajectories": synthetic.trajectories_table,
    "synth": synthetic.synth_table,
    "agent": synthetic.agent_table,
}
TABLES: dict[str, Callable[[Resolved, int, torch.device, int], Iterator[dict]]] = {
    "critic": lambda sizes, *how: train_table("critic", *how),
    "diffuse": lambda sizes, *how: train_table("diffuse", *how),
    "sample": lambda sizes, *how: sample_table(*how),
    "eval": lambda sizes, *how: eval_table(*how),
    **SIZED,
    "scaling": lambda sizes, *how: scaling_table(*how),
    "inference": lambda sizes, seeds, device, repeats: inference.table(repeats, device),
}


LABELS = ("what", "axis", "value", "algo", "mode", "guidance", "precision", "seeds", "batch", "cells", "levels")
COLUMNS: dict[str, tuple[str, float, str]] = {  # title: field, unit, format
    "steps/s": ("steps_per_s", 1, ",.1f"),
    "seed-steps/s": ("seed_steps_per_s", 1, ",.1f"),
    "GFLOP a step": ("flop_per_step", 1e9, ",.2f"),
    "GFLOP/s": ("flop_per_s", 1e9, ",.0f"),
    "limit": ("limit_flop_per_s", 1e9, ",.0f"),
    "share": ("share_of_limit", 1, ".0%"),
    "peak MB": ("peak_bytes", 1e6, ",.0f"),
    "parameters": ("parameters", 1, ","),
    "ms": ("seconds_mean", 1e-3, ",.2f"),
    "2 sd": ("seconds_sd", 0.5e-3, ",.2f"),
    "runs": ("runs", 1, ","),
    "times plain": ("times_plain", 1, ",.2f"),
    "us a call": ("call_s", 1e-6, ",.1f"),
    "recipe, s": ("recipe_s", 1, ",.0f"),
}


def report(names: list[str], seeds: int, repeats: int, device: str, as_json: bool, recipe: str | None = None) -> None:
    """Print a table a name on stderr, or with `as_json` one object a row on stdout, as measured.

    recipe  sets the sizes of trajectories, synth and agent, on top of the local recipe

    Raises UsageError.
    """
    for name in names:
        if name not in TABLES:
            raise UsageError(
                f"no table '{name}' to measure{nearest(name, TABLES)}",
                f"swgctl bench {closest(name, TABLES) or DEFAULT[0]}   # or {', '.join(TABLES)}",
            )
    if recipe and not SIZED.keys() & set(names):
        raise UsageError(
            f"--recipe sets the sizes of {', '.join(SIZED)}; the others have the paper's",
            f"swgctl bench {' '.join(SIZED)} --recipe {quoted(recipe)}",
        )
    sizes = config.resolve(None, synthetic.RECIPE, recipe=recipe)
    measured: list[dict] = []
    for name in names or DEFAULT:
        say(f"bench: measuring {name}")
        rows: list[dict] = []
        for row in TABLES[name](sizes, seeds, torch.device(device), repeats):
            rows.append(row)
            if as_json:
                print(json.dumps(row), flush=True)
        if not as_json:
            _print(name, rows)
        measured += rows
    if whole := protocol(measured):
        if as_json:
            print(json.dumps(whole))
        hours = whole["seconds"] / 3600
        say(
            f"the paper's protocol for a locomotion task, {whole['seeds']} seed(s) as one: {hours:.1f} h at these rates"
        )


def protocol(rows: list[dict]) -> dict | None:
    """Duration of the paper's protocol for a locomotion task at the rates of the fastest mode and precision.

    A million steps each of the critic and of diffusion, and the sweep's 1,000 environment steps, for the measured
    number of seeds.  None unless all three were measured.
    """
    seeds = max((row["seeds"] for row in rows if "seeds" in row), default=0)
    sweep = len(SWEEP[0]) * len(SWEEP[1])
    seconds = 0.0
    for what, steps in (("critic", 1e6), ("diffuse", 1e6), ("eval", HORIZON)):
        alike = [row for row in rows if row["what"] == what and row["seeds"] == seeds and "axis" not in row]
        rates = [row["steps_per_s"] for row in alike if row.get("cells", sweep) == sweep]
        if not rates:
            return None
        seconds += steps / max(rates)
    return {"what": "protocol", "seeds": seeds, "device": rows[0]["device"], "seconds": seconds}


def _print(name: str, rows: list[dict]) -> None:
    """Print the labels and the numbers that these rows have."""
    labels = [label for label in LABELS if label in rows[0]]
    columns = {title: column for title, column in COLUMNS.items() if column[0] in rows[0]}
    lines = [
        [
            *(str(row[label]) for label in labels),
            *(_text(row[field], unit, form) for field, unit, form in columns.values()),
        ]
        for row in rows
    ]
    console.table(f"{name} on {rows[0]['device']}", [*labels, *columns], lines)


def _text(value: float, unit: float, form: str) -> str:
    return format(value if unit == 1 else value / unit, form)
