"""AntMaze: an ant walks through a maze to a goal that it cannot observe.  D4RL's `locomotion`, ids antmaze-*-v2.

The compiled model and every step equal those of D4RL's files, up to rounding, from MuJoCo 2.2 to today's.
"""

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from swgctl.tasks.adapters import old_contacts

CELL = 4.0  # metres; the cell in row i and column j lies at x = j CELL, y = i CELL, seen from R, the reset
TORQUE = 30.0  # N m, for an action of 1
REACHED = 0.5  # metres from the goal
MAZES = {
    "UMaze": (
        "#####",
        "#R  #",
        "### #",
        "#G  #",
        "#####",
    ),
    "Medium": (
        "########",
        "#R ##  #",
        "#  #   #",
        "##   ###",
        "#  #   #",
        "# #  # #",
        "#   # G#",
        "########",
    ),
    "Large": (
        "############",
        "#R   #     #",
        "# ## # # # #",
        "#      #   #",
        "# #### ### #",
        "#  # #     #",
        "## # # # ###",
        "#  #   # G #",
        "############",
    ),
}


def cells(maze: tuple[str, ...], kind: str) -> np.ndarray:
    """Row and column (n, 2) of every cell of a kind: a wall #, the goal G, the reset R or free space."""
    return np.argwhere(np.array([list(row) for row in maze]) == kind)


def centre(maze: tuple[str, ...], cell: np.ndarray) -> np.ndarray:
    """Position x, y (m) of the centre of a cell."""
    return CELL * (cell - cells(maze, "R")[0])[::-1]


def specification(ant: str, maze: tuple[str, ...]) -> mujoco.MjSpec:
    """gymnasium's ant, from the XML file `ant`, with D4RL's changes, among walls 2 m high."""
    spec = mujoco.MjSpec.from_file(ant)
    spec.option.timestep = 0.02
    for motor in spec.actuators:
        motor.gear[0], motor.ctrlrange = 1, (-TORQUE, TORQUE)
    for cell in cells(maze, "#"):
        spec.worldbody.add_geom(
            name="block_{}_{}".format(*cell),
            type=mujoco.mjtGeom.mjGEOM_BOX,
            pos=(*centre(maze, cell), CELL / 4),
            size=(CELL / 2, CELL / 2, CELL / 4),
            conaffinity=1,
            rgba=(0.7, 0.5, 0.3, 1),
        )
    for geom in spec.geoms:
        geom.solimp[:3] = 0.8, 0.8, 0.01
    return spec


class AntMaze(MujocoEnv):
    """Reward 1 and the end of the episode within 0.5 m of the goal, else 0.

    Observation (29,): the torso's position x, y, z (m) and orientation w, x, y, z, 8 joint angles (rad); then
    their velocities, 3 linear (m/s), 3 angular and 8 of the joints (rad/s).  Action (8,): torques in 30 N m.
    `info` has the `goal` (2,) and `success`.

    The goal is drawn at every reset, as in D4RL's v2.  Its v0 draws it once per environment, which is the same
    where an environment plays one episode, as in `swgctl eval`.
    """

    # gymnasium declares it without ClassVar
    metadata: dict = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 10}  # noqa: RUF012

    def __init__(self, maze: str, render_mode: str | None = None):
        self.maze = MAZES[maze]
        self.goal = np.full(2, np.nan)  # until the first reset
        space = Box(-np.inf, np.inf, (29,), np.float64)
        super().__init__("ant.xml", frame_skip=5, observation_space=space, render_mode=render_mode)
        self.action_space = Box(-1, 1, (8,), np.float32)

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = specification(self.fullpath, self.maze).compile()
        old_contacts(model)
        return model, mujoco.MjData(model)

    def step(self, action):
        self.do_simulation(TORQUE * np.clip(action, -1, 1), self.frame_skip)
        success = bool(np.linalg.norm(self.data.qpos[:2] - self.goal) <= REACHED)
        if self.render_mode == "human":
            self.render()
        return self.state_vector(), float(success), success, False, {"goal": self.goal, "success": success}

    def reset_model(self) -> np.ndarray:
        # D4RL moves the goal twice from the centre of its cell, always towards +x and +y.
        moved = self.np_random.uniform(0, CELL / 4, 2) + self.np_random.uniform(0, CELL / 8, 2)
        self.goal = centre(self.maze, cells(self.maze, "G")[0]) + moved
        qpos = self.init_qpos + self.np_random.uniform(-0.1, 0.1, self.model.nq)
        # D4RL's MuJoCo normalised the orientation in qpos at once, today's only in the first step.
        qpos[3:7] /= np.linalg.norm(qpos[3:7])
        self.set_state(qpos, self.init_qvel + 0.1 * self.np_random.standard_normal(self.model.nv))
        return self.state_vector()

    def _get_reset_info(self) -> dict:
        return {"goal": self.goal, "success": False}
