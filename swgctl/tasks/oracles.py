"""Roll-outs of OGBench's scripted oracles, of which its `play` sets are made, by the package's own classes.

Settings are those of the published script (data_gen_scripts/generate_manipspace.py of seohongpark/ogbench): episodes of
1001 steps that no goal ends, plans with noise of 0.1 smoothed over 0.5 steps, and a new target whenever one is reached.
"""

from typing import Any

import gymnasium
import numpy as np

from swgctl.tasks import ogbench
from swgctl.tasks.behaviour import counter
from swgctl.tasks.registered import library, quietly

LENGTH = 1001  # steps of an episode, the last of which has no next state
NOISE, SMOOTHING = 0.1, 0.5
STACKING = {"cube-single-v0": (0.0, 0.0), "cube-double-v0": (0.0, 0.25)}  # bounds of an episode's chance of a stack


def play(environment: str, rows: int, *words: Any) -> dict[str, np.ndarray]:
    """`rows` transitions of the cubes' oracle, relabelled for the single task `environment`, for `ogbench.write`.

    Every draw depends on `words` and the number of the episode.  Raises InputError without the package ogbench.
    """
    library()  # which registers the environments
    from ogbench.manipspace.oracles.plan.cube_plan import CubePlanOracle

    name = f"{environment.partition('-singletask')[0]}-v0"
    settings: dict[str, Any] = {"terminate_at_goal": False, "mode": "data_collection", "max_episode_steps": LENGTH}
    with quietly():
        world = gymnasium.make(name, disable_env_checker=True, **settings)
    oracle = CubePlanOracle(env=world, noise=NOISE, noise_smoothing=SMOOTHING)
    kept = np.random.get_state()  # noqa: NPY002 - the oracles draw from NumPy's global generator
    try:
        episodes = -(-rows // (LENGTH - 1))
        parts = [_episode(world, oracle, STACKING[name], counter(*words, episode)) for episode in range(episodes)]
    finally:
        np.random.set_state(kept)  # noqa: NPY002
        world.close()
    data = {key: np.concatenate([part[key] for part in parts])[:rows] for key in parts[0]}
    data["terminals"][-1] = True
    ogbench.relabel(data, environment)
    return data


def _episode(world: gymnasium.Env, oracle: Any, stacking: tuple[float, float], seed: int) -> dict[str, np.ndarray]:
    """An episode's transitions, with the states that relabelling reads; `terminals` is its last one."""
    np.random.seed(seed % (1 << 32))  # noqa: NPY002
    observation, info = world.reset(seed=seed % (1 << 32))
    chance = np.random.uniform(*stacking)  # noqa: NPY002
    oracle.reset(observation, info)
    observations, actions, states, over = [observation], [], [], False
    while not over:
        action = np.clip(oracle.select_action(observations[-1], info), -1, 1)
        observation, _, terminated, truncated, info = world.step(action)
        over = terminated or truncated
        if oracle.done:
            oracle.reset(*world.unwrapped.set_new_target(p_stack=chance))  # type: ignore[attr-defined]
        actions.append(action)
        states.append(info["prev_qpos"])
        observations.append(observation)
    rows = len(actions) - 1
    return {
        "observations": np.asarray(observations[:rows], np.float32),
        "actions": np.asarray(actions[:rows], np.float32),
        "next_observations": np.asarray(observations[1 : rows + 1], np.float32),
        "terminals": np.arange(rows) == rows - 1,
        "qpos": np.asarray(states[:rows], np.float32),
    }
