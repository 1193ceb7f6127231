"""Data sets that Minari has recorded here in real environments, and what makes more of them."""

import collections
import json
import warnings
from pathlib import Path

import gymnasium
import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

PENDULUM, MAZE, NOWHERE, SHUFFLED = "test/pendulum-v0", "test/maze/umaze-v1", "nowhere-v0", "shuffled-v0"
LOW, HIGH = np.array([-1, 0], np.float32), np.array([3, 0.4], np.float32)
BOX, ACTIONS = spaces.Box(-9, 9, (3,)), spaces.Box(LOW, HIGH)


class Shuffled(gymnasium.Env):
    """Keys in an order that is not the alphabet's, and actions in [-0.4, 0.4]; the state adds the actions up."""

    _first, _last = spaces.Box(-9, 9, (2,)), spaces.Tuple([spaces.Box(-9, 9, ()), spaces.Box(0, 9, (1, 1))])
    observation_space = spaces.Dict(collections.OrderedDict(b=_first, a=_last))
    action_space = spaces.Box(-0.4, 0.4, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.normal(size=2).astype(np.float32)
        return self._seen(), {}

    def step(self, action):
        self.state = self.state + np.asarray(action, np.float32)
        return self._seen(), float(self.state.sum()), False, False, {}

    def _seen(self):
        return {"b": self.state, "a": (self.state.sum(), np.array([[1.5]], np.float32))}


gymnasium.register("Shuffled-v0", f"{__name__}:Shuffled", max_episode_steps=6)


def record() -> dict:
    """Makes the four sets; {id: [(buffer, single observations)]} of those that were played in an environment."""
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    pendulum = gymnasium.make("Pendulum-v1", max_episode_steps=20)
    maze = gymnasium.make("PointMaze_UMaze-v3")
    shuffled = gymnasium.make("Shuffled-v0", disable_env_checker=True)
    played = {
        PENDULUM: [_play(pendulum, 20, 1, "truncations"), _play(pendulum, 7, 2, "terminations"), _play(pendulum, 9, 3)],
        MAZE: [_play(maze, 12, seed, "truncations") for seed in (4, 5)],
        SHUFFLED: [_play(shuffled, 6, 6, "truncations")],
    }
    buffers = {id: [buffer for buffer, _ in episodes] for id, episodes in played.items()}
    create(PENDULUM, buffers[PENDULUM], env=pendulum, ref_min_score=-1200.0, ref_max_score=-150.0)
    create(MAZE, buffers[MAZE], env=maze)
    create(SHUFFLED, buffers[SHUFFLED], env=shuffled)
    create(NOWHERE, [numbers(), numbers(2)])
    return played


def _play(env, steps, seed, ending=None):
    """(buffer, single observations) of random actions; `ending` is the flag that the last row has."""
    env.action_space.seed(seed)
    seen, actions, rewards = [env.reset(seed=seed)[0]], [], []
    for _ in range(steps):
        actions.append(env.action_space.sample())
        observation, reward, *_ = env.step(actions[-1])
        seen.append(observation)
        rewards.append(reward)
    last = np.arange(steps) == steps - 1
    flags = {name: last & (name == ending) for name in ("terminations", "truncations")}
    return EpisodeBuffer(observations=_stack(seen), actions=np.array(actions), rewards=rewards, infos={}, **flags), seen


def _stack(observations):
    """Of single observations, as Minari takes an episode's."""
    first = observations[0]
    if isinstance(first, dict):
        return {key: _stack([one[key] for one in observations]) for key in first}
    if isinstance(first, tuple):
        return tuple(_stack(part) for part in zip(*observations, strict=True))
    return np.array(observations)


def numbers(rows=4, **changes):
    """An episode of no environment, in BOX and ACTIONS; `changes` replace arrays."""
    random = np.random.default_rng(0)
    arrays = {
        "observations": random.normal(size=(rows + 1, 3)),
        "actions": random.uniform(LOW, HIGH, (rows, 2)),
        "rewards": random.normal(size=rows),
        "terminations": np.zeros(rows, bool),
        "truncations": np.arange(rows) == rows - 1,
        "infos": {},
    }
    return EpisodeBuffer(**arrays | changes)


def create(id, episodes, **about):
    """The set, as a user of Minari makes one; its spaces are BOX and ACTIONS where neither `env` nor they are given."""
    if "env" not in about:
        about = {"observation_space": BOX, "action_space": ACTIONS} | about
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return minari.create_dataset_from_buffers(id, episodes, **about)


def amend(folder: Path, **changes) -> None:
    """Changes what the set of the pendulum says of itself."""
    path = folder / PENDULUM / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def contents(folder: Path) -> dict:
    """All that is in a folder, locks aside: the bytes of a file, None of a directory."""
    found = [path for path in folder.rglob("*") if path.suffix != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in found}
