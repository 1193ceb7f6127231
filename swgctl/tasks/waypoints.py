"""The walker of the Maze2D data: from cell to cell along the shortest way, by a proportional-derivative controller.

As in D4RL's Maze2D data (Fu et al., 2020, section 5.1): once the particle has arrived, or an episode has passed without
arrival, it is sent to another free cell from its current position.
"""

from collections import deque

import numpy as np

from swgctl.tasks import environments
from swgctl.tasks.behaviour import counter, recorder

GAIN, DAMPING = 10.0, 1.0  # of the distance to the waypoint, of the velocity
NEAR = 0.1  # a waypoint is reached within this distance, by a step shorter than it
JITTER = 0.2  # waypoints on the way lie up to this far below a cell's coordinates, where D4RL's cells have their middle

Cell = tuple[int, int]


def way(free: np.ndarray, start: Cell, target: Cell) -> list[Cell]:
    """The cells of a shortest way through `free` (rows, columns), without `start`; [target] where both are one cell."""
    before: dict[Cell, Cell | None] = {target: None}
    frontier = deque([target])
    while frontier and start not in before:
        row, column = frontier.popleft()
        for cell in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if free[cell] and cell not in before:
                before[cell] = (row, column)
                frontier.append(cell)
    cells, step = [], before[start]
    while step is not None:
        cells.append(step)
        step = before[step]
    return cells or [target]


class Walker:
    """One walk after another through the maze `free`, (rows, columns) bool, in the coordinates of its cells."""

    def __init__(self, free: np.ndarray, generator: np.random.Generator):
        self.free, self.generator = free, generator
        self.cells: list[Cell] = [(int(i), int(j)) for i, j in np.argwhere(free)]
        self.waypoints: list[np.ndarray] = []

    def send(self, location: np.ndarray) -> None:
        """Set waypoints to a cell drawn uniformly, from the cell nearest to `location` (2,)."""
        nearest = min(self.cells, key=lambda cell: np.square(location - cell).sum())
        target = self.cells[self.generator.integers(len(self.cells))]
        cells = np.array(way(self.free, nearest, target), np.float64)
        cells[:-1] -= JITTER * self.generator.uniform(size=(len(cells) - 1, 2))
        self.waypoints, self.last = list(cells), location

    def act(self, location: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, bool]:
        """The action (2,), float32 in [-1, 1], at a location (2,) and velocity (2,); and whether the walk has ended."""
        slow = np.linalg.norm(location - self.last) < NEAR
        reached = bool(slow and np.linalg.norm(location - self.waypoints[0]) < NEAR)
        arrived = reached and len(self.waypoints) == 1
        action = GAIN * (self.waypoints[0] - location) - DAMPING * velocity
        if reached and not arrived:
            self.waypoints.pop(0)
        self.last = location
        return np.clip(action, -1, 1).astype(np.float32), arrived


def walk(environment: str, streams: int, rows: int, length: int, *words) -> dict[str, np.ndarray]:
    """Walk through `streams` mazes, and record `rows` rows of each, in the arrays of `behaviour.lock_step`.

    An episode ends by the clock when the walker has arrived, or after `length` steps; the next one goes on from there.
    Every draw depends on `words` and the stream alone.
    """
    world = environments.make(environment).unwrapped
    free: np.ndarray = world.get_wrapper_attr("free")  # of a maze, such as `adapters.maze2d.Maze2D`
    data = recorder(world, streams, rows)
    for i in range(streams):
        walker = Walker(free, np.random.Generator(np.random.Philox(counter(*words, i))))
        state, _ = world.reset(seed=counter(*words, i, 0))
        age = 0
        for t in range(rows):
            if age == 0:
                walker.send(state[:2])
            action, arrived = walker.act(state[:2], state[2:])
            data["observations"][i, t], data["actions"][i, t] = state, action
            state, data["rewards"][i, t], *_ = world.step(action)
            data["next_observations"][i, t] = state
            age = 0 if arrived or age + 1 == length or t == rows - 1 else age + 1
            data["timeouts"][i, t] = age == 0
    world.close()
    return data
