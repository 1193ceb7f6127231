"""Adroit: a hand turns a pen, opens a door, drives a nail or moves a ball.  D4RL's `hand_manipulation_suite`, v1.

Models, observations and resets are gymnasium-robotics', and the same as D4RL's.  Rewards and ends are computed
here: gymnasium-robotics 1.4.2 rewards the palm for being far from door, hammer and ball, and never ends Pen.  The
remaining difference to D4RL is how capsules and boxes touch boxes in today's MuJoCo.

Mean returns of the experts that DAPG published, over 60 episodes here, beside D4RL's reference for an expert:

              with their noise   mean action     D4RL
    pen                  3,282         3,422    3,077
    door                 2,954         3,012    2,881
    hammer               9,979        16,332   12,794
    relocate             4,216         4,408    4,234
"""

from abc import abstractmethod
from typing import Any

import mujoco
import numpy as np
from numpy.linalg import norm

from swgctl.tasks.adapters import old_contacts, quietly

with quietly():
    from gymnasium_robotics.envs import adroit_hand


class Hand:
    """The common part of the four.  Action (A,): targets of the position actuators, from -1 to 1 over their ranges.

    Positions of points are those before the last of a step's five substeps, joints those after it; the observations
    mix them in the same way, here and in D4RL.
    """

    model: mujoco.MjModel
    data: mujoco.MjData

    def __init__(self, **settings: Any):
        # the settings of gymnasium-robotics' environment, such as render_mode
        super().__init__(**settings)
        old_contacts(self.model)

    def step(self, action):
        observation, _, _, _, info = super().step(action)
        return observation, float(self.reward()), self.ended(), False, info

    @abstractmethod
    def reward(self) -> float:
        """Reward of the last step."""

    def ended(self) -> bool:
        return False

    def body(self, name: str) -> np.ndarray:
        """Position (3,), in metres."""
        return self.data.body(name).xpos

    def site(self, name: str) -> np.ndarray:
        """Position (3,), in metres."""
        return self.data.site(name).xpos


class Pen(Hand, adroit_hand.AdroitHandPenEnv):
    """Hold the pen and turn it like the green one; dropping it ends the episode.  Observation (45,), action (24,)."""

    def reward(self) -> float:
        away = norm(self.body("Object") - self.site("eps_ball"))
        alike = self.axis("object") @ self.axis("target")
        bonus = 10 * (alike > 0.9) + 50 * (alike > 0.95) if away < 0.075 else 0
        return alike - away + bonus - 5 * self.ended()

    def ended(self) -> bool:
        return bool(self.body("Object")[2] < 0.075)

    def axis(self, pen: str) -> np.ndarray:
        """The direction of a pen, a unit vector (3,)."""
        along = self.site(f"{pen}_top") - self.site(f"{pen}_bottom")
        return along / norm(along)


class Door(Hand, adroit_hand.AdroitHandDoorEnv):
    """Undo the latch and open the door, to 1.57 rad.  Observation (39,), action (28,)."""

    def reward(self) -> float:
        hinge = self.data.joint("door_hinge").qpos[0]
        bonus = 2 * (hinge > 0.2) + 8 * (hinge > 1.0) + 10 * (hinge > 1.35)
        away = norm(self.site("S_grasp") - self.site("S_handle"))
        return bonus - 0.1 * away - 0.1 * (hinge - 1.57) ** 2 - 1e-5 * self.data.qvel @ self.data.qvel


class Hammer(Hand, adroit_hand.AdroitHandHammerEnv):
    """Take the hammer and drive the nail into the board.  Observation (46,), action (26,)."""

    def reward(self) -> float:
        hammer, head, nail = self.body("Object"), self.site("tool"), self.site("S_target")
        left = norm(nail - self.site("nail_goal"))
        bonus = 2 * (hammer[2] > 0.04 and head[2] > 0.04) + 25 * (left < 0.02) + 75 * (left < 0.01)
        away = 0.1 * norm(self.site("S_grasp") - hammer) + norm(head - nail)
        return bonus - away - 10 * left - 1e-2 * norm(self.data.qvel)


class Relocate(Hand, adroit_hand.AdroitHandRelocateEnv):
    """Bring the ball to the green one, in the air.  Observation (39,), action (30,)."""

    def reward(self) -> float:
        ball, palm, target = self.body("Object"), self.site("S_grasp"), self.site("target")
        left = norm(ball - target)
        lifted = 1 - 0.5 * norm(palm - target) - 0.5 * left if ball[2] > 0.04 else 0
        return float(lifted - 0.1 * norm(palm - ball) + 10 * (left < 0.1) + 20 * (left < 0.05))
