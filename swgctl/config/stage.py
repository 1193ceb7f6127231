"""The table of stages: their names, settings and inputs.

A stage is a row here and a module, `swgctl.stages.NAME` or the one that the row names, with

    prepare(task, settings, seeds, inputs) -> Job   determines the key; builds nothing
    build(job, directory, work) -> dict             writes the artifact's files; returns its metrics
    task_of(argument, environment) -> Task          optional, for a stage without inputs; default: `swgctl.tasks.get`
    check(task, settings)                           optional: raises for bad settings before a run builds anything
    unread(inputs, settings) -> names of settings   optional: those that it does not read with these
    show(artifact)                                  optional: prints the table that people see at the end
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from swgctl import plugins
from swgctl.config import metrics
from swgctl.config.method import methods
from swgctl.config.settings import (
    AugmentSettings,
    BehaviourSettings,
    CandidatesSettings,
    CriticSettings,
    DiffuseSettings,
    EvalSettings,
    GuideSettings,
    Settings,
    ToySettings,
)
from swgctl.config.synthetic import AgentSettings, DynamicsSettings, SynthSettings, TrajectoriesSettings
from swgctl.errors import UsageError, nearest
from swgctl.store import schema

S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Input:
    """A role that artifacts of other stages fill.

    stages   the stages whose artifacts fit
    primary  named by `--from REF`; gives the stage its task and seeds, and its lineage fills the other roles.  A stage
             with several primary roles takes an artifact for one of them
    many     takes several artifacts: the second is `ROLE.2` in the record
    when     (settings, the primary role that is filled) -> whether this input is needed
    apart    prefix of its settings in reports if it is outside of the primary input's lineage; "": the role's name
    behind   filled from the primary input's lineage, where it has such an artifact; False: one that is there was made
             for another use
    """

    stages: tuple[str, ...]
    primary: bool = False
    many: bool = False
    when: Callable[[Any, str | None], bool] = lambda settings, primary: True
    apart: str = ""
    behind: bool = True


@dataclass(frozen=True)
class Stage(Generic[S]):
    """A row of the table.

    noun      name of its artifacts, with the article
    revision  part of every key; raised when the same settings would give another result, by more than rounding, which
              processors and modes of a step change as well
    inputs    by role; roles keep their names, which are part of keys
    module    its module; "": swgctl.stages.NAME
    optional  whether it starts from a task where no primary input is named
    """

    name: str
    noun: str
    settings: type[S]
    revision: int
    inputs: Mapping[str, Input] = field(default_factory=lambda: MappingProxyType({}))
    module: str = ""
    optional: bool = False

    @property
    def starts(self) -> bool:
        """Whether it can start from a task alone."""
        return self.optional or not self.primaries

    @property
    def primaries(self) -> dict[str, tuple[str, ...]]:
        """The roles of which `--from REF` fills one, and the stages that fit each; empty for a stage that starts from a
        task."""
        return {role: one.stages for role, one in self.inputs.items() if one.primary}

    def filled(self, inputs: Mapping[str, Any]) -> str | None:
        """The primary role that these inputs fill; None for a stage that starts from a task."""
        return next((role for role in self.primaries if role in inputs), None)

    @property
    def primary(self) -> str | None:
        """The first of the primary roles, the usual one; None for a stage that starts from a task."""
        return next(iter(self.primaries), None)


def _ranked(settings: EvalSettings, primary: str | None = None) -> bool:
    several = max(settings.resample) > 1 and max(settings.temperature) > 0
    return several and settings.select != "self" and primary != "agent"


def _contrasted(settings: GuideSettings, primary: str | None) -> bool:
    return "candidates" in methods()[settings.method].stages


DENOISERS = {"diffuse": Input(("diffuse",), primary=True), "behaviour": Input(("behaviour",), primary=True)}


CRITIC = Stage(
    "critic",
    "a critic",
    CriticSettings,
    1,
    {
        "synth": Input(("synth",), primary=True),
        "candidates": Input(("candidates",), when=lambda settings, primary: settings.loss == "isq"),
    },
    optional=True,
)
AUGMENT = Stage(
    "augment",
    "an augmented data set",
    AugmentSettings,
    1,
    {
        "critic": Input(("critic",), primary=True),
        "candidates": Input(("candidates",), when=lambda settings, primary: settings.share > 0, behind=False),
    },
)
DIFFUSE = Stage("diffuse", "a policy (diffuse)", DiffuseSettings, 1, {"augment": Input(("augment",), primary=True)})
EVAL = Stage(
    "eval",
    "an evaluation",
    EvalSettings,
    2,
    {
        **DENOISERS,
        "guide": Input(("guide",), primary=True),
        "agent": Input(("agent",), primary=True),
        # says which weight ranks the candidates
        "augment": Input(("augment",), when=lambda settings, primary: primary == "diffuse" and _ranked(settings)),
        "critic": Input(("critic",), when=_ranked, apart="ranking"),
    },
)
BEHAVIOUR = Stage("behaviour", "a behaviour model", BehaviourSettings, 1)
CANDIDATES = Stage("candidates", "a set of candidates", CandidatesSettings, 1, DENOISERS)
GUIDE = Stage(
    "guide",
    "a guide",
    GuideSettings,
    1,
    {
        **DENOISERS,
        "critic": Input(("critic",), apart="critic"),
        "candidates": Input(("candidates",), when=_contrasted, behind=False),
    },
)
TRAJECTORIES = Stage("trajectories", "a trajectory model", TrajectoriesSettings, 1)
DYNAMICS = Stage("dynamics", "a dynamics model", DynamicsSettings, 1)
SYNTH = Stage(
    "synth",
    "a synthetic data set",
    SynthSettings,
    1,
    {
        "trajectories": Input(("trajectories",), primary=True),
        "dynamics": Input(("dynamics",), primary=True),
        "agent": Input(("agent",), when=lambda settings, primary: settings.scale > 0 or primary == "dynamics"),
    },
)
AGENT = Stage(
    "agent",
    "an agent",
    AgentSettings,
    1,
    {
        "synth": Input(("synth",), primary=True, many=True),
        "trajectories": Input(("trajectories",), primary=True),
    },
    optional=True,
)
TOY = Stage("toy", "a toy", ToySettings, 3)

SHIPPED: dict[str, Stage] = {
    row.name: row
    for row in (
        CRITIC,
        AUGMENT,
        DIFFUSE,
        BEHAVIOUR,
        CANDIDATES,
        GUIDE,
        TRAJECTORIES,
        DYNAMICS,
        SYNTH,
        AGENT,
        EVAL,
        TOY,
    )
}


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


# -- records -----------------------------------------------------------------------------------------------------------


@schema.judge_by
def record_problem(meta: dict) -> str | None:
    """The first of a record's metrics that its readers cannot take, or of its inputs and params that its stage does not
    allow, and why.

    None where there is none, and for a stage that is not installed.  A setting that the record lacks, which is newer,
    counts as its default; what is no setting, such as the task's name, is only stored and compared.
    """
    if not (row := stages().get(meta["stage"])):
        return None
    wrong = metrics.problem(meta["metrics"]) or _wrong_inputs(row, meta["inputs"])
    return wrong or _wrong_params(row, meta["params"])


def _wrong_inputs(row: Stage, inputs: Mapping[str, Any]) -> str | None:
    for role, record in inputs.items():
        input = row.inputs.get(role.partition(".")[0])
        if input and record["stage"] not in input.stages:
            return f"inputs.{role}.stage: should be {' or '.join(input.stages)}"
    return None if row.starts or row.filled(inputs) else f"inputs: should have {' or '.join(row.primaries)}"


def _wrong_params(row: Stage, params: Mapping[str, Any]) -> str | None:
    ours = row.settings.model_fields
    critics = CriticSettings.model_fields.keys() - ours  # a weight has its critic's tau and alpha
    for kind, names in ((row.settings, ours), (CriticSettings, critics)):
        values = {name: value for name, value in params.items() if name in names}
        try:
            kind.model_validate(values, strict=True, context=schema.FILE)
        except ValidationError as error:
            return schema.first_of(error, "params")
    return None
