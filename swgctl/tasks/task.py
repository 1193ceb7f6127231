"""A task: data source, environment, reward transform, reference scores."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from swgctl.console import shown
from swgctl.errors import CorruptError
from swgctl.files import is_component

# The reward transform and the recipe for a user's own data, by how its environment's id begins.
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

    name         also a directory's name in the store
    environment  gymnasium id for evaluation, or minari:<id> for the environment of that set
    source       the data: d4rl:<path on the server>, local:<name>, file:<absolute path>, minari:<id>; for the toys,
                 which have no environment, toy:<density>
    rewards      transform of the critic's rewards: none, return_range or minus_one (`Transitions`)
    recipe       family of its hyper-parameters
    references   mean returns of a random and of an expert policy, for normalised scores; or None
    horizon      steps after which the environment ends an episode; None where it never does
    score        unit of scores: "return", normalised by the references; or "success", the share of episodes in which
                 a step's info["success"] was true

    A field that is added later has a default, at which records leave it out: keys of old artifacts stand.
    """

    name: str
    environment: str
    source: str
    rewards: str
    recipe: str
    references: tuple[float, float] | None
    horizon: int | None
    score: Literal["return", "success"] = "return"

    @property
    def measures(self) -> tuple[str, ...]:
        """The numbers of a step's info that an evaluation keeps."""
        return () if self.score == "return" else (self.score,)

    def keyed(self) -> dict[str, str | int | None]:
        """What a key has of it: one file under two names is two problems with separate artifacts."""
        return {"task": self.name, "environment": self.environment, "horizon": self.horizon}

    def to_json(self) -> dict:
        """A dict of strings, numbers, lists and None; `from_json` reads it back."""
        values = {one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) != one.default}
        return values | {"references": self.references and list(self.references)}

    @classmethod
    def from_json(cls, record: dict) -> "Task":
        """Read a record.  Raises CorruptError where its fields are not this version's."""
        try:
            if not is_component(record["name"]):
                raise CorruptError(f"'{shown(record['name'])}' is no name of a task", "swgctl task ls")
            low, high = record["references"] or (None, None)
            return cls(**record | {"references": None if low is None else (low, high)})
        except (TypeError, ValueError, LookupError) as error:
            name = record.get("name") if isinstance(record, dict) else record
            raise CorruptError(f"task {name}: {error}", "update swgctl") from None


@dataclass(frozen=True)
class Facts:
    """Facts about a task beyond those that a run needs.

    rows        published number of rows, D4RL's mostly rounded; None where unpublished
    dimensions  of an observation and of an action
    terminal    the event that ends an episode in a state of value 0
    rollout     recipe of a local task: which policies act, for how many rows (`local.LocalTask`)
    """

    rows: int | None = None
    dimensions: tuple[int, int] | None = None
    terminal: str | None = None
    rollout: dict | None = None


def family_of(environment: str) -> tuple[str, str]:
    """The reward transform and the recipe for a user's own data from an environment."""
    name = re.split("[:/]", environment)[-1]
    return next((pair for start, pair in FAMILY_OF.items() if name.startswith(start)), ("none", "default"))


def normalized_score(task: Task, returns):
    """100 (R - random) / (expert - random) of a return or an array of them; None without references.

    D4RL's score: a random policy has 0, an expert 100.  It is affine: apply it to returns and to means, never to
    a standard deviation or the width of an interval, which scale without the offset: 100 sd / (expert - random).
    """
    if task.references is None:
        return None
    random, expert = task.references
    return 100 * (returns - random) / (expert - random)


def score(task: Task, episode: Mapping[str, float]) -> float | None:
    """The score of an episode by its `return` or `success`; None where a return has no references."""
    if task.score == "success":
        return 100 * episode["success"]
    return normalized_score(task, episode["return"])
