"""Hopper: gymnasium's, but that its foot meets the floor where it met D4RL's."""

import mujoco
import numpy as np
import pytest
from support.simulator import bare, put

from swgctl.tasks import environments


def test_the_hoppers_contacts_begin_at_1_mm():
    """Two geoms' margins add up from MuJoCo 3.5 on; before, the larger one counts."""
    env = bare("Hopper-v4")
    together = np.add if mujoco.mj_version() >= 3005000 else np.maximum
    margins = env.model.geom_margin
    np.testing.assert_allclose(together.outer(margins, margins), 0.001, rtol=1e-12)
    for gap, touching in ((0.0009, 2), (0.0011, 0)):  # below an upright robot's foot, at both its ends
        put(env, rootz=1.21 + gap, rooty=0, thigh_joint=0, leg_joint=0, foot_joint=0)
        np.testing.assert_allclose([contact.dist for contact in env.data.contact], [gap] * touching)


@pytest.mark.parametrize("name", ["HalfCheetah-v4", "Walker2d-v4"])
def test_the_other_robots_have_no_margins(name):
    np.testing.assert_array_equal(environments.make(name).unwrapped.model.geom_margin, 0)
