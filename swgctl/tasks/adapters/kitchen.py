"""Kitchen: a Franka arm completes four tasks, in any order.  D4RL's `kitchen`, ids kitchen-*-v0.

The model and the arm's controller are gymnasium-robotics'.  Its KitchenEnv is not used: its noise on the objects
is 1/200 of D4RL's and shifted by one entry, and its reward ignores the noise.  The remaining differences to D4RL
are how boxes touch in today's MuJoCo, and that noise on velocities, which nothing reads, is not drawn.
"""

from functools import cache

import mujoco
import numpy as np
from gymnasium.spaces import Box

from swgctl.tasks.adapters import old_contacts, quietly

with quietly():
    from gymnasium_robotics.envs.franka_kitchen.franka_env import FrankaRobot

NOISE = 0.1  # share of the amplitudes; the arm's amplitudes, 0.1, are gymnasium-robotics'
AMPLITUDES = np.repeat([0.005, 0.0005, 0.005, 0.1, 0.005, 0.1, 0.005], [2, 6, 3, 3, 3, 3, 1])  # of the objects (21,)
DONE = 0.3  # distance to the goal
# The entries of the position (30,) of each element, and their goal.
ELEMENTS = {
    "bottom burner": (slice(11, 13), (-0.88, -0.01)),
    "light switch": (slice(17, 19), (-0.69, -0.05)),
    "slide cabinet": (slice(19, 20), (0.37,)),
    "microwave": (slice(22, 23), (-0.75,)),
    "kettle": (slice(23, 30), (-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
}
START = np.array(
    [
        *(1.48388023e-01, -1.76848573e00, 1.84390296e00, -2.47685760e00, 2.60252026e-01),  # the arm
        *(7.12533105e-01, 1.59515394e00, 4.79267505e-02, 3.71350919e-02),
        *(-2.66279850e-04, -5.18043486e-05, 3.12877220e-05, -4.51199853e-05),  # burners
        *(-3.90842156e-06, -4.22629655e-05, 6.28065475e-05, 4.04984708e-05),
        *(4.62730939e-04, -2.26906415e-04, -4.65501369e-04),  # light switch, slide cabinet
        *(-6.44129196e-03, -1.77048263e-03, 1.08009684e-03),  # hinge cabinet, microwave
        *(-2.69397440e-01, 3.50383255e-01, 1.61944683e00),  # kettle
        *(1.00618764e00, 4.06395120e-03, -6.62095997e-03, -2.68278933e-04),
    ]
)


@cache
def _model(path: str) -> mujoco.MjModel:
    """The model, one for all kitchens of a process: it takes 55 MB and 0.2 s, and no episode changes it."""
    model = mujoco.MjModel.from_xml_path(path)
    old_contacts(model)
    return model


class Kitchen(FrankaRobot):
    """Reward: the number of `elements` that come within 0.3 of their goals for the first time.  All done ends it.

    Observation (60,): joints of the arm (9; rad, m) and of the objects (21; rad, m, the kettle's orientation last),
    both with the noise that the reward sees too; then the goals (30,), 0 where there is none.  Action (9,): joint
    velocities, in 2 rad/s, which the controller adds to the noisy reading.  `info` has the elements `left`.
    """

    def __init__(self, elements: tuple[str, ...], render_mode: str | None = None):
        model = "../assets/kitchen_franka/kitchen_assets/kitchen_env_model.xml"
        super().__init__(model, robot_noise_ratio=NOISE, render_mode=render_mode)
        self.action_space = Box(-1, 1, (9,), np.float32)
        self.observation_space = Box(-np.inf, np.inf, (60,), np.float64)
        self.init_qpos, self.init_qvel = START.copy(), np.zeros(self.model.nv)
        # D4RL's MuJoCo normalised the kettle's orientation in qpos at once, today's only in the first step.
        self.init_qpos[26:] /= np.linalg.norm(self.init_qpos[26:])
        self.elements = self.left = frozenset(elements)
        self.goal = np.zeros(30)
        for entries, goal in (ELEMENTS[element] for element in elements):
            self.goal[entries] = goal

    def _initialize_simulation(self) -> tuple[mujoco.MjModel, mujoco.MjData]:
        model = _model(self.fullpath)
        return model, mujoco.MjData(model)

    def step(self, action):
        observation, *_ = super().step(action)
        qpos = observation[:30]
        done = {e for e in self.left if np.linalg.norm((qpos - self.goal)[ELEMENTS[e][0]]) < DONE}
        self.left -= done
        return observation, float(len(done)), not self.left, False, {"left": sorted(self.left)}

    def reset_model(self) -> np.ndarray:
        self.left = self.elements
        return super().reset_model()

    def _get_reset_info(self) -> dict:
        return {"left": sorted(self.left)}

    def _get_obs(self) -> np.ndarray:
        arm = super()._get_obs()[:9]
        objects = self.data.qpos[9:] + NOISE * AMPLITUDES * self.np_random.uniform(-1, 1, 21)
        return np.concatenate([arm, objects, self.goal])
