"""Environments that misbehave at step 3 of the copy with seed 5, for other processes: `support.unruly:Raises-v0`."""

import ctypes
import os
import signal
import sys
import time
import warnings

import gymnasium
import numpy as np
from gymnasium.spaces import Box

LIBC = ctypes.CDLL(None)


class Unruly(gymnasium.Env):
    """Observation: the seed and how many steps were taken.  Reward: the action, of which [-1, 1] is [0, 10]."""

    observation_space, action_space = Box(-np.inf, np.inf, (2,)), Box(0, 10, (1,))

    def __init__(self, deed: str):
        self.deed = deed

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed, self.taken = seed, 0
        return np.array([self.seed, 0.0]), {}

    def step(self, action):
        self.taken += 1
        if self.seed == 5 and self.taken == 3:
            getattr(self, self.deed)()
        return np.array([self.seed, self.taken]), float(action[0]), False, False, {}

    def raises(self):
        raise ValueError("the robot fell off the table")

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def leaves(self):
        os._exit(3)

    def prints(self):
        print("how do you do", flush=True)

    def prints_from_c(self):
        os.write(1, b"a descriptor's\n")
        LIBC.puts(b"a buffer's")
        sys.__stdout__.write("the interpreter's\n")

    def exits(self):
        sys.exit(5)

    def interrupts(self):
        raise KeyboardInterrupt

    def crashes(self):
        ctypes.string_at(0)

    def fills_memory(self):
        raise MemoryError

    def hangs(self):
        time.sleep(60)


class Large(Unruly):
    """One that holds 20 MB."""

    def __init__(self):
        super().__init__("raises")
        self.held = np.ones(20_000_000 // 8)


class Warns(Unruly):
    """One that makes its space of actions anew each time, and warns."""

    def __init__(self):
        super().__init__("raises")

    @property
    def action_space(self):
        warnings.warn("made anew", stacklevel=1)
        return Box(0, 10, (1,))


gymnasium.register("Warns-v0", "support.unruly:Warns", max_episode_steps=10)
gymnasium.register("Large-v0", "support.unruly:Large", max_episode_steps=10)
for _deed in (
    *("raises", "is_killed", "leaves", "prints", "prints_from_c", "hangs"),
    *("exits", "interrupts", "crashes", "fills_memory"),
):
    _name = f"{_deed.replace('_', ' ').title().replace(' ', '')}-v0"
    gymnasium.register(_name, "support.unruly:Unruly", max_episode_steps=10, kwargs={"deed": _deed})
