"""Replay: a simulator is set to the state of an observation, and says where a window's actions lead from there.

The errors are those of the analysis of PGD (arXiv 2404.06356, section 5.3, "dynamics error").
"""

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np

from swgctl.tasks import environments
from swgctl.tasks.spaces import box

VELOCITY = 10.0  # to which Hopper and Walker2d clip the velocities that they observe

Put = Callable[[Any, np.ndarray], None]  # sets an environment to the state of an observation (O,)


def _mujoco(world: Any, positions: np.ndarray, velocities: np.ndarray) -> None:
    """Set a MuJoCo environment to generalised positions and velocities, with nothing left of what it did before."""
    mujoco.mj_resetData(world.model, world.data)  # the solver starts from its last solution otherwise
    world.set_state(positions, velocities)


def _planar(world: Any, observation: np.ndarray) -> None:
    """HalfCheetah, Hopper, Walker2d: the position along x, on which no step depends, is not observed, and set to 0."""
    split = world.model.nq - 1
    _mujoco(world, np.append(0.0, observation[:split]), observation[split:])


def _maze(world: Any, observation: np.ndarray) -> None:
    _mujoco(world, observation[:2], observation[2:])


def _pendulum(world: Any, observation: np.ndarray) -> None:
    cosine, sine, velocity = observation
    world.state = np.array([np.arctan2(sine, cosine), velocity])


CLIPPED = ("Hopper-v4", "Hopper-v5", "swgctl/Hopper-v4", "Walker2d-v4", "Walker2d-v5")
MAZES = tuple(f"swgctl/Maze2d{maze}{kind}-v1" for maze in ("UMaze", "Medium", "Large") for kind in ("", "Dense"))
PUTS: dict[str, Put] = {
    **dict.fromkeys(("HalfCheetah-v4", "HalfCheetah-v5", *CLIPPED), _planar),
    **dict.fromkeys(MAZES, _maze),
    "Pendulum-v1": _pendulum,
}


class Replay:
    """The simulator of an environment whose state an observation determines.

    Observations, in the environment's units, are (B, L, O), actions, in [-1, 1], (B, L, A), of B windows of L rows.
    An error is the window's value minus the simulator's, in float64.  Nothing ends an episode here, neither a terminal
    state nor the clock.
    """

    def __init__(self, environment: str):
        """Make one of the environments in PUTS.  Raises what `environments.make` raises."""
        self.environment, self._put = environment, PUTS[environment]
        self._world: Any = environments.make(environment).unwrapped
        self._space = box(self._world.action_space)

    def errors(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Errors of the observations after h = 1 .. L - 1 steps from each window's first state, (B, L - 1, O).

        The simulator takes the window's actions and is set only once.  Meaningless where the first row is `clipped`.
        """
        return observations[:, 1:] - self.roll(observations[:, 0], actions[:, :-1])[0]

    def one_step(
        self, observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Errors of the next observation (B, L - 1, O) and of the reward (B, L - 1) of one step from each row but the
        last, for `rewards` (B, L).

        Meaningless in rows that are `clipped`.  The reward is that of the environment: D4RL's Maze2D files have that of
        the state before the action instead.
        """
        states, taken = observations[:, :-1], actions[:, :-1]
        reached, earned = self.roll(states.reshape(-1, states.shape[2]), taken.reshape(-1, 1, taken.shape[2]))
        return observations[:, 1:] - reached.reshape(states.shape), rewards[:, :-1] - earned.reshape(states.shape[:2])

    def roll(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Observations (B, H, O) and rewards (B, H) of `actions` (B, H, A) from the states of observations (B, O).

        Raises SwgError where the simulator fails.
        """
        reached, earned = np.empty((*actions.shape[:2], states.shape[1])), np.empty(actions.shape[:2])
        scaled = environments.rescale(actions.astype(np.float64), self._space.low, self._space.high)
        with environments.named(self.environment):
            for b, state in enumerate(states.astype(np.float64)):
                self._put(self._world, state)
                for h, action in enumerate(scaled[b]):
                    reached[b, h], earned[b, h], *_ = self._world.step(action)
        return reached, earned

    def clipped(self, observations: np.ndarray) -> np.ndarray:
        """Rows of observations (..., O) with a velocity at the clip, (...) bool: their state is not known."""
        first = self._world.model.nq - 1 if self.environment in CLIPPED else observations.shape[-1]
        return (np.abs(observations[..., first:]) >= VELOCITY).any(axis=-1)

    def close(self) -> None:
        self._world.close()


def replayer(environment: str) -> Replay | None:
    """The replay of an environment; None where an observation does not determine the state."""
    return Replay(environment) if environment in PUTS else None
