"""The tasks by name, from the YAML file of each family beside this one, and tasks made of a user's file."""

import re
import shlex
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import yaml

from swgctl.errors import CorruptError, InputError, UsageError, nearest

LOCOMOTION = ("HalfCheetah", "Hopper", "Walker2d")


@dataclass(frozen=True)
class Task:
    """A named problem.

    name         of the task; also a directory's name in the store
    environment  gymnasium id of what its policies are evaluated in
    source       where the data is: d4rl:<path on the server>, local:<name> or file:<absolute path>
    rewards      the transform that the critic sees: none, return_range or minus_one (`Transitions`)
    recipe       the family whose hyper-parameters it takes
    references   mean returns of a random and of an expert policy, for normalised scores; or None
    horizon      steps after which the environment ends an episode; None where it never does
    """

    name: str
    environment: str
    source: str
    rewards: str
    recipe: str
    references: tuple[float, float] | None
    horizon: int | None

    @property
    def argument(self) -> str:
        """How a command line names this task."""
        kind, _, where = self.source.partition(":")
        return f"{shlex.quote(where)} --env {self.environment}" if kind == "file" else self.name

    def to_json(self) -> dict:
        """A dict of strings, numbers, lists and None; `from_json` reads it back."""
        return asdict(self) | {"references": self.references and list(self.references)}

    @classmethod
    def from_json(cls, record: dict) -> "Task":
        """Raises CorruptError where the record has other fields than this version's."""
        try:
            task = cls(**record)
        except TypeError as error:
            raise CorruptError(f"task {record.get('name')}: {error}", "update swgctl") from None
        references = task.references and tuple(task.references)
        return cls(**asdict(task) | {"references": references})


@cache
def _known() -> dict[str, Task]:
    families = sorted(Path(__file__).parent.glob("*.yaml"))
    tables = [yaml.safe_load(family.read_text())["tasks"] for family in families]
    return {name: Task.from_json({"name": name} | row) for table in tables for name, row in table.items()}


def names() -> list[str]:
    """Every known task, family by family."""
    return list(_known())


def get(name_or_path: str, environment: str | None = None) -> Task:
    """The task of that name, or one made of an HDF5 file, which is evaluated in `environment`.

    Raises UsageError for an unknown name or environment and for a file without one, InputError for a missing
    file.
    """
    if task := _known().get(name_or_path):
        if environment not in (None, task.environment):
            # Its references are those of its own environment: scores in another would not be comparable.
            raise UsageError(
                f"{task.name} is evaluated in {task.environment}, not {environment}",
                f"swgctl critic {task.name}   (--env belongs to a file)",
            )
        return task
    path = Path(name_or_path)
    if not path.is_file():
        if path.suffix in (".hdf5", ".h5") or path.exists():
            raise InputError(f"{path}: no such file", "name an HDF5 file or a task: swgctl task ls")
        raise UsageError(
            f"no task is called '{name_or_path}'{nearest(name_or_path, _known())}",
            "swgctl task ls   (or: swgctl critic FILE --env ENV_ID)",
        )
    if environment is None:
        raise UsageError(
            f"{path}: a file does not say which environment its policies are evaluated in",
            f"swgctl critic {path} --env ENV_ID",
        )
    return _of_file(path, environment)


def _of_file(path: Path, environment: str) -> Task:
    """A task for a user's own data.  It has no references: a score on it must not pass for one of D4RL's."""
    from swgctl.tasks import environments

    horizon = environments.spec(environment).max_episode_steps
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "data"
    if name in _known():
        name += "-file"
    family = environment.rpartition(":")[2].rpartition("-")[0]
    if family in LOCOMOTION:
        rewards, recipe = "return_range", "locomotion"
    else:
        rewards, recipe = "minus_one" if family.startswith("AntMaze") else "none", "default"
    return Task(name, environment, f"file:{path.resolve()}", rewards, recipe, references=None, horizon=horizon)


def normalized_score(task: Task, returns):
    """100 (R - random) / (expert - random) of a return or an array of them; None if there are no references.

    D4RL's score, in which a random policy has 0 and an expert 100.  It is affine: apply it to returns and to
    means, never to a standard deviation or the width of an interval, where the offset must go:
    100 sd / (expert - random).
    """
    if task.references is None:
        return None
    random, expert = task.references
    return 100 * (returns - random) / (expert - random)
