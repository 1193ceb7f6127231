"""Hopper: D4RL's `gym_mujoco` hopper, ids hopper-*-v2, on gymnasium's Hopper-v4."""

import mujoco
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv

from swgctl.tasks.adapters import old_contacts


class Hopper(HopperEnv):
    """gymnasium's, with the foot's contacts as they were: from MuJoCo 3.5 on they begin at 2 mm, not at 1 mm.

    HalfCheetah-v4 and Walker2d-v4 have no margins, and need no such thing.
    """

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model, data = super()._initialize_simulation()
        old_contacts(model)
        return model, data
