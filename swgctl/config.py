"""What each stage may be told, and how the layers merge: defaults < recipe < --recipe FILE < --set < named flag."""

import difflib
import math
import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from swgctl import seeds
from swgctl.errors import UsageError, nearest
from swgctl.tasks import names as task_names


class Settings(BaseModel):
    """The parameters of one stage.

    A field that is added later declares the neutral value with which keys stay as they were:
    `Field(default, json_schema_extra={"neutral": default})`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag(cls, value, info):
        flag = cls.model_fields[info.field_name].annotation is bool
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool) and not flag:  # as `yes` and `on` are read; 1 would be taken for it
                raise ValueError(f"must not be {str(one).lower()}")
        return value

    def keyed(self) -> dict[str, Any]:
        """The parameters as they enter a key: without those at their neutral value."""
        neutral = {
            name: field.json_schema_extra["neutral"]
            for name, field in type(self).model_fields.items()
            if isinstance(field.json_schema_extra, dict) and "neutral" in field.json_schema_extra
        }
        return {k: v for k, v in self.model_dump().items() if k not in neutral or v != neutral[k]}


# Of the factors of matrix products (`execution.products`); a key without it is of fp32, which was all there was.
Precision = Literal["fp32", "tf32", "bf16"]
MOST = 1_000_000  # a guidance scale, or candidates
Decay = Literal["none", "cosine"]  # of the rate (`optimisers.Adam`): to 0 at the last step, after a warm-up


class CriticSettings(Settings):
    """Q and V (SWG, appendix B.2 and Algorithm 3)."""

    loss: Literal["expectile", "quantile", "linex"] = "expectile"  # V's; linex and quantile weights need their own
    tau: float = Field(0.7, gt=0, lt=1)  # expectile or quantile; 0.9 for AntMaze
    alpha: float = Field(1.0, gt=0)  # temperature of the linex loss and weight
    gamma: float = Field(0.99, ge=0, lt=1)
    lr: float = Field(3e-4, gt=0)
    batch: int = Field(256, ge=1)
    steps: int = Field(1_000_000, ge=1)
    target_rate: float = Field(0.005, gt=0, le=1)  # of the soft update
    hidden: list[int] = [256, 256]
    rewards: Literal["task", "none", "return_range", "minus_one"] = "task"  # transform; "task": as the task says
    clip_actions: bool = False  # take data whose actions leave [-1, 1], clipped
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    @field_validator("hidden")
    @classmethod
    def _hidden(cls, value: list[int]) -> list[int]:
        if not value or min(value) < 1:
            raise ValueError("needs at least one layer of at least one unit")
        return value


# The loss of V that a weight belongs to: what IDQL's section 4 derives it from.
LOSS = {
    "expectile": "expectile",
    "hard_expectile": "expectile",
    "exponential": "expectile",
    "linex": "linex",
    "quantile": "quantile",
}


class AugmentSettings(Settings):
    """Advantages -> weights (SWG, section 5).  tau and alpha are the critic's."""

    weight: Literal["expectile", "hard_expectile", "exponential", "linex", "quantile"] = "expectile"
    scale: float = Field(1.0, gt=0)  # of the advantage in the smooth expectile; the official code uses 3
    beta: float = Field(3.0, gt=0)  # of exp(beta A)
    w_max: float = Field(80.0, gt=0)  # clips the weights that have no bound: exponential, linex, quantile


class DiffuseSettings(Settings):
    """The joint model of (action, weight) (SWG, Algorithm 1 and appendix B.2)."""

    K: int = Field(15, ge=2)  # diffusion steps
    schedule: Literal["vp", "cosine", "linear"] = "vp"
    width: int = Field(256, ge=1)
    blocks: int = Field(3, ge=1)
    weight_block: int = Field(2, ge=0)  # the block, counted from 1, whose output the weight's head reads; 0: no head
    # the width of a sub-network for the weight alone, weight_block blocks deep; 0: it shares the blocks
    weight_net: int = Field(0, ge=0, json_schema_extra={"neutral": 0})
    dropout: float = Field(0.1, ge=0, le=0.99)
    lr: float = Field(3e-4, gt=0)  # 3e-5 for Adroit Pen
    decay: Decay = Field("none", json_schema_extra={"neutral": "none"})
    batch: int = Field(1024, ge=1)
    steps: int = Field(1_000_000, ge=1)  # 3M for AntMaze
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    weight_scale: Literal["raw", "unit"] = "raw"  # "unit" divides the weights by their mean over the data
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    @field_validator("schedule")
    @classmethod
    def _reaches_noise(cls, value: str, info) -> str:
        steps = info.data.get("K", 1000)
        if value == "linear" and steps < 500:
            raise ValueError(
                f"keeps much of the data after {steps} steps, and sampling starts from none: K = 500 or more"
            )
        return value

    @field_validator("weight_net")
    @classmethod
    def _weight_head(cls, value: int, info) -> int:
        if value and info.data.get("weight_block") == 0:
            raise ValueError("a sub-network needs blocks: diffuse.weight_block=1 or more")
        return value

    @field_validator("weight_block")
    @classmethod
    def _weight_block(cls, value: int, info) -> int:
        if value > info.data.get("blocks", value):
            raise ValueError(f"must be at most diffuse.blocks = {info.data['blocks']}")
        return value


class EvalSettings(Settings):
    """Guided roll-outs (SWG, Algorithm 2 and section 5)."""

    rho: list[float] = [0.0, 15.0]  # guidance scales, each a row of cells
    resample: list[int] = [1]  # candidates M of which one is kept; above 1 it is SWG-R
    episodes: int = Field(20, ge=1)  # of each cell and seed; 50 for AntMaze
    sampler: Literal["ddpm", "ddim", "dpm-solver++"] = "ddpm"
    temperature: float = Field(1.0, ge=0)  # of the sampling noise; 0 is deterministic
    select: Literal["critic", "self"] = "critic"  # whose weight resampling ranks by
    w_min: float = Field(1e-4, gt=0)  # lower clamp of w_hat before its logarithm
    clip: bool = True  # clip every predicted z_0: actions to [-1, 1], the weight to the range of the data's
    seed: int = Field(0, ge=0)  # of the environments and the sampling noise
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    @field_validator("rho", "resample", mode="before")
    @classmethod
    def _many(cls, value):
        return value if isinstance(value, list) else [value]

    @field_validator("rho", "resample")
    @classmethod
    def _distinct(cls, value: list) -> list:
        if not value or not 0 <= min(value) <= max(value) <= MOST:
            raise ValueError(f"needs numbers from 0 to {MOST:,}")
        return sorted(set(value))

    @field_validator("resample")
    @classmethod
    def _candidates(cls, value: list[int]) -> list[int]:
        if min(value) < 1:
            raise ValueError("needs at least 1 candidate")
        return value

    @field_validator("temperature")
    @classmethod
    def _temperature(cls, value: float, info) -> float:
        if value == 0 and max(info.data.get("resample", [1])) > 1:
            raise ValueError("0 makes all candidates equal: leave out --resample, or raise the temperature")
        return value


class ToySettings(Settings):
    """The toy experiments (SWG, section 6.1 and appendix B.1)."""

    rows: int = Field(1_000_000, ge=1)  # points of the data set
    beta_max: float = Field(20.0, gt=0, le=100)  # trained for every beta up to it; the Swiss roll's target ends at 112
    K: int = Field(100, ge=2)  # diffusion steps
    schedule: Literal["cosine", "vp"] = "cosine"
    width: int = Field(512, ge=1)
    layers: int = Field(6, ge=1)
    activation: Literal["gelu", "silu"] = "gelu"
    octaves: int = Field(0, ge=0, json_schema_extra={"neutral": 0})  # of sines and cosines of the action, as inputs
    lr: float = Field(1e-4, gt=0)
    decay: Decay = "none"
    draws: Literal["uniform", "focused"] = Field("uniform", json_schema_extra={"neutral": "uniform"})  # of k and beta
    batch: int = Field(1024, ge=1)
    steps: int = Field(200_000, ge=1)
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    weight_scale: Literal["raw", "unit"] = "raw"  # "unit" divides the weights by their mean, a beta at a time
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})
    beta: list[float] = [0.0, 1.0, 5.0, 10.0, 15.0, 20.0]  # sampled
    rho: float = Field(1.0, ge=0, le=MOST)  # guidance scale; 1 targets the weighted density itself
    samples: int = Field(4000, ge=2, le=20_000)  # for each beta; the energy distance has as many squared of distances
    sampler: Literal["ddpm", "ddim", "dpm-solver++"] = "ddpm"
    w_min: float = Field(1e-4, gt=0)  # lower clamp of w_hat before its logarithm, as a share of the mean weight
    clip: bool = Field(True, json_schema_extra={"neutral": True})  # every predicted z_0, w at 95 % of the target's
    seed: int = Field(0, ge=0)  # of the data, the sampling noise and the distances

    @field_validator("beta", mode="before")
    @classmethod
    def _many(cls, value):
        return value if isinstance(value, list) else [value]

    @field_validator("beta")
    @classmethod
    def _trained(cls, value: list[float], info) -> list[float]:
        most = info.data.get("beta_max", math.inf)
        if not value or min(value) < 0 or max(value) > most:
            raise ValueError(f"must lie in [0, {most:g}], which is trained (toy.beta_max)")
        found = sorted(set(value))
        if len({f"{beta:g}" for beta in found}) < len(found):
            raise ValueError("has values that are alike to six digits")
        return found


STAGES: dict[str, type[Settings]] = {
    "critic": CriticSettings,
    "augment": AugmentSettings,
    "diffuse": DiffuseSettings,
    "eval": EvalSettings,
    "toy": ToySettings,
}


@dataclass(frozen=True)
class Resolved:
    """Settings of every stage and the seeds, each with where its value comes from (`origin`, by dotted name)."""

    stages: dict[str, Settings]
    seeds: list[int]
    origin: dict[str, str]

    def __getitem__(self, stage: str) -> Settings:
        return self.stages[stage]


# -- YAML --------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """YAML without its traps: 3e-4 is a number; 010, 1:30 and dates are none; a key that comes twice is an error."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the parent has it
        first: [(tag, form) for tag, form in known if tag.rpartition(":")[2] not in ("int", "float", "timestamp")]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"'{key}' comes twice (line {line})")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?((\d[\d_]*\.[\d_]*|\.\d[\d_]*)([eE][-+]?\d+)?|\d[\d_]*[eE][-+]?\d+|\.(inf|nan))$", re.IGNORECASE
    ),
    list("-+.0123456789"),
)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][\d_]*)$"), list("-+0123456789"))


@cache  # the same recipe is read for every run of a plan
def read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise UsageError(f"{where}: {' '.join(str(error).split())}", "swgctl recipe show demo") from None


# -- recipes -----------------------------------------------------------------------------------------------------------


def recipes_folder() -> Path:
    inside = Path(str(resources.files("swgctl"))) / "recipes"  # in a wheel
    return inside if inside.is_dir() else Path(__file__).parents[1] / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.yaml"))


def recipe_path(name: str) -> Path:
    """A shipped recipe by name, or a file.  Raises UsageError."""
    if name in recipe_names():
        return recipes_folder() / f"{name}.yaml"
    if (path := Path(name)).is_file():
        return path
    raise UsageError(f"no recipe '{name}'{nearest(name, recipe_names())}", "swgctl recipe ls")


def read_recipe(path: Path) -> dict:
    """A recipe as a nested dict; what is inside is checked when it is resolved.  Raises UsageError."""
    try:
        content = read_yaml(path.read_text(), str(path)) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}", "swgctl recipe show demo") from None
    if not isinstance(content, dict):
        raise UsageError(f"{path} is no recipe: it has no sections", "swgctl recipe show demo")
    return content


def task_sections(content: dict) -> dict:
    """What a recipe says of single tasks, by name."""
    tasks = content.get("tasks")
    return tasks if isinstance(tasks, dict) else {}


def _misplaced(content: dict) -> list[str]:
    """What is wrong with the shape of a recipe."""
    problems = _unknown(content, {"about", "seeds", "tasks", *STAGES}, "")
    for task, section in task_sections(content).items():
        problems += _unknown(section or {}, {"seeds", *STAGES}, f"tasks.{task}.")
    return problems


def _unknown(section: dict, known: set[str], prefix: str) -> list[str]:
    if not isinstance(section, dict):
        return [f"'{prefix.rstrip('.')}' must be a section"]
    problems = [f"unknown key '{prefix}{k}'{nearest(str(k), known)}" for k in section if k not in known]
    return problems + [
        f"'{prefix}{k}' must be a section"
        for k in ("tasks", *STAGES)
        if k in section and k in known and not isinstance(section[k] or {}, dict)
    ]


def resolve(
    task: str | None,
    family: str,
    *,
    recipe: str | None = None,
    assignments: Iterable[str] = (),
    flags: dict[str, Any] | None = None,
) -> Resolved:
    """Merges the layers for a task of a recipe family.

    recipe       --recipe: a shipped recipe's name or a file, on top of the family's own
    assignments  --set: "critic.lr=3e-4"
    flags        dotted names to values; None is not given
    Raises UsageError that names all problems at once.
    """
    resolved, problems = merge(task, family, recipe, assignments, flags)
    if problems:
        example = task if family == "toy" or task in task_names() else "demo"
        raise UsageError("; ".join(problems), f"swgctl recipe show {example}   # lists every key")
    return resolved


def merge(
    task: str | None,
    family: str,
    recipe: str | None,
    assignments: Iterable[str] = (),
    flags: dict[str, Any] | None = None,
) -> tuple[Resolved | None, list[str]]:
    """As `resolve`, with what is wrong as lines.  Raises UsageError where something cannot even be read."""
    layers = [(f"recipe {family}", read_recipe(recipe_path(family)))] if family in recipe_names() else []
    if recipe:
        layers.append((f"--recipe {recipe}", read_recipe(recipe_path(recipe))))
    values: dict[str, tuple[Any, str]] = {}
    problems = []
    for origin, content in layers:
        problems += [f"{problem} ({origin})" for problem in _misplaced(content)]
        special = task_sections(content).get(task) or {}
        for section, where in ((content, origin), (special, f"{origin}, {task}")):
            values |= {name: (value, where) for name, value in _leaves(section)}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set '{text}' is not NAME=VALUE", "--set critic.lr=3e-4")
        values[name.strip()] = (read_yaml(value, f"--set {name}"), "--set")
    values |= {name: (value, "flag") for name, value in (flags or {}).items() if value is not None}
    resolved, wrong = _validate(values)
    return resolved, problems + wrong


def _leaves(section: dict) -> Iterable[tuple[str, Any]]:
    if not isinstance(section, dict):
        return
    for stage in STAGES:
        if isinstance(section.get(stage), dict):
            yield from ((f"{stage}.{name}", value) for name, value in section[stage].items())
    if "seeds" in section:
        yield "seeds", section["seeds"]


def _validate(values: dict[str, tuple[Any, str]]) -> tuple[Resolved | None, list[str]]:
    problems, stages, origin = [], {}, {}
    known = ["seeds", *(f"{stage}.{name}" for stage, model in STAGES.items() for name in model.model_fields)]
    for name, (_, where) in values.items():
        if name not in known:
            problems.append(f"unknown key '{name}'{_nearest_setting(name, known)} ({where})")
    for stage, model in STAGES.items():
        given = {k.split(".", 1)[1]: v for k, (v, _) in values.items() if k in known and k.startswith(f"{stage}.")}
        try:
            stages[stage] = model.model_validate(given)
        except ValidationError as error:
            for item in error.errors():
                name = f"{stage}.{item['loc'][0]}"
                where = values.get(name, (None, "default"))[1]
                message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
                problems.append(f"{name} = {item['input']!r}: {message} ({where})")
        origin |= {f"{stage}.{name}": "default" for name in model.model_fields}
    members, where = values.get("seeds", ("0", "default"))
    try:
        members = seeds.parse(members)
    except UsageError as error:
        problems.append(f"{error} ({where})")
    if problems:
        return None, problems
    origin |= {"seeds": "default"} | {name: where for name, (_, where) in values.items()}
    return Resolved(stages, members, origin), []


def _nearest_setting(name: str, known: list[str]) -> str:
    """The nearest full name, or the setting of that bare name in another stage."""
    same = [k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2]]
    match = same or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean '{match[0]}'?)" if match else ""
