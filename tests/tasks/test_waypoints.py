"""The walker of the mazes: shortest ways, arrivals, and rows that are steps of the simulator."""

import numpy as np
import pytest

from swgctl.tasks import environments, local
from swgctl.tasks.waypoints import NEAR, Walker, walk, way

SIZES = {"UMaze": 300, "Medium": 600, "Large": 800}


def maze_of(size: str) -> np.ndarray:
    return environments.make(f"swgctl/Maze2d{size}-v1").unwrapped.free


def distances(maze: np.ndarray) -> dict:
    """Steps between all pairs of free cells, by Floyd and Warshall."""
    cells = [tuple(map(int, cell)) for cell in np.argwhere(maze)]
    apart = np.abs(np.subtract.outer(np.array(cells), np.array(cells))[:, [0, 1], :, [0, 1]]).sum(0)
    steps = np.where(apart <= 1, apart, 10_000).astype(int)
    for k in range(len(cells)):
        steps = np.minimum(steps, steps[:, k, None] + steps[None, k, :])
    return {(a, b): steps[i, j] for i, a in enumerate(cells) for j, b in enumerate(cells)}


@pytest.mark.parametrize("size", SIZES)
def test_ways_are_shortest_and_go_from_cell_to_neighbour(size):
    maze = maze_of(size)
    for (start, target), steps in distances(maze).items():
        cells = way(maze, start, target)
        assert cells[-1] == target
        assert len(cells) == max(steps, 1)
        for before, after in zip([start, *cells], cells, strict=False):
            assert maze[after]
            assert abs(before[0] - after[0]) + abs(before[1] - after[1]) <= 1


@pytest.fixture(scope="module", params=SIZES)
def walked(request):
    name = f"swgctl/Maze2d{request.param}-v1"
    return name, SIZES[request.param], walk(name, 2, 3_000, SIZES[request.param], 7)


def test_episodes_end_where_the_walker_was_sent(walked):
    """In the middle third of a free cell, and but for the last one long before the clock."""
    name, length, data = walked
    maze = environments.make(name).unwrapped.free
    for i in range(2):
        ends = np.flatnonzero(data["timeouts"][i])
        assert ends[-1] == 2_999  # another stream follows
        assert len(ends) > 5
        assert np.diff(ends, prepend=-1).max() < length
        arrived = data["observations"][i, ends[:-1], :2]
        cells = np.round(arrived).astype(int)
        assert maze[cells[:, 0], cells[:, 1]].all()
        assert np.linalg.norm(arrived - cells, axis=1).max() < NEAR
    assert not data["terminals"].any()


def test_the_walk_goes_on_from_where_it_arrived(walked):
    _, _, data = walked
    np.testing.assert_array_equal(data["observations"][:, 1:], data["next_observations"][:, :-1])


def test_every_row_is_a_step_of_the_simulator(walked):
    name, _, data = walked
    world = environments.make(name).unwrapped
    world.reset(seed=0)
    for t in range(0, 3_000, 50):
        state = data["observations"][0, t].astype(np.float64)
        world.set_state(state[:2], state[2:])
        reached, reward, *_ = world.step(data["actions"][0, t])
        np.testing.assert_allclose(reached, data["next_observations"][0, t], atol=1e-4)
        assert reward == data["rewards"][0, t]


def test_a_walk_depends_on_its_words_and_stream_alone():
    first = walk("swgctl/Maze2dUMaze-v1", 1, 200, 300, 7, "a")
    both = walk("swgctl/Maze2dUMaze-v1", 2, 200, 300, 7, "a")
    other = walk("swgctl/Maze2dUMaze-v1", 1, 200, 300, 7, "b")
    for key, value in first.items():
        np.testing.assert_array_equal(value[0], both[key][0])
    assert not np.array_equal(both["observations"][0], both["observations"][1])
    assert not np.array_equal(first["observations"], other["observations"])


def test_the_controller_is_proportional_and_derivative():
    walker = Walker(maze_of("UMaze"), np.random.default_rng(0))
    walker.send(np.array([1.0, 1.0]))
    walker.waypoints = [np.array([1.05, 1.2])]
    action, arrived = walker.act(np.array([1.0, 1.0]), np.array([0.3, 0.5]))
    np.testing.assert_allclose(action, [10 * 0.05 - 0.3, 1.0])  # 10 * 0.2 - 0.5, clipped
    assert not arrived
    _, arrived = walker.act(np.array([1.0, 1.15]), np.zeros(2))
    assert not arrived  # near, but by a long step
    _, arrived = walker.act(np.array([1.0, 1.18]), np.zeros(2))
    assert arrived


def test_the_local_mazes_are_those_of_d4rl():
    for size in ("umaze", "medium", "large"):
        task = local.of(f"local-maze2d-{size}")
        assert task.environment.lower() == f"swgctl/maze2d{size}-v1"
        assert task.policies == (("waypoints", 100_000),)
