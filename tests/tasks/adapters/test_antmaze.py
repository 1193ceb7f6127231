"""AntMaze: the ant, the walls around it, where it starts, and where it is paid."""

import mujoco
import numpy as np
import pytest
from numpy.linalg import norm
from support.simulator import WALL, bare, play, waves

GOALS = {"UMaze": (3, 1), "Medium": (6, 6), "Large": (7, 9)}  # cells, as (row, column), seen from (1, 1)


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


@pytest.mark.parametrize("maze", WALL)
def test_the_ant_is_among_d4rls_walls(maze):
    env = bare(f"AntMaze{maze}-v2")
    assert env.model.ngeom == 14 + WALL[maze].sum()  # the floor, and 13 of the ant
    for i, j in np.argwhere(WALL[maze]):
        block = env.model.geom(f"block_{i}_{j}")
        np.testing.assert_allclose(block.pos, [4 * (j - 1), 4 * (i - 1), 1])
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


@pytest.mark.parametrize("maze", WALL)
def test_the_ants_starts_and_goals_are_d4rls(maze):
    env, goals, states = bare(f"AntMaze{maze}-v2"), [], []
    for _ in range(300):
        observation, info = env.reset()
        states.append(observation)
        goals.append(info["goal"])
        assert info["success"] is False
    row, column = GOALS[maze]
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


@pytest.mark.parametrize(("away", "success"), [(0.0, True), (0.4, True), (0.6, False)])
def test_the_ant_is_paid_at_its_goal(away, success):
    env = bare("AntMazeUMaze-v2")
    qpos = env.init_qpos.copy()
    qpos[:2] = env.goal + away * np.array([0.6, -0.8])
    env.set_state(qpos, np.zeros(14))
    _, reward, terminated, truncated, info = env.step(np.zeros(8))
    assert (reward, terminated, truncated, info["success"]) == (float(success), success, False, success)
    np.testing.assert_array_equal(info["goal"], env.goal)
