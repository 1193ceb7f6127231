"""Maze2D: the particle, the walls around it, where it starts, and where it is paid."""

import numpy as np
import pytest
from support.simulator import WALL, bare, play

GOALS = {"UMaze": (1, 1), "Medium": (6, 6), "Large": (7, 9)}


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


@pytest.mark.parametrize("maze", WALL)
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
