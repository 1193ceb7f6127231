"""D4RL's environments, how the tests move what is in them, and its mazes.

Where tests expect a trajectory, it is what D4RL's own XML files gave in MuJoCo 2.2.0.
"""

import numpy as np

from swgctl.tasks import environments

# A row of a maze is a number with a bit for each cell, 1 for a wall; the same for ant and particle.
ROWS = {
    "UMaze": [31, 17, 29, 17, 31],
    "Medium": [255, 153, 145, 199, 145, 165, 137, 255],
    "Large": [4095, 2113, 2901, 2065, 3037, 2369, 3415, 2321, 4095],
}
WALL = {maze: np.array([[bit == "1" for bit in f"{row:b}"] for row in rows]) for maze, rows in ROWS.items()}


def make(name):
    return environments.make(f"swgctl/{name}")


def bare(name):
    """Without the clock, and reset."""
    env = make(name).unwrapped
    env.reset(seed=0)
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


def waves(steps, width):
    """Actions (steps, width) that swing."""
    return np.sin(0.7 * np.arange(steps)[:, None] + np.arange(width))
