"""Pendulum that says when it stands above the horizon: `support.upright:Upright-v0`."""

import gymnasium
from gymnasium.envs.classic_control import PendulumEnv


class Upright(PendulumEnv):
    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, reward, terminated, truncated, info | {"success": bool(observation[0] > 0)}


gymnasium.register("Upright-v0", "support.upright:Upright", max_episode_steps=25)
