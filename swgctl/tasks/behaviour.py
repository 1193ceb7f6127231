"""Behaviour policies, which act in the data of the local tasks, and their training.

A policy is the actor of a Soft Actor-Critic run (Haarnoja et al., 2018) that was stopped early: one
safetensors file, which needs NumPy alone to act.  To train one again:

    python -m swgctl.tasks.behaviour HalfCheetah-v4 --steps 60000 --save 30000 60000 --out DIR
"""

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from swgctl.errors import CorruptError, InputError, SwgError
from swgctl.tasks import environments
from swgctl.tasks.spaces import box

LOG_STD = (-20.0, 2.0)  # bounds of log std in the actor's training


@dataclass(frozen=True)
class BehaviourPolicy:
    """A squashed Gaussian, a = tanh(mean(s) + std(s) * noise), with a ReLU network below both heads.

    `tensors` holds `hidden.i.kernel` (in, out) and `hidden.i.bias` (out,) for i = 0, 1, ..., and the heads
    `mean.*` and `log_std.*`, all float64; `about` records their training.
    """

    tensors: dict[str, np.ndarray]
    about: dict

    @classmethod
    def load(cls, path: Path) -> "BehaviourPolicy":
        """Read what `save` wrote.  Raises InputError where there is no file, CorruptError for any other."""
        try:
            with safe_open(path, framework="numpy") as file:
                about = json.loads(file.metadata()["swg"])
                names = file.keys()
                tensors = {name: file.get_tensor(name).astype(np.float64) for name in names}
        except FileNotFoundError:
            raise InputError(f"{path}: no such behaviour policy") from None
        except (SafetensorError, TypeError, KeyError, ValueError) as error:
            raise CorruptError(f"{path}: not a behaviour policy ({error})") from error
        return cls(tensors, about)

    def save(self, path: Path) -> None:
        """Write the tensors as float32, and `about` as the one metadata entry `swg`."""
        about = json.dumps(self.about, sort_keys=True, separators=(",", ":"))
        tensors = {name: tensor.astype(np.float32) for name, tensor in self.tensors.items()}
        save_file(tensors, path, metadata={"swg": about})

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The noise that `act` turns into actions: standard normal, of `shape`."""
        return generator.standard_normal(shape)

    def act(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Actions (n, A), float32 in [-1, 1], for observations (n, O) and normal noise (n, A)."""
        # In float64, rounded to float32 only at the end.  The BLAS kernels of different CPUs add in different
        # orders, so results differ in the last bit, from which the physics would make another episode.  The
        # rounding removes the difference: the same versions give the same bytes.
        x, i = observations.astype(np.float64), 0
        while f"hidden.{i}.kernel" in self.tensors:
            x, i = np.maximum(self._affine(f"hidden.{i}", x), 0.0), i + 1
        std = np.exp(np.clip(self._affine("log_std", x), *LOG_STD))
        return np.tanh(self._affine("mean", x) + std * noise).astype(np.float32)

    def _affine(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.tensors[f"{name}.kernel"] + self.tensors[f"{name}.bias"]


class RandomPolicy:
    """Uniform actions, independent of the observation."""

    about: ClassVar[dict] = {"algorithm": "uniform actions"}

    def draw(self, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """The actions themselves: uniform in [-1, 1), of `shape`."""
        return generator.uniform(-1.0, 1.0, shape)

    def act(self, observations: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """Actions (n, A), float32: the noise."""
        return noise.astype(np.float32)


def counter(*words) -> int:
    """A 64-bit seed that depends on the words alone, not on earlier draws."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, words)).encode()).digest()[:8], "big")


def recorder(world: gymnasium.Env, streams: int, rows: int) -> dict[str, np.ndarray]:
    """Arrays for D4RL's fields, (streams, rows, ...): float32, uninitialised; the flags bool, all False."""
    state_shape, action_shape = box(world.observation_space).shape, box(world.action_space).shape
    return {
        "observations": np.empty((streams, rows, *state_shape), np.float32),
        "actions": np.empty((streams, rows, *action_shape), np.float32),
        "rewards": np.empty((streams, rows), np.float32),
        "next_observations": np.empty((streams, rows, *state_shape), np.float32),
        "terminals": np.zeros((streams, rows), bool),
        "timeouts": np.zeros((streams, rows), bool),
    }


def lock_step(environment: str, policy, streams: int, rows: int, length: int, *words) -> dict[str, np.ndarray]:
    """Act in `streams` environments side by side, one batch a step, and record `rows` rows of each.

    An episode ends in a terminal state or, after `length` steps, by the clock; then the stream's next one
    starts.  A stream's last row always ends an episode, by the clock if not otherwise, since another stream
    follows it in a file.  Noise and initial states depend on `words`, stream and episode alone.

    Returns D4RL's fields with leading axes (streams, rows): observations, actions, rewards and
    next_observations, float32; terminals and timeouts, bool, never both true.
    """
    worlds = [environments.make(environment).unwrapped for _ in range(streams)]
    state_shape, action_shape = box(worlds[0].observation_space).shape, box(worlds[0].action_space).shape
    generators = [np.random.Generator(np.random.Philox(counter(*words, i))) for i in range(streams)]
    noise = np.stack([policy.draw(generator, (rows, *action_shape)) for generator in generators])
    data = recorder(worlds[0], streams, rows)
    state = np.empty((streams, *state_shape), np.float32)
    reward, terminal, ended = np.empty(streams), np.empty(streams, bool), np.ones(streams, bool)
    age, episode = np.empty(streams, int), np.zeros(streams, int)
    for t in range(rows):
        for i in map(int, np.flatnonzero(ended)):
            state[i], _ = worlds[i].reset(seed=counter(*words, i, episode[i]))
            age[i], episode[i] = 0, episode[i] + 1
        # The policy sees the float32 that the file will hold: its actions can be computed again from the file.
        action = policy.act(state, noise[:, t])
        data["observations"][:, t], data["actions"][:, t] = state, action
        for i, world in enumerate(worlds):
            state[i], reward[i], terminal[i], _, _ = world.step(action[i].astype(np.float64))
        age += 1
        timeout = ~terminal & ((age == length) | (t == rows - 1))
        data["rewards"][:, t], data["next_observations"][:, t] = reward, state
        data["terminals"][:, t], data["timeouts"][:, t] = terminal, timeout
        ended = terminal | timeout
    for world in worlds:
        world.close()
    return data


def measure(policy, environment: str, episodes: int = 20, length: int = 1000) -> np.ndarray:
    """The returns (episodes,) of a policy with its noise, in the first episode of each of `episodes` streams."""
    data = lock_step(environment, policy, episodes, length, length, "measure")
    ends = data["terminals"] | data["timeouts"]
    first = np.cumsum(ends, axis=1) - ends == 0
    return (data["rewards"].astype(np.float64) * first).sum(axis=1)


def train(environment: str, steps: int, save: list[int], seed: int, directory: Path) -> None:
    """Train a behaviour policy with SAC, and write the actor after each of the steps in `save`.

    Raises InputError where sbx-rl is missing.
    """
    try:
        import sbx
        from stable_baselines3.common.callbacks import BaseCallback
    except ImportError as error:
        message = f"training a behaviour policy needs sbx-rl ({error})"
        raise InputError(message, "pip install 'swgctl[behaviour]'") from error

    class Save(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps in save:
                policy = BehaviourPolicy(actor_tensors(self.model), about={})
                returns = measure(policy, environment)
                policy.about.update(
                    environment=environment,
                    algorithm="SAC",
                    library=f"sbx-rl {version('sbx-rl')}",
                    seed=seed,
                    steps=self.num_timesteps,
                    return_mean=round(float(returns.mean()), 1),
                    return_episodes=len(returns),
                )
                path = directory / f"{environment.rpartition('/')[2]}-seed{seed}-{self.num_timesteps}.safetensors"
                policy.save(path)
                print(f"{path}  return {returns.mean():.1f} +- {returns.std():.1f}", flush=True)
            return True

    directory.mkdir(parents=True, exist_ok=True)
    sbx.SAC("MlpPolicy", environments.make(environment), seed=seed, learning_starts=1000).learn(steps, callback=Save())


def actor_tensors(model) -> dict[str, np.ndarray]:
    """The actor of an sbx SAC model under the names of `BehaviourPolicy`: Flax's last two layers are the heads."""
    layers = model.policy.actor_state.params["params"]
    names = [*(f"hidden.{i}" for i in range(len(layers) - 2)), "mean", "log_std"]
    return {
        f"{name}.{part}": np.asarray(layers[f"Dense_{i}"][part], np.float64)
        for i, name in enumerate(names)
        for part in ("kernel", "bias")
    }


def main(arguments: list[str] | None = None) -> None:
    """The command line of `train`."""
    parser = argparse.ArgumentParser(prog="python -m swgctl.tasks.behaviour", description=train.__doc__)
    parser.add_argument("environment", help="a gymnasium id, such as HalfCheetah-v4")
    parser.add_argument("--steps", type=int, default=60_000, help="environment steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", type=int, nargs="+", help="write the actor after so many (default: all)")
    parser.add_argument("--out", type=Path, default=Path(), help="the directory to write to (default: here)")
    options = parser.parse_args(arguments)
    save = options.save or [options.steps]
    if max(save) > options.steps:
        parser.error(f"--save {max(save)} comes after the last of --steps {options.steps}")
    train(options.environment, options.steps, save, options.seed, options.out)


if __name__ == "__main__":
    try:
        main()
    except SwgError as error:
        print(f"error: {error}", f"help: {error.help}", sep="\n", file=sys.stderr)
        sys.exit(error.code)
