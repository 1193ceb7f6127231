"""The table of stages: their names, settings and inputs.

A stage is a row here and a module, `swgctl.stages.NAME` or the one that the row names, with

    prepare(task, settings, seeds, inputs) -> Job   determines the key; builds nothing
    build(job, directory, work) -> dict             writes the artifact's files; returns its metrics
    task_of(argument, environment) -> Task          optional, for a stage without inputs; default: `swgctl.tasks.get`
    check(task, settings)                           optional: raises for bad settings before a run builds anything
    show(artifact)                                  optional: prints the table that people see at the end
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from swgctl import plugins
from swgctl.config.settings import (
    AugmentSettings,
    CriticSettings,
    DiffuseSettings,
    EvalSettings,
    Settings,
    ToySettings,
)
from swgctl.errors import UsageError, nearest

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Input:
    """A role that artifacts of other stages fill.

    stages   the stages whose artifacts fit
    primary  named by `--from REF`; gives the stage its task and seeds, and its lineage fills the other roles
    many     takes several artifacts: the second is `ROLE.2` in the record
    when     settings -> whether they need this input
    apart    prefix of its settings in reports if it is outside of the primary input's lineage; "": the role's name
    """

    stages: tuple[str, ...]
    primary: bool = False
    many: bool = False
    when: Callable[[Any], bool] = lambda settings: True
    apart: str = ""


@dataclass(frozen=True)
class Stage(Generic[S]):
    """A row of the table.

    noun      name of its artifacts, with the article
    revision  part of every key; raised when the same settings would give another result
    inputs    by role; roles keep their names, which are part of keys
    module    its module; "": swgctl.stages.NAME
    """

    name: str
    noun: str
    settings: type[S]
    revision: int
    inputs: Mapping[str, Input] = field(default_factory=lambda: MappingProxyType({}))
    module: str = ""

    @property
    def primary(self) -> str | None:
        """The role that `--from REF` fills; None for a stage that starts from a task."""
        return next((role for role, one in self.inputs.items() if one.primary), None)


def _ranked(settings: EvalSettings) -> bool:
    return max(settings.resample) > 1 and max(settings.temperature) > 0 and settings.select == "critic"


CRITIC = Stage("critic", "a critic", CriticSettings, 1)
AUGMENT = Stage("augment", "an augmented data set", AugmentSettings, 1, {"critic": Input(("critic",), primary=True)})
DIFFUSE = Stage("diffuse", "a policy (diffuse)", DiffuseSettings, 1, {"augment": Input(("augment",), primary=True)})
EVAL = Stage(
    "eval",
    "an evaluation",
    EvalSettings,
    2,
    {
        "diffuse": Input(("diffuse",), primary=True),
        "augment": Input(("augment",), when=_ranked),  # says which weight ranks the candidates
        "critic": Input(("critic",), when=_ranked, apart="ranking"),
    },
)
TOY = Stage("toy", "a toy", ToySettings, 3)

SHIPPED: dict[str, Stage] = {row.name: row for row in (CRITIC, AUGMENT, DIFFUSE, EVAL, TOY)}


@cache
def stages() -> dict[str, Stage]:
    """All stages by name, plugins' after the shipped ones."""
    return plugins.extend(SHIPPED, plugins.STAGES, Stage)


def stage_named(name: str) -> Stage:
    """The stage of a name.  Raises UsageError for an unknown one."""
    if name not in stages():
        raise UsageError(f"unknown stage '{name}'{nearest(name, stages())}", f"one of {', '.join(stages())}")
    return stages()[name]


def a(name: str) -> str:
    """Noun for a stage's artifacts, with its article."""
    row = stages().get(name)
    return row.noun if row else f"an artifact of the unknown stage '{name}'"
