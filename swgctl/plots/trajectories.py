"""Synthetic data sets side by side: likelihood under their agents, errors against the simulator (PGD, arXiv 2404.06356,
Figures 5 and 6)."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.config.synthetic import GUIDING
from swgctl.errors import InputError
from swgctl.evaluation.protocols import DYNAMICS, UNGUIDED
from swgctl.files import canonical
from swgctl.plots.figures import COLOURS, MARKERS, Picture, panels, publish, style, tag
from swgctl.plots.sets import (
    about_set,
    agent_names,
    agent_of,
    differences,
    distinct,
    kind_of,
    scale_of,
    scaled,
    select,
    settings_of,
)
from swgctl.store import Artifact, Store

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHES: dict[str, dict] = {"posterior": {"linestyle": ":", "markerfacecolor": "white"}, DYNAMICS: {"linestyle": "--"}}
WIDTH, HEIGHT, LEGEND_LINE = 7.0, 4.2, 0.19  # inches, of a panel without its legend, and of a line of that
WIDE = 40  # characters of a label, above which a legend has one column
APART = 0.05  # of two ticks, as a share of the axis
FAR = -100  # a log-likelihood below which the axis is logarithmic


def _publish(
    store: Store, kind: str, sets: list[Artifact], out: str | None, draw: Callable[[list[Artifact]], Picture]
) -> Path:
    tasks = list(dict.fromkeys(one.task for one in sets))
    where = tasks[0] if len(tasks) == 1 else f"{len(tasks)}-tasks"
    return publish(store, f"{kind}-{where}-{tag(*(one.key for one in sets))}", out, lambda: draw(sets))


def _panels(groups: Collection[list[Artifact]], draw: Callable[["Axes", list[Artifact]], object]) -> "Figure":
    """A panel for each group of sets, with a legend below it; `draw` fills one."""
    figure, axes = panels(len(groups), 2, WIDTH, HEIGHT)
    deepest = 0
    for panel, group in zip(axes, groups, strict=False):
        draw(panel, group)
        deepest = max(deepest, _legend(panel))
    figure.set_figheight(-(-len(groups) // 2) * (HEIGHT + LEGEND_LINE * deepest))
    return figure


def _by_task(sets: list[Artifact]) -> list[list[Artifact]]:
    tasks: dict[str, list[Artifact]] = {}
    for one in sets:
        tasks.setdefault(one.task, []).append(one)
    return list(tasks.values())


def _legend(panel: "Axes") -> int:
    """Put a legend below a panel; returns its number of lines."""
    from matplotlib.transforms import ScaledTranslation

    labels = panel.get_legend_handles_labels()[1]
    columns = 1 if max(map(len, labels)) > WIDE else 2
    below = panel.transAxes + ScaledTranslation(0, -0.5, panel.figure.dpi_scale_trans)
    panel.legend(loc="upper left", bbox_to_anchor=(0, 0), bbox_transform=below, borderaxespad=0, ncols=columns)
    return -(-len(labels) // columns)


# -- likelihood --------------------------------------------------------------------------------------------------------


def likelihood(store: Store, refs: list[str], task: str | None, out: str | None) -> Path:
    """Draw the log-likelihood of the actions of synthetic sets under their agents against lambda; returns the path.

    Raises InputError where no set has an agent.
    """
    every = select(store, refs, task)
    sets = [one for one in every if agent_of(one)]
    if not sets:
        raise InputError(
            f"{every[0].id} was generated without an agent, under which its actions would have a likelihood",
            "swgctl synth --from REF --agent REF --lambda 1",
        )
    return _publish(store, "likelihood", sets, out, draw_likelihood)


def draw_likelihood(sets: list[Artifact]) -> Picture:
    """Mean log-likelihood against lambda (PGD, Figure 5): a line for each agent and kind of guidance, which begins at
    the unguided set of that agent.

    Each has the mean over its members, and the range that they span.  Dashed: actions of the agent itself, clipped as
    in an environment; dash-dotted: roll-outs of a dynamics model.
    """
    names = agent_names(sets)
    numbers = [
        about_set(one, names) | {"seed": seed, "likelihood": value, "on_policy": own}
        for of_task in _by_task(sets)
        for one in of_task
        for seed, value, own in zip(
            one.seeds, one.meta["metrics"]["likelihood"], one.meta["metrics"]["on_policy"], strict=True
        )
    ]
    return _panels(_by_task(sets), _draw_likelihood), numbers


def _draw_likelihood(panel: "Axes", sets: list[Artifact]) -> None:
    names = agent_names(sets)
    agents = list(names)
    lines = _lines(sets)
    texts = differences([(f"{agent_of(line[0])} {kind_of(line[-1])}", settings_of(line[-1])) for line in lines])
    scales = sorted({scale_of(one) for one in sets if kind_of(one) != DYNAMICS})
    for line, text in zip(lines, texts, strict=True):
        i, kind = agents.index(agent_of(line[0])), kind_of(line[-1])
        values = {x: np.concatenate([_members(one) for one in line if scale_of(one) == x]) for x in map(scale_of, line)}
        look = style(i) | DASHES.get(kind, {})
        label = "; ".join(filter(None, (f"{kind}, {names[agents[i]]}", text)))
        panel.plot(list(values), [value.mean() for value in values.values()], label=label, **look)
        low, high = zip(*((value.min(), value.max()) for value in values.values()), strict=True)
        panel.fill_between(list(values), low, high, color=look["color"], alpha=0.15, linewidth=0)
    _scale_axis(panel, scales)
    for i, agent in enumerate(agents):
        of_agent = [one for one in sets if agent_of(one) == agent]
        own = np.mean([value for one in of_agent for value in one.meta["metrics"]["on_policy"]])
        panel.axhline(own, **_level(i), linestyle="--")
        if rolled := [one for one in of_agent if kind_of(one) == DYNAMICS]:
            panel.axhline(np.concatenate([_members(one) for one in rolled]).mean(), **_level(i), linestyle="-.")
    panel.plot([], [], color="black", linewidth=1.1, linestyle="--", label="the agent's own actions")
    if any(kind_of(one) == DYNAMICS for one in sets):
        panel.plot([], [], color="black", linewidth=1.1, linestyle="-.", label=f"{DYNAMICS} under the agent")
    if panel.get_ylim()[0] < FAR:
        panel.set_yscale("symlog", linthresh=10)
    panel.set(xlabel=r"$\lambda$", ylabel="mean log-likelihood of an action")
    panel.set_title(f"{sets[0].task}\nactions of synthetic data under the agent, mean and range of the members")


def _lines(sets: list[Artifact]) -> list[list[Artifact]]:
    """The sets of each line, by lambda: those of one agent that differ by lambda and their sample alone, with the
    unguided ones of the same agent, model and walk."""
    guided: dict[str, list[Artifact]] = {}
    unguided: dict[str, list[Artifact]] = {}
    for one in sets:
        if kind_of(one) != DYNAMICS:
            lines = unguided if kind_of(one) == UNGUIDED else guided
            lines.setdefault(canonical([agent_of(one), settings_of(one)]), []).append(one)
    starts = {name: _walk_of(line[0]) for name, line in unguided.items()}
    whole, joined = [], set()
    for line in guided.values():
        begin = [name for name, walk in starts.items() if walk == _walk_of(line[0])]
        joined |= set(begin)
        whole.append(sorted([one for name in begin for one in unguided[name]] + line, key=scale_of))
    order = list(agent_names(sets))
    whole += [line for name, line in unguided.items() if name not in joined]
    return sorted(whole, key=lambda line: (order.index(agent_of(line[0])), kind_of(line[-1]) != "shift"))


def _walk_of(synth: Artifact) -> str:
    """What a guided set has in common with the unguided one at which its line begins."""
    settings = {name: value for name, value in settings_of(synth).items() if name not in GUIDING}
    return canonical([agent_of(synth), settings])


def _members(synth: Artifact) -> np.ndarray:
    return np.array(synth.meta["metrics"]["likelihood"])


def _level(i: int) -> dict:
    """The look of a level of agent i, whose marker stands at both ends."""
    return {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "linewidth": 1.1}


def _scale_axis(panel: "Axes", scales: list[float]) -> None:
    """A logarithmic axis of lambda, with 0 beside it; a tick at each value, but where two would touch."""
    from matplotlib.ticker import NullLocator

    positive = [scale for scale in scales if scale > 0]
    if positive:
        panel.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
    at = panel.xaxis.get_transform().transform(np.array(scales, float))
    ticks: list[int] = []
    for i, x in enumerate(at):
        if not ticks or x - at[ticks[-1]] >= APART * (at[-1] - at[0]):
            ticks.append(i)
    panel.set_xticks([scales[i] for i in ticks], [f"{scales[i]:g}" for i in ticks])
    panel.xaxis.set_minor_locator(NullLocator())


# -- errors ------------------------------------------------------------------------------------------------------------


def error(store: Store, refs: list[str], task: str | None, out: str | None) -> Path:
    """Draw the errors of synthetic sets against the simulator by the number of steps; returns the path.

    Raises InputError where no set has errors.
    """
    every = select(store, refs, task)
    sets = [one for one in every if any(_horizons(one))]
    if not sets:
        environment = every[0].meta["task"]["environment"]
        raise InputError(
            f"{every[0].id} has no errors against a simulator: an observation of {environment} does not determine its "
            "state",
            "swgctl ls --stage synth",
        )
    return _publish(store, "error", distinct(sets), out, draw_error)


def draw_error(sets: list[Artifact]) -> Picture:
    """Squared error of the observation after h = 1 .. L - 1 steps from a window's first state, in units of the data's
    deviation (PGD, Figure 6): a panel for each task and agent, with a line for each set, the mean over its members, and
    the range that they span.  Unguided sets, which no agent changes, stand in all panels of their task."""
    names, order = agent_names(sets), [UNGUIDED, "shift", "posterior", DYNAMICS]
    sets = sorted(sets, key=lambda one: (order.index(kind_of(one)), [*names, ""].index(agent_of(one)), scale_of(one)))
    groups = []
    for of_task in _by_task(sets):
        agents = dict.fromkeys(agent_of(one) for one in of_task if kind_of(one) != UNGUIDED) or {"": None}
        groups += [[one for one in of_task if kind_of(one) == UNGUIDED or agent_of(one) == agent] for agent in agents]
    numbers = [
        about_set(one, names) | {"seed": seed, "step": h, "error": error, "error_raw": raw}
        for one in sets
        for seed, ours, theirs in zip(
            one.seeds, _horizons(one), one.meta["metrics"]["dynamics"]["horizon_raw"], strict=True
        )
        for h, (error, raw) in enumerate(zip(ours or [], theirs or [], strict=True), 1)
    ]
    return _panels(groups, partial(_draw_error, names=names)), numbers


def _draw_error(panel: "Axes", sets: list[Artifact], names: dict[str, str]) -> None:
    for i, (one, text) in enumerate(
        zip(sets, differences([(kind_of(one), settings_of(one)) for one in sets]), strict=True)
    ):
        values = np.array([row for row in _horizons(one) if row])
        steps = np.arange(1, values.shape[1] + 1)
        look = style(i) | DASHES.get(kind_of(one), {})
        panel.plot(steps, values.mean(0), label="; ".join(filter(None, (scaled(one), text))), **look)
        panel.fill_between(steps, values.min(0), values.max(0), color=look["color"], alpha=0.12, linewidth=0)
    panel.set_yscale("log")
    longest = max(len(row) for one in sets for row in _horizons(one) if row)
    panel.set_xticks(range(1, longest + 1, -(-longest // 16)))
    panel.set(xlabel="steps from the first state", ylabel="squared error (variance of the data = 1)")
    agent = next((names[agent_of(one)] for one in sets if kind_of(one) != UNGUIDED), None)
    title = ", ".join(filter(None, (sets[0].task, agent)))
    panel.set_title(f"{title}\nobservations against the simulator's, mean and range of the members")


def _horizons(synth: Artifact) -> list[list[float] | None]:
    """Errors by the number of steps, (L - 1) for each member, None where all its windows were left out; empty for a set
    without errors."""
    return synth.meta["metrics"].get("dynamics", {}).get("horizon", [])
