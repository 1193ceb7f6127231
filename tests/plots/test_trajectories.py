"""Synthetic sets in pictures: what they show is what the artifacts hold."""

import csv
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.fake_evaluations import agent_evaluation
from support.harness import swgctl

from swgctl.errors import InputError
from swgctl.plots.maze import draw_maze
from swgctl.plots.sets import agent_names, differences
from swgctl.plots.trajectories import draw_error, draw_likelihood
from swgctl.stages.inputs import locate_data
from swgctl.store import Artifact, Store
from swgctl.tasks import waypoints
from swgctl.tasks.replay import Replay

MAZE = "swgctl/Maze2dUMaze-v1"


@pytest.fixture(scope="module")
def sets(built, tmp_path_factory) -> dict[str, Artifact]:
    """Synthetic sets of two members in a maze, by name; not to be written to."""
    folder = tmp_path_factory.mktemp("maze")
    data, store = folder / "umaze.hdf5", folder / "store"
    with h5py.File(data, "w") as file:
        for name, array in waypoints.walk(MAZE, 2, 150, 50, "a test").items():
            file[name] = array.reshape(-1, *array.shape[2:])

    def make(stage: str, *words) -> Path:
        return swgctl(stage, *words, "--store", store, "--recipe", built.recipe).path

    task = data, "--env", MAZE, "--seeds", "0-1"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWGCTL_SCOPE", "maze")
        models = {stage: make(stage, *task) for stage in ("trajectories", "dynamics")}
        agents = {algo: make("agent", *task, "--algo", algo) for algo in ("td3bc", "iql")}

        def synth(model: str, agent: str | None, *words) -> Artifact:
            guide = ("--agent", agents[agent]) if agent else ()
            return Artifact(make("synth", "--from", models[model], *guide, *words))

        return {
            "bare": synth("trajectories", None, "--lambda", 0),
            "unguided": synth("trajectories", "td3bc", "--lambda", 0),
            "weak": synth("trajectories", "td3bc", "--lambda", 0.5),
            "strong": synth("trajectories", "td3bc", "--lambda", 2),
            "posterior": synth("trajectories", "td3bc", "--guidance", "posterior"),
            "of iql": synth("trajectories", "iql"),
            "rolled": synth("dynamics", "iql"),
        }


@pytest.fixture
def store(sets, tmp_path) -> Path:
    shutil.copytree(sets["bare"].store.root, tmp_path / "store", ignore=shutil.ignore_patterns("current", "locks"))
    return tmp_path / "store"


def numbers(answer) -> list[dict]:
    return list(csv.DictReader(answer.path.with_suffix(".png.csv").open()))


def metric(synth: Artifact, name: str) -> list:
    return synth.meta["metrics"][name]


# -- likelihood --------------------------------------------------------------------------------------------------------


def test_likelihood_is_that_of_every_set_with_an_agent(sets, store):
    drawn = numbers(swgctl("plot", "likelihood"))
    with_agent = {one.id: one for name, one in sets.items() if name != "bare"}
    assert {row["set"] for row in drawn} == set(with_agent)
    for row in drawn:
        one = with_agent[row["set"]]
        member = one.seeds.index(int(row["seed"]))
        assert float(row["likelihood"]) == metric(one, "likelihood")[member]
        assert float(row["on_policy"]) == metric(one, "on_policy")[member]
        assert row["lambda"] == ("" if one is sets["rolled"] else str(one.params["scale"]))
    assert {row["agent"] for row in drawn} == {"TD3+BC of umaze", "IQL of umaze"}


def test_lines_of_an_agent_begin_at_its_unguided_set(sets):
    figure, _ = draw_likelihood([one for name, one in sets.items() if name != "bare"])
    (panel,) = figure.axes
    lines = {line.get_label(): line for line in panel.lines}
    shift, posterior = (lines[f"{kind}, TD3+BC of umaze"] for kind in ("shift", "posterior"))
    for line, names in ((shift, ("unguided", "weak", "strong")), (posterior, ("unguided", "posterior"))):
        assert list(line.get_xdata()) == [sets[name].params["scale"] for name in names]
        np.testing.assert_allclose(line.get_ydata(), [np.mean(metric(sets[name], "likelihood")) for name in names])
    assert list(lines["shift, IQL of umaze"].get_xdata()) == [1]  # it has no unguided set
    assert (shift.get_color(), shift.get_linestyle()) == (posterior.get_color(), "-")
    assert (posterior.get_linestyle(), posterior.get_markerfacecolor()) == (":", "white")
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0", "0.5", "1", "2"]


def test_levels_are_those_of_the_agent_and_of_the_dynamics_model(sets):
    figure, _ = draw_likelihood([sets["weak"], sets["of iql"], sets["rolled"]])
    levels = [(line.get_linestyle(), line.get_ydata()[0]) for line in figure.axes[0].lines if len(line.get_ydata()) > 1]
    assert [style for style, _ in levels] == ["--", "--", "-."]
    of_agents = (["weak"], ["of iql", "rolled"])  # the sets of each of two agents
    expected = [np.mean([metric(sets[name], "on_policy") for name in names]) for names in of_agents]
    expected.append(np.mean(metric(sets["rolled"], "likelihood")))
    np.testing.assert_allclose([value for _, value in levels], expected)


def test_sets_that_differ_in_more_than_lambda_are_lines_of_their_own(sets, store, built):
    words = ("--from", sets["weak"].parent("trajectories").path, "--agent", sets["weak"].parent("agent").path)
    made = swgctl("synth", *words, "--lambda", 0.5, "--set", "synth.ramp=0.1", "--recipe", built.recipe)
    figure, _ = draw_likelihood([sets["weak"], sets["strong"], Artifact(made.path)])
    labels = [line.get_label() for line in figure.axes[0].lines if "shift" in line.get_label()]
    assert labels == ["shift, TD3+BC of umaze; ramp = 0.3", "shift, TD3+BC of umaze; ramp = 0.1"]


def test_an_agent_that_is_gone_has_the_name_of_its_task(sets, monkeypatch):
    def gone(*_):
        raise InputError("gone")

    monkeypatch.setattr(Artifact, "parent", gone)
    assert list(agent_names([sets["weak"]]).values()) == ["agent of umaze"]
    names = agent_names([sets["weak"], sets["of iql"]]).values()
    assert {name[:15] for name in names} == {"agent of umaze "}
    assert len(set(names)) == 2  # by their keys


def test_differences_are_of_one_kind():
    kinds = [("a", {"levels": 4, "churn": 0.0}), ("a", {"levels": 8, "churn": 0.0}), ("b", {"levels": 2})]
    assert differences(kinds) == ["levels = 4", "levels = 8", ""]
    assert differences([kinds[0], *kinds]) == ["", "", "levels = 8", ""]  # but for what most have


# -- errors ------------------------------------------------------------------------------------------------------------


def test_errors_are_those_of_every_set_by_step(sets, store):
    drawn = numbers(swgctl("plot", "error"))
    shown = {row["set"] for row in drawn}
    assert len(shown & {sets["bare"].id, sets["unguided"].id}) == 1  # the same windows
    assert len(shown) == len(sets) - 1
    for one in (one for one in sets.values() if one.id in shown):
        rows = [row for row in drawn if row["set"] == one.id]
        for name, column in (("horizon", "error"), ("horizon_raw", "error_raw")):
            assert [float(row[column]) for row in rows] == np.ravel(metric(one, "dynamics")[name]).tolist()
        assert [int(row["step"]) for row in rows] == 2 * list(range(1, 8))


def test_a_line_of_errors_is_the_mean_over_the_members(sets):
    """A panel for each agent, the unguided set in both."""
    figure, rows = draw_error([sets["rolled"], sets["posterior"], sets["strong"], sets["bare"]])
    td3bc, iql = figure.axes
    assert (td3bc.get_yscale(), iql.get_yscale()) == ("log", "log")
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == [
        f"{sets['bare'].task}, {agent} of umaze" for agent in ("TD3+BC", "IQL")
    ]
    shown = {td3bc: ("bare", "strong", "posterior"), iql: ("bare", "rolled")}
    labels = [["unguided", r"shift, $\lambda$ = 2", r"posterior, $\lambda$ = 1"], ["unguided", "dynamics model"]]
    assert [[line.get_label() for line in axes.lines] for axes in shown] == labels
    for axes, names in shown.items():
        for line, name in zip(axes.lines, names, strict=True):
            np.testing.assert_allclose(line.get_ydata(), np.mean(metric(sets[name], "dynamics")["horizon"], 0))
    assert len({(row["set"], row["seed"], row["step"]) for row in rows}) == len(rows)


# -- mazes -------------------------------------------------------------------------------------------------------------


def test_a_maze_has_a_panel_for_each_source(sets, store):
    chosen = ("strong", "rolled", "bare")
    drawn = numbers(swgctl("plot", "maze", *(sets[name].id for name in chosen)))
    rolled, strong = "dynamics model, IQL of umaze", "shift, lambda = 2, TD3+BC of umaze"
    panels = list(dict.fromkeys(row["panel"] for row in drawn))
    simulated = [f"simulator, {agent} of umaze" for agent in ("TD3+BC", "IQL")]
    assert (sorted(panels[:2]), panels[2:]) == (sorted(simulated), ["data", rolled, "unguided", strong])
    at = {
        name: np.array([[float(row["x"]), float(row["y"])] for row in drawn if row["panel"] == name]) for name in panels
    }
    for panel, name in ((rolled, "rolled"), ("unguided", "bare"), (strong, "strong")):
        with h5py.File(sets[name].file("data.hdf5")) as file:
            rows = file["infos/seed"][()] == 0
            expected = file["observations"][()][rows].reshape(12, 7, 4)[:, :, :2]
            last = file["next_observations"][()][rows].reshape(12, 7, 4)[:, -1:, :2]
        np.testing.assert_allclose(at[panel].reshape(12, 8, 2), np.concatenate([expected, last], 1))
    data = at["data"].reshape(-1, 8, 2)
    for name in simulated:
        path = at[name].reshape(-1, 8, 2)
        np.testing.assert_allclose(path[:, 0], data[:, 0])
        assert np.abs(np.diff(path, axis=1)).max() < 0.06  # 5 m/s for 0.01 s


def test_walls_are_where_the_particle_meets_them(sets):
    figure, numbers = draw_maze([sets["bare"]], locate_data)
    assert {row["panel"] for row in numbers} == {"data", "unguided"}
    walls = [patch.get_bbox() for patch in figure.axes[0].patches]
    assert len(walls) == 18  # of 25 cells
    replay = Replay(MAZE)
    for push, wall in (([0, -1], (1, 0)), ([-1, 0], (0, 1))):
        states, _ = replay.roll(np.array([[1.0, 1.0, 0.0, 0.0]]), np.tile(np.array(push, float), (1, 150, 1)))
        x, y = states[0, -1, :2]
        box = min(walls, key=lambda one: np.hypot(*(one.min + one.max) / 2 - wall))
        gap = y - box.y1 if push[1] else x - box.x1
        assert gap == pytest.approx(0.1, abs=0.02)  # the particle's radius
    replay.close()


# -- refusals ----------------------------------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", ["likelihood", "error", "maze"])


@KINDS
def test_without_a_set_there_is_no_picture(kind):
    swgctl("plot", kind).refused(3, "has no synthetic data set")
    swgctl("plot", kind, "--task", "demo").refused(3, "has no synthetic data set of 'demo'")


@KINDS
def test_an_artifact_of_another_stage_is_refused(kind, chain):
    swgctl("plot", kind, chain.made("critic")).refused(3, "is a critic", "synthetic data sets")


@KINDS
def test_sets_of_another_task_are_refused(kind, sets, store):
    swgctl("plot", kind, sets["weak"].id, "--task", "demo").refused(3, "of umaze, not of 'demo'")


def test_a_set_without_an_agent_has_no_likelihood(sets, store):
    swgctl("plot", "likelihood", sets["bare"].id).refused(3, sets["bare"].id, "without an agent")


@pytest.fixture
def pen(tmp_path) -> Artifact:
    """A set in an environment that cannot be set to the state of an observation."""
    agent_evaluation(tmp_path / "store", "pen-human-v1", {0: [1.0]}, of="0")
    return next(Store(tmp_path / "store").artifacts("synth"))


def test_an_environment_that_cannot_be_set_has_no_errors(pen):
    swgctl("plot", "error", pen.id).refused(3, pen.id, "swgctl/AdroitPen-v1 does not determine its state")


def test_a_maze_is_drawn_of_maze2d_alone(pen, sets):
    swgctl("plot", "maze").refused(3, pen.id, "swgctl/AdroitPen-v1")
    swgctl("plot", "maze", sets["bare"].path, pen.id).refused(3, pen.id)
