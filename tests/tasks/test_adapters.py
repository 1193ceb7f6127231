"""D4RL's environments: against its numbers, its physics, and the rewards that were recorded with it.

The trajectories below are what D4RL's own XML files gave in MuJoCo 2.2.0.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import gymnasium
import h5py
import mujoco
import numpy as np
import pytest
from numpy.linalg import norm

from swgctl.errors import UsageError
from swgctl.tasks import environments

HORIZONS = {
    "AntMazeUMaze-v2": 700,
    "AntMazeMedium-v2": 1000,
    "AntMazeLarge-v2": 1000,
    "Maze2dUMaze-v1": 300,
    "Maze2dMedium-v1": 600,
    "Maze2dLarge-v1": 800,
    "Maze2dUMazeDense-v1": 300,
    "Maze2dMediumDense-v1": 600,
    "Maze2dLargeDense-v1": 800,
    "KitchenMicrowaveKettleLightSlider-v0": 280,
    "KitchenMicrowaveKettleBottomBurnerLight-v0": 280,
    "AdroitPen-v1": 100,
    "AdroitDoor-v1": 200,
    "AdroitHammer-v1": 200,
    "AdroitRelocate-v1": 200,
}
SHAPES = {"AntMaze": (29, 8), "Maze2d": (4, 2), "Kitchen": (60, 9)}
SHAPES |= {"AdroitPen": (45, 24), "AdroitDoor": (39, 28), "AdroitHammer": (46, 26), "AdroitRelocate": (39, 30)}
HANDS = ("Pen", "Door", "Hammer", "Relocate")
SLIDER, BURNER = "KitchenMicrowaveKettleLightSlider-v0", "KitchenMicrowaveKettleBottomBurnerLight-v0"
MAZES = ("UMaze", "Medium", "Large")
# Cells (row, column) to which the ant goes, from (1, 1), and to which the particle goes.
ANT_GOALS = {"UMaze": (3, 1), "Medium": (6, 6), "Large": (7, 9)}
GOALS = {"UMaze": (1, 1), "Medium": (6, 6), "Large": (7, 9)}
# D4RL's rows, a bit for each cell, 1 for a wall; the same for ant and particle.
ROWS = {
    "UMaze": [31, 17, 29, 17, 31],
    "Medium": [255, 153, 145, 199, 145, 165, 137, 255],
    "Large": [4095, 2113, 2901, 2065, 3037, 2369, 3415, 2321, 4095],
}
WALL = {maze: np.array([[bit == "1" for bit in f"{row:b}"] for row in rows]) for maze, rows in ROWS.items()}

has_robotics = importlib.util.find_spec("gymnasium_robotics") is not None
robotics = pytest.mark.skipif(not has_robotics, reason="gymnasium-robotics is not installed")
EVERY = [pytest.param(name, marks=robotics if name.startswith(("K", "Ad")) else ()) for name in HORIZONS]


def make(name):
    return environments.make(f"swgctl/{name}")


def bare(name, seed=0):
    """Without the clock, and reset."""
    env = make(name).unwrapped
    env.reset(seed=seed)
    return env


def put(env, **joints):
    """Set the position of some joints, and every velocity to 0."""
    qpos = env.data.qpos.copy()
    for name, value in joints.items():
        start = env.model.joint(name).qposadr[0]
        qpos[start : start + np.size(value)] = value
    env.set_state(qpos, np.zeros(env.model.nv))


def play(env, qpos, actions):
    """Every position (T, nq) on the way from rest at `qpos`."""
    env.set_state(np.array(qpos, float), np.zeros(env.model.nv))
    path = []
    for action in actions:
        env.step(action)
        path.append(env.data.qpos.copy())
    return np.array(path)


def waves(steps, actions):
    """Actions (steps, actions) that swing."""
    return np.sin(0.7 * np.arange(steps)[:, None] + np.arange(actions))


# ---- every one of them


@pytest.mark.parametrize("name", EVERY)
def test_an_episode_runs_to_its_horizon(name):
    env = make(name)
    shape = next(shape for family, shape in SHAPES.items() if name.startswith(family))
    assert (env.observation_space.shape, env.action_space.shape) == ((shape[0],), (shape[1],))
    assert (env.observation_space.dtype, env.action_space.dtype) == (np.float64, np.float32)
    assert (env.action_space.low.min(), env.action_space.high.max()) == (-1, 1)
    observation, _ = env.reset(seed=3)
    env.action_space.seed(3)
    steps, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        assert observation in env.observation_space
        observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        assert (type(reward), type(terminated)) == (float, bool)
        steps += 1
    if name == "AdroitPen-v1":  # a hand that fidgets drops the pen
        assert terminated
        assert env.spec.max_episode_steps == 100
    else:
        assert steps == HORIZONS[name]
        assert not terminated


@pytest.mark.parametrize("name", EVERY)
def test_an_episode_follows_from_its_seed(name):
    env = make(name)
    actions = np.random.default_rng(0).uniform(-1, 1, (20, *env.action_space.shape)).astype(np.float32)

    def episode(seed):
        first, _ = env.reset(seed=seed)
        rows = [np.append(*env.step(action)[:2]) for action in actions]
        return np.concatenate([first, *rows])

    one, other, again = (episode(seed) for seed in (1, 2, 1))
    np.testing.assert_array_equal(again, one)
    assert not np.array_equal(other, one)


@pytest.mark.parametrize("name", EVERY)
def test_actions_are_clipped(name):
    env = bare(name)
    action = np.linspace(-3, 3, env.action_space.shape[0])
    env.step(action)
    asked = env.data.ctrl.copy()
    env.reset(seed=0)
    env.step(np.clip(action, -1, 1))
    np.testing.assert_array_equal(env.data.ctrl, asked)


def test_registering_imports_no_simulator():
    code = "import swgctl.tasks.adapters, sys; print({'mujoco', 'gymnasium_robotics', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")


@robotics
def test_making_one_says_nothing():
    code = f"import swgctl.tasks.environments as e; [e.make('swgctl/' + n) for n in ('AdroitDoor-v1', '{SLIDER}')]"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


@pytest.mark.parametrize("name", ["AdroitDoor-v1", SLIDER])
def test_what_is_missing_is_named(name, monkeypatch):
    for module in ("adroit", "kitchen"):
        monkeypatch.delitem(sys.modules, f"swgctl.tasks.adapters.{module}", raising=False)
    for module in {"gymnasium_robotics", *sys.modules}:
        if module.startswith("gymnasium_robotics"):
            monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match="gymnasium_robotics"):
        gymnasium.make(f"swgctl/{name}")
    with pytest.raises(UsageError, match="gymnasium_robotics"):
        make(name)


@pytest.mark.parametrize(
    ("name", "margin"),
    [
        ("AntMazeUMaze-v2", 0.01),
        ("Maze2dUMaze-v1", 0.002),
        pytest.param("AdroitRelocate-v1", 0.0005, marks=robotics),
        pytest.param(SLIDER, 0.001, marks=robotics),
    ],
)
def test_contacts_begin_at_one_margin_whatever_the_mujoco(name, margin):
    env, seen = bare(name), set()
    for action in waves(30, env.action_space.shape[0]):
        env.step(action)
        seen |= {round(float(contact.includemargin), 9) for contact in env.data.contact}
    seen.discard(0.0)  # of pairs that a model names
    assert seen == {margin}


# ---- AntMaze


def test_the_ant_is_d4rls():
    env = bare("AntMazeUMaze-v2")
    model = env.model
    assert (model.opt.timestep, model.opt.integrator) == (0.02, mujoco.mjtIntegrator.mjINT_RK4)
    assert env.dt == pytest.approx(0.1)
    np.testing.assert_array_equal(model.actuator_gear[:, 0], 1)
    np.testing.assert_array_equal(model.actuator_ctrlrange, [[-30, 30]] * 8)
    motors = ["hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"]
    assert [model.joint(i).name for i in model.actuator_trnid[:, 0]] == motors
    capsule = np.pi * 0.08**2 * (np.sqrt(0.08) + 4 / 3 * 0.08)
    ankle = np.pi * 0.08**2 * (np.sqrt(0.32) + 4 / 3 * 0.08)
    torso = 4 / 3 * np.pi * 0.25**3
    np.testing.assert_allclose(model.body("torso").mass, 5 * torso)
    np.testing.assert_allclose(model.body_mass.sum(), 5 * (torso + 8 * capsule + 4 * ankle))
    hip, up, down = (-30, 30), (30, 70), (-70, -30)
    np.testing.assert_allclose(np.degrees(model.jnt_range[1:]), [hip, up, hip, down, hip, down, hip, up])
    np.testing.assert_array_equal(model.dof_armature, [0] * 6 + [1] * 8)
    np.testing.assert_array_equal(model.dof_damping, [0] * 6 + [1] * 8)
    np.testing.assert_array_equal(model.geom_friction, [[1, 0.5, 0.5]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_solref, [[0.02, 1]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_solimp, [[0.8, 0.8, 0.01, 0.5, 2]] * model.ngeom)
    np.testing.assert_array_equal(model.geom_condim, 3)


def test_the_ant_moves_as_in_d4rls_files():
    env = bare("AntMazeUMaze-v2")
    end = play(env, env.init_qpos, waves(20, 8))[-1]
    expected = [-0.27105719, -0.82967455, 0.66238905, 0.88724744, 0.02448938, 0.07993454, -0.45365484, 0.56014838]
    expected += [1.08863362, -0.17115407, -1.25996112, -0.4397211, -0.68051604, -0.30325469, 1.26377202]
    np.testing.assert_allclose(end, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("maze", MAZES)
def test_the_ant_is_among_d4rls_walls(maze):
    env = bare(f"AntMaze{maze}-v2")
    blocks = [env.model.geom(i) for i in range(env.model.ngeom) if env.model.geom(i).name.startswith("block")]
    assert {block.name for block in blocks} == {f"block_{i}_{j}" for i, j in np.argwhere(WALL[maze])}
    for block in blocks:
        _, i, j = block.name.split("_")
        np.testing.assert_allclose(block.pos, [4 * (int(j) - 1), 4 * (int(i) - 1), 1])
        np.testing.assert_allclose(block.size, [2, 2, 1])
        assert (block.contype, block.conaffinity) == (1, 1)


def test_walls_stop_the_ant():
    """The torso is a ball of radius 0.25, and the nearest wall is at x = -2."""
    env = bare("AntMazeUMaze-v2")
    qvel = np.zeros(14)
    qvel[0] = -8
    env.set_state(env.init_qpos, qvel)
    xs = [env.step(np.zeros(8))[0][0] for _ in range(20)]
    assert -1.8 < min(xs) < -1
    qvel[0] = 8  # and none is before x = 10
    env.set_state(env.init_qpos, qvel)
    assert max(env.step(np.zeros(8))[0][0] for _ in range(20)) > 2


def test_the_ants_observation_is_its_state():
    env = bare("AntMazeUMaze-v2")
    env.set_state(np.concatenate([[0.1, 0.2, 0.9], [0.5, 0.5, 0.5, 0.5], 0.01 * np.arange(8)]), 0.1 * np.arange(14))
    observation, *_ = env.step(np.zeros(8))
    np.testing.assert_array_equal(observation, np.concatenate([env.data.qpos, env.data.qvel]))
    assert norm(observation[3:7]) == pytest.approx(1)


@pytest.mark.parametrize("maze", MAZES)
def test_the_ants_starts_and_goals_are_d4rls(maze):
    env, goals, states = bare(f"AntMaze{maze}-v2"), [], []
    for seed in range(300):
        observation, info = env.reset(seed=seed)
        states.append(observation)
        goals.append(info["goal"])
        assert info["success"] is False
    row, column = ANT_GOALS[maze]
    moved = np.array(goals) - [4 * (column - 1), 4 * (row - 1)]
    # The sum of a uniform on [0, 1] and one on [0, 1/2].
    assert (moved.min(), moved.max()) == (pytest.approx(0.1, abs=0.1), pytest.approx(1.4, abs=0.1))
    np.testing.assert_allclose(moved.mean(0), 0.75, atol=4 * np.sqrt(1.25 / 12 / 300))
    np.testing.assert_allclose(moved.var(0), 1.25 / 12, rtol=0.25)
    states = np.array(states)
    away = states[:, :15] - env.init_qpos
    away[:, 3:7] = 0
    assert np.abs(away).max() <= 0.1
    assert (np.abs(away).max(0)[[0, 1, 2, *range(7, 15)]] > 0.09).all()
    np.testing.assert_allclose(norm(states[:, 3:7], axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(states[:, 15:].std(0), 0.1, rtol=0.2)


def test_another_reset_is_another_goal_without_another_seed():
    env = bare("AntMazeMedium-v2")
    goals = [env.reset()[1]["goal"] for _ in range(20)]
    assert len(np.unique(goals, axis=0)) == 20


@pytest.mark.parametrize(("away", "success"), [(0.0, True), (0.4, True), (0.6, False)])
def test_the_ant_is_paid_at_its_goal(away, success):
    env = bare("AntMazeUMaze-v2")
    qpos = env.init_qpos.copy()
    qpos[:2] = env.goal + away * np.array([0.6, -0.8])
    env.set_state(qpos, np.zeros(14))
    _, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert (reward, terminated, truncated, info["success"]) == (float(success), success, False, success)
    np.testing.assert_array_equal(info["goal"], env.goal)


# ---- Maze2D


def test_the_particle_moves_as_in_d4rls_model():
    """238 of the steps touch a wall."""
    k = np.arange(400)
    path = play(bare("Maze2dUMaze-v1"), [1, 1], np.stack([np.sin(k / 30), np.cos(k / 50)], axis=1))
    np.testing.assert_allclose(path[99], [3.182959762799, 3.107274767917], rtol=0, atol=1e-9)
    np.testing.assert_allclose(path[199], [2.422000887878, 0.401600410033], rtol=0, atol=1e-9)
    np.testing.assert_allclose(path[399], [0.735751722663, 3.194903780252], rtol=0, atol=1e-9)
    np.testing.assert_allclose(path.min(0), [0.355276577336, 0.399385342114], rtol=0, atol=1e-9)


def test_a_step_begins_at_5_metres_a_second_at_most():
    """Then m dv/dt = F - v, implicit in v, and dx = v dt with the new velocity."""
    mass, dt, x, v = 4 / 3 * np.pi * 0.1**3 * 1000, 0.01, np.array([3.0, 1.0]), np.array([-0.5, 100.0])
    env, action = bare("Maze2dLarge-v1"), np.array([0.1, 0.4])
    env.set_state(x, v)
    for _ in range(20):
        v = (mass * np.clip(v, -5, 5) + dt * 100 * action) / (mass + dt)
        x = x + dt * v
        observation, *_ = env.step(action)
        np.testing.assert_allclose(observation, [*x, *v], rtol=0, atol=1e-12)
    assert v[1] > 5


@pytest.mark.parametrize(
    ("action", "axis", "stop"), [((-1, 0), 0, 0.4), ((1, 0), 0, 1.2), ((0, -1), 1, 0.4), ((0, 1), 1, 3.2)]
)
def test_walls_stop_the_particle(action, axis, stop):
    """0.6 before and 0.2 behind the centre of a cell, less what 100 N press it in."""
    path = play(bare("Maze2dUMaze-v1"), [1, 1], [action] * 200)
    assert path[-1, axis] == pytest.approx(stop, abs=0.01)
    assert path[-1, 1 - axis] == 1


@pytest.mark.parametrize("maze", MAZES)
def test_the_particles_starts_are_every_free_cell(maze):
    env = bare(f"Maze2d{maze}-v1")
    np.testing.assert_array_equal(env.free, ~WALL[maze])
    np.testing.assert_array_equal(env.goal, GOALS[maze])
    cells = env.free.sum()
    states = np.array([env.reset()[0] for _ in range(100 * cells)])
    nearest = np.round(states[:, :2]).astype(int)
    found, count = np.unique(nearest, axis=0, return_counts=True)
    np.testing.assert_array_equal(found, np.argwhere(env.free))
    assert ((count - 100) ** 2 / 100).sum() < cells + 5 * np.sqrt(2 * cells)  # chi squared
    away = states[:, :2] - nearest
    assert 0.099 < np.abs(away).max() <= 0.1
    np.testing.assert_allclose(away.std(0), 0.1 / np.sqrt(3), rtol=0.1)
    np.testing.assert_allclose(states[:, 2:].std(0), 0.1, rtol=0.1)


@pytest.mark.parametrize(("away", "sparse"), [(0.0, 1.0), (0.45, 1.0), (0.55, 0.0), (1.0, 0.0)])
def test_the_particle_is_paid_at_its_goal(away, sparse):
    for name, expected in (("Maze2dLarge-v1", sparse), ("Maze2dLargeDense-v1", np.exp(-away))):
        env = bare(name)
        env.set_state(env.goal + away * np.array([0, 1]), np.zeros(2))
        observation, reward, terminated, truncated, _ = env.step(np.zeros(2))
        assert reward == pytest.approx(expected, abs=1e-12)
        assert (terminated, truncated) == (False, False)
        np.testing.assert_allclose(observation, [7, 9 + away, 0, 0])


# ---- Kitchen

ARM = [f"robot:panda0_joint{i}" for i in range(1, 8)] + [f"robot:panda0_finger_joint{i}" for i in (1, 2)]
BURNERS = ["knob_Joint_1", "bottom_right_burner", "knob_Joint_2", "bottom_left_burner"]
BURNERS += ["knob_Joint_3", "top_right_burner", "knob_Joint_4", "top_left_burner"]
OTHERS = ["light_switch", "light_joint", "slide_cabinet", "left_hinge_cabinet", "right_hinge_cabinet", "microwave"]
AT_GOAL = {
    "microwave": {"microwave": -0.75},
    "kettle": {"kettle": (-0.23, 0.75, 1.62, 0.99, 0, 0, -0.06)},
    "bottom burner": {"knob_Joint_2": -0.88, "bottom_left_burner": -0.01},
    "light switch": {"light_switch": -0.69, "light_joint": -0.05},
    "slide cabinet": {"slide_cabinet": 0.37},
}


@robotics
def test_the_kitchens_observation_is_its_position_with_noise_and_the_goals():
    env = bare(SLIDER)
    positions, readings = [], []
    for action in np.random.default_rng(0).uniform(-1, 1, (200, 9)):
        reading, *_ = env.step(action)
        positions.append(np.concatenate([env.data.joint(name).qpos for name in (*ARM, *BURNERS, *OTHERS, "kettle")]))
        readings.append(reading)
    noise = np.array(readings)[:, :30] - positions
    fine, coarse = [0.005] * 3, [0.1] * 3
    amplitude = 0.1 * np.array([*coarse * 3, *fine[:2], *[0.0005] * 6, *fine, *coarse, *fine, *coarse, fine[0]])
    assert (np.abs(noise) <= amplitude * (1 + 1e-9)).all()
    assert (np.abs(noise).max(0) > 0.95 * amplitude).all()
    np.testing.assert_allclose(noise.std(0), amplitude / np.sqrt(3), rtol=0.2)
    assert np.abs(np.corrcoef(noise.T) - np.eye(30)).max() < 0.35  # 5 sigma: one draw for each
    goals = np.zeros(30)
    goals[[17, 18, 19, 22]] = -0.69, -0.05, 0.37, -0.75
    goals[23:] = -0.23, 0.75, 1.62, 0.99, 0, 0, -0.06
    np.testing.assert_array_equal(readings[-1][30:], goals)
    goals[[11, 12, 19]] = -0.88, -0.01, 0
    np.testing.assert_array_equal(bare(BURNER).reset()[0][30:], goals)


@robotics
def test_the_kitchen_starts_where_d4rls_does():
    """With the kettle's orientation of length 1, as the MuJoCo of D4RL made it."""
    env = bare(SLIDER)
    arm = [0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394]
    arm += [0.0479267505, 0.0371350919]
    np.testing.assert_array_equal(env.data.qpos[:9], arm)
    kettle = np.array([1.00618764, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04])
    np.testing.assert_allclose(env.data.qpos[26:], kettle / norm(kettle), rtol=1e-15)
    np.testing.assert_array_equal(env.data.qvel, 0)
    assert env.data.time == 0


@robotics
def test_the_kitchens_controller_starts_from_the_noisy_reading():
    """For 0.08 s with twice the action, in rad/s, and within the joints' bounds."""
    env = bare(SLIDER)
    low = [-2.9, -1.8, -2.9, -3.1, -2.9, 0, -2.9, 0, 0]
    high = [2.9, 1.8, 2.9, 0, 2.9, 3.8, 2.9, 0.04, 0.04]
    reading, _ = env.reset()
    for action in np.random.default_rng(1).uniform(-1.5, 1.5, (20, 9)):
        asked = np.clip(reading[:9] + 0.16 * np.clip(action, -1, 1), low, high)
        reading, *_ = env.step(action)
        np.testing.assert_allclose(env.data.ctrl, asked, rtol=0, atol=1e-12)
    assert env.dt == pytest.approx(0.08)


@robotics
@pytest.mark.parametrize(
    ("name", "elements"),
    [
        (SLIDER, ["light switch", "microwave", "slide cabinet", "kettle"]),
        (BURNER, ["kettle", "bottom burner", "light switch", "microwave"]),
    ],
)
def test_the_kitchen_pays_for_each_element_once_and_ends_with_the_last(name, elements):
    env, total = bare(name), 0.0
    assert env.step(np.zeros(9))[1:3] == (0.0, False)
    put(env, **AT_GOAL[({*AT_GOAL} - {*elements}).pop()])  # is none of its business
    assert env.step(np.zeros(9))[1:3] == (0.0, False)
    for i, element in enumerate(elements):
        put(env, **AT_GOAL[element])
        _, reward, terminated, _, info = env.step(np.zeros(9))
        assert (reward, terminated) == (1.0, i == 3)
        assert info["left"] == sorted(elements[i + 1 :])
        assert terminated or env.step(np.zeros(9))[1] == 0.0
        total += reward
    assert total == 4
    assert env.reset()[1]["left"] == sorted(elements)
    for element in elements:
        put(env, **AT_GOAL[element])
    assert env.step(np.zeros(9))[1:3] == (4.0, True)


@robotics
def test_the_kitchen_judges_by_the_noisy_reading():
    env, paid, seen, true = bare(SLIDER), [], [], []
    for _ in range(60):
        env.reset()
        put(env, microwave=-0.448)  # 0.302 from its goal, where noise of 0.01 decides
        reading, reward, *_ = env.step(np.zeros(9))
        paid.append(reward)
        seen.append(abs(reading[22] + 0.75) < 0.3)
        true.append(abs(env.data.joint("microwave").qpos[0] + 0.75) < 0.3)
    np.testing.assert_array_equal(paid, seen)
    assert 5 < sum(seen) < 55
    assert len({*true}) == 1


# ---- Adroit


@robotics
@pytest.mark.parametrize(
    ("hand", "expected"),
    [
        ("Pen", [-0.01653438, -0.01274765, -0.03981784, -0.02257375, -0.85074974, -0.49531745]),
        ("Hammer", [-6.7235e-04, -8.32448e-03, 1.66788e-05, 7.86649e-04, -1.71259e-05, 2.75763521e-02]),
    ],
)
def test_pen_and_hammer_move_as_in_d4rls_files(hand, expected):
    """Rolling in the hand and lying on the table: cylinders, capsules and boxes touch."""
    env = bare(f"Adroit{hand}-v1")
    end = play(env, np.zeros(env.model.nq), waves(20, env.model.nu))[-1]
    np.testing.assert_allclose(end[-6:], expected, rtol=0, atol=1e-8)


def observed(hand, env):
    """D4RL's observation, from the simulator's arrays."""
    qpos, qvel = env.data.qpos, env.data.qvel
    palm, thing = env.data.site("S_grasp").xpos, env.data.body("Object").xpos if hand != "Door" else None
    if hand == "Pen":
        ends = [env.data.site(f"{pen}_{end}").xpos for pen in ("object", "target") for end in ("top", "bottom")]
        pen, target = (ends[0] - ends[1]) / norm(ends[0] - ends[1]), (ends[2] - ends[3]) / norm(ends[2] - ends[3])
        return [qpos[:24], thing, qvel[24:], pen, target, thing - env.data.site("eps_ball").xpos, pen - target]
    if hand == "Door":
        handle, hinge = env.data.site("S_handle").xpos, env.data.joint("door_hinge").qpos
        latch = env.data.joint("latch").qpos
        return [qpos[1:28], latch, hinge, palm, handle, palm - handle, [1.0 if hinge > 1 else -1.0]]
    if hand == "Hammer":
        turned = env.data.body("Object").xmat.reshape(3, 3)  # about x, then the new y, then the new z
        turned = [
            np.arctan2(-turned[1, 2], turned[2, 2]),
            np.arcsin(turned[0, 2]),
            np.arctan2(-turned[0, 1], turned[0, 0]),
        ]
        nail, blow = env.data.site("S_target").xpos, np.clip(env.data.sensor("S_nail").data, -1, 1)
        return [qpos[:27], np.clip(qvel[27:], -1, 1), palm, thing, turned, nail, blow]
    target = env.data.site("target").xpos
    return [qpos[:30], palm - thing, palm - target, thing - target]


def paid(hand, env, o):
    """D4RL's reward, from the observation as far as it goes."""
    v = env.data.qvel
    if hand == "Pen":
        away, alike = norm(o[39:42]), o[33:36] @ o[36:39]
        return -away + alike + (away < 0.075) * (10 * (alike > 0.9) + 50 * (alike > 0.95)) - 5 * (o[26] < 0.075)
    if hand == "Door":
        bonus = 2 * (o[28] > 0.2) + 8 * (o[28] > 1) + 10 * (o[28] > 1.35)
        return -0.1 * norm(o[35:38]) - 0.1 * (o[28] - 1.57) ** 2 - 1e-5 * (v**2).sum() + bonus
    if hand == "Hammer":
        head, goal = env.data.site("tool").xpos, env.data.site("nail_goal").xpos
        left = norm(o[42:45] - goal)
        bonus = 2 * (o[38] > 0.04 and head[2] > 0.04) + 25 * (left < 0.02) + 75 * (left < 0.01)
        return -0.1 * norm(o[33:36] - o[36:39]) - norm(head - o[42:45]) - 10 * left - 0.01 * norm(v) + bonus
    up, left = env.data.body("Object").xpos[2] > 0.04, norm(o[36:39])
    lifted = up * (1 - 0.5 * norm(o[33:36]) - 0.5 * left)
    return -0.1 * norm(o[30:33]) + lifted + 10 * (left < 0.1) + 20 * (left < 0.05)


@robotics
@pytest.mark.parametrize("hand", HANDS)
def test_a_hands_observation_and_reward_are_d4rls(hand):
    env, rng = bare(f"Adroit{hand}-v1"), np.random.default_rng(0)
    rewards = []
    for _ in range(40):
        env.reset()
        env.set_state(rng.uniform(-0.3, 0.3, env.model.nq), rng.uniform(-2, 2, env.model.nv))
        if hand == "Door":
            put(env, door_hinge=rng.uniform(0, 1.6))
        observation, reward, terminated, truncated, _ = env.step(rng.uniform(-1, 1, env.model.nu))
        np.testing.assert_allclose(observation, np.concatenate(observed(hand, env)), rtol=0, atol=1e-12)
        assert reward == pytest.approx(paid(hand, env, observation), abs=1e-12)
        assert terminated is (hand == "Pen" and bool(observation[26] < 0.075))
        assert not truncated
        rewards.append(reward)
    assert len(np.unique(rewards)) == 40


@robotics
@pytest.mark.parametrize(("hinge", "bonus"), [(0.1, 0), (0.3, 2), (1.1, 10), (1.4, 20)])
def test_the_door_pays_by_its_angle(hinge, bonus):
    env = bare("AdroitDoor-v1")
    put(env, door_hinge=hinge)
    away = norm(env.data.site("S_grasp").xpos - env.data.site("S_handle").xpos)
    assert env.reward() == pytest.approx(bonus - 0.1 * away - 0.1 * (hinge - 1.57) ** 2)
    assert env.step(np.zeros(28))[4]["success"] == (hinge > 1.35)


@robotics
@pytest.mark.parametrize(("short", "bonus"), [(0.022, 0), (0.018, 25), (0.012, 25), (0.008, 100)])
def test_the_nail_pays_by_its_depth(short, bonus):
    env = bare("AdroitHammer-v1")
    put(env, nail_dir=0.0)
    depth = norm(env.data.site("S_target").xpos - env.data.site("nail_goal").xpos)
    put(env, nail_dir=depth - short)
    palm, hammer = env.data.site("S_grasp").xpos, env.data.body("Object").xpos
    head, nail = env.data.site("tool").xpos, env.data.site("S_target").xpos
    left = norm(nail - env.data.site("nail_goal").xpos)
    assert left == pytest.approx(short, abs=5e-4)
    assert env.reward() == pytest.approx(bonus - 0.1 * norm(palm - hammer) - norm(head - nail) - 10 * left)
    assert env.step(np.zeros(26))[4]["success"] == (short < 0.01)


@robotics
@pytest.mark.parametrize(("away", "bonus"), [(0.2, 0), (0.08, 10), (0.03, 30)])
def test_the_ball_pays_near_its_target(away, bonus):
    env = bare("AdroitRelocate-v1")
    env.model.body_pos[env.model.body("Object").id] = 0
    target = env.model.site_pos[env.model.site("target").id]
    put(env, OBJTx=target[0] - away, OBJTy=target[1], OBJTz=target[2])
    palm = env.data.site("S_grasp").xpos
    ball = target - [away, 0, 0]
    expected = bonus + 1 - 0.5 * norm(palm - target) - 0.5 * away - 0.1 * norm(palm - ball)
    assert env.reward() == pytest.approx(expected)
    put(env, OBJTx=0, OBJTy=0, OBJTz=0.035)
    assert env.reward() == pytest.approx(-0.1 * norm(palm - [0, 0, 0.035]))


@robotics
def test_a_dropped_pen_costs_5_and_is_the_end():
    env = bare("AdroitPen-v1")
    assert env.step(np.zeros(24))[2] is False
    put(env, OBJTx=0.15)  # the pen lies on its side, and this is down: it starts at z = 0.25
    assert not env.ended()
    above = env.reward()
    put(env, OBJTx=0.2)
    assert env.reward() == pytest.approx(above - 0.05 - 5, abs=1e-6)
    assert env.step(np.zeros(24))[2] is True


@robotics
def test_a_pen_like_the_green_one_pays_60():
    env = bare("AdroitPen-v1")
    env.model.body_quat[env.model.body("target").id] = env.model.body("Object").quat
    put(env)
    assert env.reward() == pytest.approx(61, abs=1e-9)
    for angle, bonus in ((0.2, 60), (0.4, 10), (0.6, 0)):  # cos: 0.98, 0.92, 0.83
        put(env, OBJRx=angle)
        assert env.reward() == pytest.approx(np.cos(angle) + bonus, abs=1e-9)


@robotics
def test_the_hands_things_start_where_d4rls_do():
    env = {hand: bare(f"Adroit{hand}-v1") for hand in HANDS}
    drawn = {hand: [] for hand in HANDS}
    for _ in range(200):
        for hand in HANDS:
            env[hand].reset()
            np.testing.assert_array_equal(env[hand].data.qpos, 0)
            np.testing.assert_array_equal(env[hand].data.qvel, 0)
        model = {hand: env[hand].model for hand in HANDS}
        axis = env["Pen"].axis("target")
        drawn["Pen"].append([np.arctan2(-axis[1], axis[2]), np.arcsin(axis[0])])
        drawn["Door"].append(model["Door"].body("frame").pos.copy())
        drawn["Hammer"].append(model["Hammer"].body("nail_board").pos[2:].copy())
        ball, target = model["Relocate"].body("Object").pos[:2], model["Relocate"].site("target").pos
        drawn["Relocate"].append([*ball, *target])
    for hand, low, high in (
        ("Door", [-0.3, 0.25, 0.252], [-0.2, 0.35, 0.35]),
        ("Hammer", [0.1], [0.25]),
        ("Relocate", [-0.15, -0.15, -0.2, -0.2, 0.15], [0.15, 0.3, 0.2, 0.2, 0.35]),
    ):
        low, high, found = np.array(low), np.array(high), np.array(drawn[hand])
        np.testing.assert_allclose(found.min(0), low, atol=0.05 * (high - low).max())
        np.testing.assert_allclose(found.max(0), high, atol=0.05 * (high - low).max())
        assert (found >= low).all()
        assert (found <= high).all()


# ---- what D4RL's door paid

REAL = Path(os.environ.get("SWGCTL_TEST_DATA") or Path(__file__).parents[2].parent / "shared/data")


@pytest.fixture(scope="module")
def demonstrations():
    """People who opened the door: observations, next observations (N, 39), rewards, and what is known of a row."""
    path = REAL / "adroit-door-human-dapg.hdf5"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in $SWGCTL_TEST_DATA")
    with h5py.File(path) as file:
        rows = {key: file[key][:].astype(float) for key in ("observations", "next_observations", "rewards")}
        return rows | {"known": file["infos/next_observation_valid"][:], "ends": file["timeouts"][:]}


def restore(env, row, qvel=0.0):
    """Put the door's simulator where it was observed.

    The row has every joint but the first, which moves the palm along y; the frame stands where the handle is
    then right.  Not in it are the velocities, and the positions of the palm's x and z to better than its way of a
    substep, before which they were taken.
    """
    frame = env.model.body("frame")
    qpos = np.array([0, *row[:27], row[28], row[27]])
    env.set_state(qpos, np.zeros(30))
    frame.pos += row[32:35] - env.data.site("S_handle").xpos
    qpos[0] = (row[30] - env.data.site("S_grasp").xpos[1]) / env.data.joint(0).xaxis[1]
    env.set_state(qpos, np.zeros(30) + qvel)


@robotics
def test_the_door_is_observed_as_it_was_recorded(demonstrations):
    env = bare("AdroitDoor-v1")
    starts = np.flatnonzero(np.append(True, demonstrations["ends"][:-1]))
    assert len(starts) == 25
    for i in (*starts, *range(0, 6729, 50)):
        row = demonstrations["observations"][i]
        restore(env, row)
        observation = np.concatenate(observed("Door", env))
        # At rest nothing has moved in the last substep, and the file is float32.
        np.testing.assert_allclose(observation, row, rtol=0, atol=2e-7 if i in starts else 0.01)
        determined = np.ones(39, bool)
        determined[[29, 31, 35, 37]] = False
        np.testing.assert_allclose(observation[determined], row[determined], rtol=0, atol=2e-7)


@robotics
def test_the_door_pays_what_was_recorded(demonstrations):
    """With velocities from the rows around; they are what the rest of the error is of."""
    env, o, o2 = bare("AdroitDoor-v1"), demonstrations["observations"], demonstrations["next_observations"]
    known = demonstrations["known"]
    rows = np.flatnonzero(known[:-1] & known[1:])[::6]
    off, hinges = [], []
    for i in rows:
        qvel = np.zeros(30)
        ahead = (o2[i + 1] - o[i]) / 0.02  # over two steps of 0.01 s
        qvel[:] = [ahead[30], *ahead[:27], ahead[28], ahead[27]]
        restore(env, o2[i], qvel)
        off.append(env.reward() - demonstrations["rewards"][i])
        hinges.append(env.data.joint("door_hinge").qpos[0])
    off = np.abs(off)
    assert np.median(off) < 1e-4
    assert np.quantile(off, 0.99) < 2e-3
    assert off.max() < 0.02
    assert min(hinges) < 0.2
    assert max(hinges) > 1.35
    # The palm's term with the wrong sign would be off by twice 0.1 times its distance.
    apart = norm(o2[rows, 35:38], axis=1)
    assert np.median(0.2 * apart) > 50 * np.median(off)
