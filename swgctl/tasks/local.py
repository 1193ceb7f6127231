"""Local tasks: data sets that are rolled out on first use, in seconds, by the policies in `policies/` or a walker.

Nothing is downloaded, and equal versions write equal bytes: every draw is seeded by its purpose, and the file,
which appears under its name by one rename, holds no time stamp.
"""

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import h5py
import numpy as np

from swgctl.errors import UsageError, closest, nearest
from swgctl.files import canonical, write_atomically
from swgctl.tasks import layout, registry
from swgctl.tasks.behaviour import BehaviourPolicy, RandomPolicy, lock_step
from swgctl.tasks.cache import cached, pinned
from swgctl.tasks.layout import SCHEMA
from swgctl.tasks.waypoints import walk

POLICIES = Path(__file__).parent / "policies"
RECORDED = POLICIES / "checksums.json"
RANDOM, WAYPOINTS, ORACLE = "random", "waypoints", "oracle"  # policies without a file
ROWS = "SWGCTL_OGBENCH_ROWS"  # of the roll-outs of oracles
MOST_ROWS = 1_000_000  # as in the published sets


@dataclass(frozen=True)
class LocalTask:
    """The recipe of a data set: an environment, and the policies that act in it.

    `policies` are (name, rows): the rows of one policy come from `streams` environments in equal parts.  A name
    is `random`, `waypoints` (of a maze), `oracle` (OGBench's, alone), or that of a file
    policies/<environment>-<name>.safetensors.
    """

    environment: str
    policies: tuple[tuple[str, int], ...]
    length: int  # steps after which the clock ends an episode
    streams: int
    seed: int


FIELDS = layout.ROLLED_OUT


def build(name: str, directory: Path, say: Callable[[str], None]) -> tuple[Path, str]:
    """The data file of the local task `name` in `directory`, rolled out where it is missing; its sha256.

    The file's name carries a hash of its recipe, so that a file of another recipe is never taken for it.
    `say` gets one line before a roll-out, and one after it where the bytes differ from the recorded ones: a
    remark, not an error, since a data set is identified by its own checksum.  Raises UsageError for an unknown
    name, CorruptError where the file has changed since it was written, SwgError where it cannot be written.
    """
    path, task = path_of(name, directory), of(name)

    def make() -> None:
        rows = sum(rows for _, rows in task.policies)
        say(f"{name}: rolling out {rows:,} steps of {task.environment}, this once, into {path}")
        digest, recorded = pinned(roll_out(task, path)), json.loads(RECORDED.read_text())
        if remark := compare(recorded["sha256"].get(name), digest, recorded["versions"], versions(task)):
            say(f"{name}: {remark}")

    return path, cached(path, say, make)


def of(name: str) -> LocalTask:
    """The recipe of the local task of that name.  Raises UsageError for an unknown name."""
    local = {task.name: (task, facts.rollout) for task, facts in registry.table().values() if facts.rollout}
    if name not in local:
        raise UsageError(
            f"no local task '{name}'{nearest(name, local)}",
            f"swgctl data fetch {closest(name, local) or next(iter(local))}   # one of {', '.join(local)}",
        )
    task, rollout = local[name]
    assert task.horizon
    if ORACLE in rollout["policies"]:
        rollout = rollout | {"policies": {ORACLE: _oracle_rows(rollout["policies"][ORACLE])}}
    return LocalTask(
        task.environment, tuple(rollout["policies"].items()), task.horizon, rollout["streams"], rollout.get("seed", 0)
    )


def _oracle_rows(default: int) -> int:
    text = os.environ.get(ROWS)
    if not text:
        return default
    if not text.isdecimal() or not 1 <= int(text) <= MOST_ROWS:
        raise UsageError(
            f"{ROWS} must be a number of rows up to {MOST_ROWS:,}, not '{text}'", f"export {ROWS}={default}"
        )
    return int(text)


def path_of(name: str, directory: Path) -> Path:
    """The path where `build` puts the file.  Raises UsageError for an unknown name."""
    return directory / f"{name}-{recipe_hash(of(name))[:8]}.hdf5"


def roll_out(task: LocalTask, path: Path) -> Path:
    """Roll `task` out and write it to `path`, whole or not at all.

    Two processes that do this at once both succeed, with equal bytes.
    """
    if task.policies[0][0] == ORACLE:
        from swgctl.tasks import ogbench, oracles

        data = oracles.play(task.environment, task.policies[0][1], task.seed, ORACLE)
        made = {"seed": str(task.seed), "policies": "OGBench's oracle"} | ogbench.about(task.environment)
        write_atomically(path, lambda draft: ogbench.write(draft, data, made))
        return path
    parts = []
    about: dict[str, dict] = {}
    for name, rows in task.policies:
        size, words = (task.streams, rows // task.streams, task.length), (task.seed, name)
        if name == WAYPOINTS:
            about[name] = {"algorithm": "waypoints along the shortest way"}
            parts.append(walk(task.environment, *size, *words))
        else:
            policy = load(task, name)
            about[name] = policy.about
            parts.append(lock_step(task.environment, policy, *size, *words))
    flat = [{key: value.reshape(-1, *value.shape[2:]) for key, value in part.items()} for part in parts]
    data = {key: np.concatenate([part[key] for part in flat]) for key in flat[0]}
    who = np.arange(len(flat), dtype=np.int8)
    data["infos/behaviour_policy"] = np.repeat(who, [len(part["rewards"]) for part in flat])
    attributes = {
        "schema": SCHEMA,
        "env": task.environment,
        "seed": task.seed,
        "policies": canonical(about),
    }
    write_atomically(path, lambda draft: write(draft, data, attributes, names=list(about)))
    return path


def write(path: Path, data: dict[str, np.ndarray], attributes: dict, names: list[str]) -> None:
    """Write D4RL's flat HDF5, and read it back.  Raises SwgError where the two differ."""
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file.attrs.update(attributes)
        writer = layout.Writer(file, FIELDS)
        for key, value in data.items():
            writer.put(key, value)
        file["infos/behaviour_policy"].attrs["names"] = names
    writer.check(path)


def load(task: LocalTask, name: str) -> BehaviourPolicy | RandomPolicy:
    """The policy of this name for the task's environment."""
    return RandomPolicy() if name == RANDOM else BehaviourPolicy.load(policy_file(task, name))


def policy_file(task: LocalTask, name: str) -> Path:
    return POLICIES / f"{task.environment.rpartition('/')[2]}-{name}.safetensors"


def recipe_hash(task: LocalTask) -> str:
    """SHA-256 of all that determines the data but the installed versions: schema, recipe, the policies' bytes."""
    files = [policy_file(task, name) for name, _ in task.policies if name not in (RANDOM, WAYPOINTS, ORACLE)]
    policies = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    if task.policies[0][0] == ORACLE:
        with contextlib.suppress(PackageNotFoundError):  # then nothing is rolled out
            policies.append(version("ogbench"))
    return hashlib.sha256(canonical([SCHEMA, asdict(task), policies]).encode()).hexdigest()


def versions(task: LocalTask) -> dict[str, str]:
    """The libraries and the platform, on which the bytes of a roll-out depend beside its recipe."""
    needed = ["mujoco", "numpy", "h5py", "gymnasium"] + ["ogbench"] * (task.policies[0][0] == ORACLE)
    libraries = {name: version(name) for name in needed}
    return libraries | {"platform": f"{platform.system()}-{platform.machine()}"}


def other_versions(recorded: dict[str, str], installed: dict[str, str]) -> dict[str, str]:
    """The recorded versions that are not the installed ones; a library that this roll-out does not need is left out."""
    return {name: text for name, text in recorded.items() if text != installed.get(name, text)}


def compare(recorded: str | None, digest: str, theirs: dict[str, str], installed: dict[str, str]) -> str | None:
    """A remark on a file whose sha256 differs from the recorded one; None where it agrees or none was recorded."""
    if recorded in (None, digest):
        return None
    other = other_versions(theirs, installed)
    if not other:
        line = f"the file's sha256 is {digest}, but {recorded} was recorded with the same versions"
        return f"{line} (another processor or C library may round differently)"
    listed = ", ".join(f"{name} {text}, here {installed[name]}" for name, text in other.items())
    return f"the file's sha256 is {digest}; the recorded one belongs to other versions ({listed})"
