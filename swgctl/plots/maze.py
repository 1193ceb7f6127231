"""Trajectories in a maze: of the simulator, of the data, and of synthetic sets (PGD, arXiv 2404.06356, Figure 2)."""

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from swgctl.errors import InputError
from swgctl.evaluation.protocols import DYNAMICS, UNGUIDED
from swgctl.plots.figures import COLOURS, GREY, Picture, panels, publish, tag
from swgctl.plots.sets import (
    agent_names,
    agent_of,
    differences,
    distinct,
    kind_of,
    scale_of,
    select,
    settings_of,
    title_of,
)
from swgctl.store import Artifact, Store
from swgctl.tasks import Task
from swgctl.tasks.replay import MAZES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHOWN = 60  # windows in a panel
COLUMNS, WIDTH = 5, 2.6  # of panels; of one, in inches
LINE = 36  # characters of its title
WALL = "#d1d5db"

Locate = Callable[[Artifact], tuple[Path, str]]  # the data file that a model learnt from, and its sha256


def maze(store: Store, refs: list[str], task: str | None, out: str | None, locate: Locate) -> Path:
    """Draw the positions of the windows of synthetic sets of a Maze2D task, beside those of its data and the agents'
    roll-outs in the simulator; returns the picture's path.

    Raises InputError for another environment, for several tasks, and where the data is gone.
    """
    sets = select(store, refs, task)
    inside = [one for one in sets if one.meta["task"]["environment"] in MAZES]
    if not inside or (refs and len(inside) < len(sets)):
        other = next(one for one in sets if one not in inside)
        raise InputError(
            f"{other.id} is of {other.meta['task']['environment']}, and a maze is drawn of Maze2D alone",
            "swgctl synth --from REF   # a model of: swgctl trajectories local-maze2d-umaze",
        )
    tasks = list(dict.fromkeys(one.task for one in inside))
    if len(tasks) > 1:
        helps = [f"swgctl plot maze --task {name}{store.option}" for name in tasks]
        raise InputError(f"the synthetic sets are of {len(tasks)} mazes, and a picture is of one", helps)
    name = f"maze-{tasks[0]}-{tag(*(one.key for one in inside))}"
    return publish(store, name, out, lambda: draw_maze(inside, locate))


def draw_maze(sets: list[Artifact], locate: Locate) -> Picture:
    """A panel for each agent's roll-outs in the simulator, from states of the data; for windows of the data that begin
    there; and for each set: roll-outs of dynamics models, unguided sets, guided ones by lambda.

    Of member 0 of each, 60 windows at most.
    """
    order = [DYNAMICS, UNGUIDED, "shift", "posterior"]
    names = agent_names(sets)
    acting = {agent_of(one): one.parent("agent") for one in sets if agent_of(one)}
    sets = sorted(distinct(sets), key=lambda one: (order.index(kind_of(one)), scale_of(one)))
    windows = [positions(one) for one in sets]
    data = _data(sets[0], windows[0].shape[1], locate)
    environment = sets[0].meta["task"]["environment"]
    drawn = [(_title("simulator", names[agent]), roll_out(one, environment, data)) for agent, one in acting.items()]
    drawn.append(("data", data[:, :, :2]))
    texts = differences([(kind_of(one), settings_of(one)) for one in sets])
    for one, text, shown in zip(sets, texts, windows, strict=True):
        drawn.append((_title(*title_of(one, names), text), shown))
    free, goal, middle = _maze_of(environment)
    rows, columns = free.shape
    lines = max(title.count("\n") + 1 for title, _ in drawn)
    figure, axes = panels(len(drawn), COLUMNS, WIDTH, WIDTH * (columns - 1) / (rows - 1) + 0.2 * lines)
    figure.set_figheight(figure.get_figheight() + 0.3)
    numbers = []
    for panel, (title, windows_shown) in zip(axes, drawn, strict=True):
        _draw(panel, windows_shown, free, goal, middle)
        panel.set_title(title, fontsize="small")
        numbers += [
            {"panel": title.replace("\n", ", ").replace("$\\lambda$", "lambda"), "window": i, "step": t, "x": x, "y": y}
            for i, window in enumerate(windows_shown.tolist())
            for t, (x, y) in enumerate(window)
        ]
    about = f"{sets[0].task}: {len(data)} windows of {data.shape[1]} rows; a dot is where one begins, the star the goal"
    figure.suptitle(about, x=0.01, ha="left", fontsize="medium")
    return figure, numbers


def _title(*lines: str) -> str:
    return "\n".join(textwrap.fill(line, LINE) for line in lines if line)


def positions(synth: Artifact) -> np.ndarray:
    """x and y of windows of member 0 of a set, (W, L, 2), W at most SHOWN.  Raises CorruptError."""
    from swgctl.tasks import transitions

    data = transitions.read(synth.file("data.hdf5"))
    (rows,) = data.rows_of(synth.seeds[:1])
    windows = rows.reshape(synth.meta["metrics"]["data"]["windows"], -1)[:SHOWN]
    last = data.next_observations[windows[:, -1:]]
    return np.concatenate([data.observations[windows], last], 1)[:, :, :2]


def roll_out(agent: Artifact, environment: str, data: np.ndarray) -> np.ndarray:
    """x and y (W, L, 2) in the simulator, from the first states of the windows of the data (W, L, O), under the mean
    action of member 0 of an agent.  Raises CorruptError."""
    import torch

    from swgctl.policies.agent import load_agent
    from swgctl.tasks.replay import Replay

    actor = load_agent(agent, "cpu").actor
    replay = Replay(environment)
    states = [data[:, 0].astype(np.float64)]
    try:
        for _ in range(data.shape[1] - 1):
            observations = torch.from_numpy(states[-1]).float().expand(actor.seeds, -1, -1)
            actions = actor(observations)[0].numpy()
            states.append(replay.roll(states[-1], actions[:, None])[0][:, 0])
    finally:
        replay.close()
    return np.stack(states, 1)[:, :, :2]


def _data(synth: Artifact, length: int, locate: Locate) -> np.ndarray:
    """Observations (W, length, O) of windows of the data that a set's model learnt from, W at most SHOWN."""
    from swgctl.tasks import transitions, windows

    model = synth.parent("dynamics" if kind_of(synth) == DYNAMICS else "trajectories")
    path, _ = locate(model)
    horizon = Task.from_json(model.meta["task"]).horizon
    data = transitions.read(path, clip_actions=model.params["clip_actions"], horizon=horizon)
    starts = windows.starts(data, length, 1)
    chosen = np.random.default_rng(0).choice(starts, min(SHOWN, len(starts)), replace=False)
    return data.observations[chosen[:, None] + np.arange(length)]


def _maze_of(environment: str) -> tuple[np.ndarray, np.ndarray, float]:
    """Cells without a wall (rows, columns), the goal (2,), and where the wall of cell 0 has its middle, in coordinates
    of the particle."""
    from swgctl.tasks import environments
    from swgctl.tasks.adapters.maze2d import PARTICLE, WALLS

    world = environments.make(environment).unwrapped
    try:
        return world.get_wrapper_attr("free"), world.get_wrapper_attr("goal"), WALLS - PARTICLE
    finally:
        world.close()


def _draw(panel: "Axes", windows: np.ndarray, free: np.ndarray, goal: np.ndarray, middle: float) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    for i, j in np.argwhere(~free) + middle - 0.5:
        panel.add_patch(Rectangle((i, j), 1, 1, facecolor=WALL, edgecolor=WALL, linewidth=0.5))
    panel.add_collection(LineCollection(list(windows), colors=COLOURS[0], linewidths=0.9))
    panel.scatter(windows[:, 0, 0], windows[:, 0, 1], s=5, color=COLOURS[0], linewidths=0, zorder=3)
    panel.scatter([goal[0]], [goal[1]], s=110, marker="*", color=COLOURS[1], edgecolor="white", zorder=4)
    rows, columns = free.shape
    panel.set(xlim=(middle, middle + rows - 1), ylim=(middle, middle + columns - 1), xticks=[], yticks=[])
    panel.set_aspect("equal")
    panel.grid(visible=False)
    panel.spines[:].set_visible(True)
    panel.spines[:].set_color(GREY)
