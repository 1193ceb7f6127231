"""The tasks by name, from the YAML file of each family in families/, and tasks made of what a user has."""

import re
import shlex
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

import yaml

from swgctl.errors import CorruptError, InputError, UsageError, nearest

FAMILIES = Path(__file__).parent / "families"

# The reward transform and the recipe of an environment that no task names, by how its id begins.
FAMILY_OF = {
    "HalfCheetah": ("return_range", "locomotion"),
    "Hopper": ("return_range", "locomotion"),
    "Walker2d": ("return_range", "locomotion"),
    "AntMaze": ("minus_one", "antmaze"),
    "FrankaKitchen": ("none", "kitchen"),
    "Kitchen": ("none", "kitchen"),
    "Adroit": ("none", "adroit"),
    "Maze2d": ("none", "maze2d"),
    "PointMaze": ("none", "maze2d"),
}


@dataclass(frozen=True)
class Task:
    """A named problem.

    name         of the task; also a directory's name in the store
    environment  gymnasium id of what its policies are evaluated in, or minari:<id> for what that set recorded
    source       where the data is: d4rl:<path on the server>, local:<name>, file:<absolute path>, minari:<id>; or, of
                 the toys, which have no environment, toy:<density>
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
        if kind not in ("file", "minari"):
            return self.name
        named = shlex.quote(where) if kind == "file" else self.source
        return named if named == self.environment else f"{named} --env {self.environment}"

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


@dataclass(frozen=True)
class Facts:
    """What is known of a task beside what a run of it needs.

    rows        of its data, as published (D4RL's in round numbers mostly); None where they are not
    dimensions  of an observation and of an action
    terminal    what ends an episode in a state of value 0
    rollout     of a local task: who acts, for how many rows (`local.LocalTask`)
    """

    rows: int | None = None
    dimensions: tuple[int, int] | None = None
    terminal: str | None = None
    rollout: dict | None = None


@cache
def _known() -> dict[str, tuple[Task, Facts]]:
    tables = [yaml.safe_load(family.read_text())["tasks"] for family in sorted(FAMILIES.glob("*.yaml"))]
    known = {}
    for name, row in ((name, row) for table in tables for name, row in table.items()):
        told = {field.name: row.pop(field.name) for field in fields(Facts) if field.name in row}
        dimensions = told.get("dimensions")
        facts = Facts(**told | {"dimensions": dimensions and tuple(dimensions)})
        known[name] = Task.from_json({"name": name} | row), facts
    return known


def facts(task: Task) -> Facts:
    """What is known of a task; nothing of one that is made of a user's data."""
    known, facts = _known().get(task.name, (None, Facts()))
    return facts if known == task else Facts()


def names() -> list[str]:
    """Every known task, family by family."""
    return list(_known())


def get(name_or_path: str, environment: str | None = None) -> Task:
    """The task of that name, or one made of an HDF5 file, which is evaluated in `environment`.

    Raises UsageError for an unknown name or environment and for a file without one, InputError for a missing
    file.
    """
    if name_or_path in _known():
        task, _ = _known()[name_or_path]
        if environment not in (None, task.environment):
            # Its references are those of its own environment: scores in another would not be comparable.
            raise UsageError(
                f"{task.name} is evaluated in {task.environment}, not {environment}",
                f"swgctl critic {task.name}   (--env belongs to a file)",
            )
        return task
    if name_or_path.startswith("minari:"):
        from swgctl.console import say
        from swgctl.tasks import minari_data

        return minari_data.task_of(name_or_path.removeprefix("minari:"), say, environment)
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
            f"swgctl critic {shlex.quote(str(path))} --env ENV_ID",
        )
    return _of_file(path, environment)


def _of_file(path: Path, environment: str) -> Task:
    """A task for a user's own data.  It has no references: a score on it must not pass for one of D4RL's."""
    from swgctl.tasks import environments

    horizon = environments.spec(environment).max_episode_steps
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-.") or "data"
    if name in _known():
        name += "-file"
    rewards, recipe = family_of(environment)
    return Task(name, environment, f"file:{path.resolve()}", rewards, recipe, references=None, horizon=horizon)


def family_of(environment: str) -> tuple[str, str]:
    """The reward transform and the recipe for data of an environment that no task names."""
    name = re.split("[:/]", environment)[-1]
    return next((found for start, found in FAMILY_OF.items() if name.startswith(start)), ("none", "default"))


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
