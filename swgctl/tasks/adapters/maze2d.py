"""Maze2D: a particle is pushed through a maze to a goal and kept there.  D4RL's `pointmaze`, ids maze2d-*-v1.

The compiled model and every step equal those of D4RL's code, up to rounding, from MuJoCo 2.2 to today's.
"""

import mujoco
import numpy as np
from gymnasium.envs.mujoco import MujocoEnv
from gymnasium.spaces import Box

from swgctl.tasks.adapters import old_contacts
from swgctl.tasks.adapters.antmaze import MAZES as ANT_MAZES
from swgctl.tasks.adapters.antmaze import cells

SPEED = 5.0  # m/s along each axis, at most, at the start of a step
REACHED = 0.5  # metres from the goal
MAZES = ANT_MAZES | {
    "UMaze": (
        "#####",
        "#G  #",
        "### #",
        "#   #",
        "#####",
    ),
}
# World coordinates of cell (0, 0): of its centre, and of a particle that is observed there.  D4RL has them apart:
# the particle, of radius 0.1, moves within (i - 0.6, i + 0.2) rather than (i - 0.4, i + 0.4).
WALLS, PARTICLE = 1.0, 1.2


def specification(maze: tuple[str, ...]) -> mujoco.MjSpec:
    """A sphere on two sliders among boxes; x is the row."""
    spec, shape = mujoco.MjSpec(), mujoco.mjtGeom
    spec.option.timestep, spec.option.iterations, spec.option.gravity = 0.01, 20, (0, 0, 0)
    world = spec.worldbody
    world.add_geom(name="ground", type=shape.mjGEOM_PLANE, size=(40, 40, 0.25), pos=(0, 0, -0.1), conaffinity=0)
    for i, j in cells(maze, "#"):
        at, brown = (i + WALLS, j + WALLS, 0), (0.7, 0.5, 0.3, 1)
        world.add_geom(name=f"wall_{i}_{j}", type=shape.mjGEOM_BOX, pos=at, size=(0.5, 0.5, 0.2), contype=2, rgba=brown)
    at, red = (*cells(maze, "G")[0] + PARTICLE, 0), (0.6, 0.3, 0.3, 1)
    world.add_site(name="target_site", pos=at, size=(0.2, 0, 0), rgba=red)
    particle = world.add_body(name="particle", pos=(PARTICLE, PARTICLE, 0))
    particle.add_geom(name="particle_geom", type=shape.mjGEOM_SPHERE, size=(0.1, 0, 0), rgba=(0.3, 0.6, 0.3, 1))
    for name, axis in (("ball_x", (1, 0, 0)), ("ball_y", (0, 1, 0))):
        particle.add_joint(name=name, type=mujoco.mjtJoint.mjJNT_SLIDE, axis=axis, damping=1)
        motor = spec.add_actuator(target=name, trntype=mujoco.mjtTrn.mjTRN_JOINT, ctrllimited=True, ctrlrange=(-1, 1))
        motor.gear[0] = 100
    for geom in spec.geoms:
        geom.friction, geom.density, geom.margin, geom.condim = (0.5, 0.1, 0.1), 1000, 0.002, 1
    return spec


class Maze2D(MujocoEnv):
    """Reward 1 within 0.5 of the goal, else 0; or, if `dense`, exp(-distance).  Only the clock ends an episode.

    Observation (4,): position x, y (m), of which x is the row, and velocity (m/s).  Action (2,): forces in 100 N.
    For a controller, `free` (rows, columns) marks the cells without a wall, and `goal` (2,) is the goal's x, y: the
    cell in row i and column j is at x = i, y = j.
    """

    # gymnasium declares it without ClassVar
    metadata: dict = {"render_modes": ["human", "rgb_array", "depth_array"], "render_fps": 100}  # noqa: RUF012

    def __init__(self, maze: str, dense: bool = False, render_mode: str | None = None):
        self.maze, self.dense = MAZES[maze], dense
        self.free = np.array([list(row) for row in self.maze]) != "#"
        self.goal = cells(self.maze, "G")[0].astype(np.float64)
        space = Box(-np.inf, np.inf, (4,), np.float64)
        # The file only has to exist: `_initialize_simulation` makes the model.
        super().__init__(__file__, frame_skip=1, observation_space=space, render_mode=render_mode)
        self.action_space = Box(-1, 1, (2,), np.float32)

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = specification(self.maze).compile()
        old_contacts(model)
        # The larger this is, the softer are the walls.  D4RL's MuJoCo averaged it over three axes, today's over the
        # two that the particle moves along.
        particle = model.body("particle")
        particle.invweight0[0] = 2 / 3 / particle.mass[0]
        return model, mujoco.MjData(model)

    def step(self, action):
        np.clip(self.data.qvel, -SPEED, SPEED, out=self.data.qvel)
        self.do_simulation(np.clip(action, -1, 1), self.frame_skip)
        distance = np.linalg.norm(self.data.qpos - self.goal)
        if self.render_mode == "human":
            self.render()
        return self.state_vector(), float(np.exp(-distance) if self.dense else distance <= REACHED), False, False, {}

    def reset_model(self) -> np.ndarray:
        start = self.np_random.choice(np.argwhere(self.free)) + self.np_random.uniform(-0.1, 0.1, 2)
        self.set_state(start, 0.1 * self.np_random.standard_normal(2))
        return self.state_vector()
