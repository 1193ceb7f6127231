"""Hopper: D4RL's `gym_mujoco` hopper, ids hopper-*-v2, on gymnasium's Hopper-v4."""

import mujoco
from gymnasium.envs.mujoco.hopper_v4 import HopperEnv

from swgctl.tasks.adapters import old_contacts


class Hopper(HopperEnv):
    """gymnasium's Hopper-v4 with the foot's former contacts, from 1 mm on: MuJoCo 3.5 lets them begin at 2 mm.

    HalfCheetah-v4 and Walker2d-v4 have no margins, and so the contacts of before.
    """

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model, data = super()._initialize_simulation()
        old_contacts(model)
        return model, data
