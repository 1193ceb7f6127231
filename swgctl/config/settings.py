"""Settings of each stage, typed and checked."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from swgctl.config.method import methods
from swgctl.errors import nearest

# Upper limits, beyond what any machine holds: a slip of the keyboard is said before anything is built.
MOST = 1_000_000  # of guidance scales and of candidates
EQUAL_CANDIDATES = "0 makes all candidates equal: --resample 1, or another temperature beside it"
MOST_VALUES = 1_000  # of a list
MOST_ROWS = 2**24  # of a batch
MOST_STEPS = 10**12
MOST_UNITS, MOST_LAYERS = 2**16, 256  # of a layer, of a network


class Settings(BaseModel):
    """Parameters of one stage.

    A field that is added later declares its neutral value, at which keys leave it out and so stay as they were:
    `Field(default, json_schema_extra={"neutral": default})`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        kind = cls.model_fields[info.field_name].annotation
        many = value if isinstance(value, list) else [value]
        if len(many) > MOST_VALUES:
            raise ValueError(f"has {len(many):,} values, of at most {MOST_VALUES:,}")
        for one in many:
            if isinstance(one, bool) and kind is not bool:  # YAML reads `yes` as a boolean, and pydantic that as 1
                raise ValueError(f"must not be {str(one).lower()}")
            if kind is int and isinstance(one, int | float) and abs(one) >= 2**63:
                raise ValueError("must fit into 64 bits")
        return value

    def keyed(self) -> dict[str, Any]:
        """Parameters as they enter a key, without those at their neutral value."""
        neutral = {
            name: field.json_schema_extra["neutral"]
            for name, field in type(self).model_fields.items()
            if isinstance(field.json_schema_extra, dict) and "neutral" in field.json_schema_extra
        }
        return {k: v for k, v in self.model_dump().items() if k not in neutral or v != neutral[k]}


# Precision of the factors of matrix products (`execution.products`); old keys, which lack it, are of fp32.
Precision = Literal["fp32", "tf32", "bf16"]
SamplerName = Literal["ddpm", "ddim", "dpm-solver++", "dpm-solver-2s"]  # `diffusion.SAMPLERS`
Decay = Literal["none", "cosine"]  # learning rate (`optimisers.Adam`): cosine falls to 0 at the end, after a warm-up


def has_layers(value: list[int]) -> list[int]:
    """Check the widths of a network's hidden layers."""
    if not value or min(value) < 1:
        raise ValueError("needs at least one layer of at least one unit")
    if len(value) > MOST_LAYERS or max(value) > MOST_UNITS:
        raise ValueError(f"needs at most {MOST_LAYERS} layers of at most {MOST_UNITS:,} units")
    return value


class CriticSettings(Settings):
    """Learning of Q and V (SWG, appendix B.2 and Algorithm 3)."""

    # V's loss, which a weight needs (LOSS); cql: expectile and a penalty of Q; isq: Q of candidates of the next states
    loss: Literal["expectile", "quantile", "linex", "cql", "isq", "dice"] = "expectile"
    tau: float = Field(0.7, gt=0, lt=1)  # level of the expectile or quantile; 0.9 for AntMaze
    alpha: float = Field(1.0, gt=0)  # temperature of the linex and dice losses and weights; D-DICE has 0.5
    cql_alpha: float = Field(1.0, ge=0, json_schema_extra={"neutral": 1.0})  # cql: coefficient of the penalty
    q_beta: float = Field(1.0, ge=0, json_schema_extra={"neutral": 1.0})  # isq: inverse temperature of the softmax
    gamma: float = Field(0.99, ge=0, lt=1)
    lr: float = Field(3e-4, gt=0)
    batch: int = Field(256, ge=1, le=MOST_ROWS)
    steps: int = Field(1_000_000, ge=1, le=MOST_STEPS)
    target_rate: float = Field(0.005, gt=0, le=1)  # rate of the targets' soft update
    hidden: list[int] = [256, 256]
    rewards: Literal["task", "none", "return_range", "minus_one"] = "task"  # transform; "task": the task's
    clip_actions: bool = False  # accept data whose actions leave [-1, 1], and clip them
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    _hidden = field_validator("hidden")(has_layers)

    def keyed(self) -> dict[str, Any]:
        """The penalty's coefficient and the softmax's temperature enter the key with the loss that reads them."""
        read = {"cql": "cql_alpha", "isq": "q_beta"}.get(self.loss)
        return {k: v for k, v in super().keyed().items() if k not in {"cql_alpha", "q_beta"} - {read}}


# Weight -> the losses of V that it can follow.  It is derived from the first (IDQL, section 4; D-DICE); the V of cql is
# an expectile too, and that of isq the value of a softmax policy within the data's support.
LOSS = {
    "expectile": ("expectile", "cql", "isq"),
    "hard_expectile": ("expectile", "cql", "isq"),
    "exponential": ("expectile", "cql", "isq"),
    "linex": ("linex",),
    "quantile": ("quantile",),
    "dice": ("dice",),
}


class WeightSettings(Settings):
    """A weight of the advantage (SWG, section 5).  tau and alpha are the critic's."""

    weight: Literal["expectile", "hard_expectile", "exponential", "linex", "quantile", "dice"] = "expectile"
    scale: float = Field(1.0, gt=0)  # factor of the advantage in the smooth expectile; the official code uses 3
    beta: float = Field(3.0, gt=0)  # inverse temperature of exp(beta A)
    w_max: float = Field(80.0, gt=0)  # clips the unbounded weights: exponential, linex, quantile, dice (D-DICE: 100)

    def weighing(self) -> dict[str, Any]:
        """The weight, and the settings that it reads."""
        options = {"expectile": ["scale"], "hard_expectile": [], "exponential": ["beta", "w_max"]}
        return {name: getattr(self, name) for name in ("weight", *options.get(self.weight, ["w_max"]))}


class AugmentSettings(WeightSettings):
    """Weights of the data's rows, and of candidates beside them."""

    # of a training batch's rows, the part that are candidates: actions of a behaviour model, weighed by the critic
    share: float = Field(0.0, ge=0, lt=1, json_schema_extra={"neutral": 0.0})

    def weighing(self) -> dict[str, Any]:
        """The weight, the settings that it reads, and the candidates' share if there is one."""
        return super().weighing() | ({"share": self.share} if self.share else {})


def reaches_noise(value: str, info: ValidationInfo) -> str:
    """Check a schedule against the number of steps, `K`, which is validated before it."""
    steps = info.data.get("K", 1000)
    if value == "linear" and steps < 500:
        raise ValueError(
            f"keeps much of the data after {steps} steps, but sampling starts from noise: K must be 500 or more"
        )
    return value


class DiffuseSettings(Settings):
    """Joint diffusion model of (action, weight) (SWG, Algorithm 1 and appendix B.2)."""

    K: int = Field(15, ge=2, le=MOST)  # diffusion steps
    schedule: Literal["vp", "cosine", "linear"] = "vp"
    width: int = Field(256, ge=1, le=MOST_UNITS)
    blocks: int = Field(3, ge=1, le=MOST_LAYERS)
    # block, counted from 1, whose output feeds the weight's head; 0: no head
    weight_block: int = Field(2, ge=0, le=MOST_LAYERS)
    # width of a sub-network for the weight alone, weight_block blocks deep; 0: the weight shares the blocks
    weight_net: int = Field(0, ge=0, le=MOST_UNITS, json_schema_extra={"neutral": 0})
    dropout: float = Field(0.1, ge=0, le=0.99)
    lr: float = Field(3e-4, gt=0)  # 3e-5 for Adroit Pen
    decay: Decay = Field("none", json_schema_extra={"neutral": "none"})
    batch: int = Field(1024, ge=1, le=MOST_ROWS)
    steps: int = Field(1_000_000, ge=1, le=MOST_STEPS)  # 3M for AntMaze
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    # the weight's channel: w itself, w by its mean over the data ("unit"), or w z-scored over the data ("standard")
    weight_scale: Literal["raw", "unit", "standard"] = "raw"
    # what the weight's head predicts: the channel's noise, or its clean value, of which the noise then follows
    weight_form: Literal["noise", "data"] = Field("noise", json_schema_extra={"neutral": "noise"})
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    _schedule = field_validator("schedule")(reaches_noise)

    def channels(self, action_dim: int) -> int:
        """Number of channels of z = [action, weight]."""
        return action_dim + 1

    def network(self) -> dict[str, Any]:
        """Arguments of `models.Denoiser` beside its sizes and schedule."""
        names = {"K", "width", "blocks", "weight_block", "weight_net", "weight_form", "dropout"}
        return self.model_dump(include=names)

    @field_validator("weight_net")
    @classmethod
    def _weight_head(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("weight_block") == 0:
            raise ValueError("a sub-network needs blocks: diffuse.weight_block=1 or more")
        return value

    @field_validator("weight_form")
    @classmethod
    def _form_of_a_head(cls, value: str, info: ValidationInfo) -> str:
        if value == "data" and info.data.get("weight_block") == 0:
            raise ValueError("data needs a head of the weight: diffuse.weight_block=1 or more")
        return value

    @field_validator("weight_block")
    @classmethod
    def _weight_block(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("blocks", value):
            raise ValueError(f"must be at most diffuse.blocks = {info.data['blocks']}")
        return value


class BehaviourSettings(Settings):
    """Diffusion model of the action alone (AEPO, equation 7)."""

    K: int = Field(15, ge=2, le=MOST)  # diffusion steps
    schedule: Literal["vp", "cosine", "linear"] = "vp"
    width: int = Field(256, ge=1, le=MOST_UNITS)
    blocks: int = Field(3, ge=1, le=MOST_LAYERS)
    fourier: float = Field(0.2, gt=0)  # spread of the step's frequencies; 0.03 for K = 1000
    dropout: float = Field(0.1, ge=0, le=0.99)
    lr: float = Field(3e-4, gt=0)
    decay: Decay = "none"
    batch: int = Field(1024, ge=1, le=MOST_ROWS)
    steps: int = Field(1_000_000, ge=1, le=MOST_STEPS)
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    clip_actions: bool = False  # accept data whose actions leave [-1, 1], and clip them
    precision: Precision = "bf16"

    _schedule = field_validator("schedule")(reaches_noise)

    def channels(self, action_dim: int) -> int:
        """Number of channels of z = [action]."""
        return action_dim

    def network(self) -> dict[str, Any]:
        """Arguments of `models.Denoiser` beside its sizes and schedule."""
        return self.model_dump(include={"K", "width", "blocks", "fourier", "dropout"}) | {"weight_block": 0}


class CandidatesSettings(Settings):
    """Actions drawn from a denoiser, unguided, at states of the data (QGPO's fake actions)."""

    M: int = Field(16, ge=2, le=MOST)  # actions a state; 32 for AntMaze
    of: Literal["states", "next"] = "states"  # "next": the successors, for critics of in-support targets
    rows: int = Field(0, ge=0, le=MOST_STEPS)  # size of a random part of the data; 0: all
    sampler: SamplerName = "ddpm"
    temperature: float = Field(1.0, gt=0)
    clip: bool = True  # clip every predicted z_0
    seed: int = Field(0, ge=0)  # for the rows and the noise
    precision: Precision = "bf16"


PLAIN_WEIGHT: Literal["exponential"] = "exponential"  # of a guide on a plain denoiser, unless it names another


class GuideSettings(Settings):
    """The intermediate energy E(z_k, k, s) of a weight, by one of the methods that learn it (`config.method`)."""

    method: str = "cep"
    # "": a joint denoiser's; PLAIN_WEIGHT on a plain one
    weight: Literal["", "expectile", "hard_expectile", "exponential", "linex", "quantile", "dice"] = ""
    scale: float = Field(1.0, gt=0)  # factor of the advantage in the smooth expectile
    beta: float = Field(3.0, gt=0)  # inverse temperature of exp(beta A)
    w_max: float = Field(80.0, gt=0)  # clips the unbounded weights
    normalise: Literal["self", "none"] = "self"  # of cep's targets: over the candidates (published), or equation 12
    noises: int = Field(1, ge=1, le=MOST_ROWS)  # ddice: noisy copies of a row; 16 in the published code
    expansion: Literal["data", "posterior_mean"] = "data"  # aepo: the point at which log w is expanded
    eta: float = Field(1e-3, ge=0)  # aepo: length of the step from the data's action to that point
    posterior: Literal[1, 2, 3] = 1  # aepo: estimate of the posterior variance, equation 22, 24 or 42
    curvature: Literal["paper", "secant"] = "paper"  # aepo: the last term as printed, or with a measured curvature
    # rows a step from which aepo's variances, and the lines of a calibration, are estimated
    moments: int = Field(16_384, ge=256, le=MOST_ROWS)
    hidden: list[int] = [256, 256, 256, 256]  # AEPO has three layers
    lr: float = Field(3e-4, gt=0)
    decay: Decay = "none"
    batch: int = Field(256, ge=1, le=MOST_ROWS)  # rows in a gradient step
    states: int = Field(256, ge=1, le=MOST_ROWS)  # cep: states in a gradient step, each with all its candidates
    steps: int = Field(1_000_000, ge=1, le=MOST_STEPS)
    ema: float = Field(0.005, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    precision: Precision = "bf16"

    _hidden = field_validator("hidden")(has_layers)

    @field_validator("method")
    @classmethod
    def _method(cls, value: str, info: ValidationInfo) -> str:
        guides = [name for name, row in methods().items() if "guide" in row.stages]
        if value not in guides and not info.context:  # a record's may be a plugin's that is not installed
            raise ValueError(f"must be one of {', '.join(guides)}{nearest(value, guides)}")
        return value


class EvalSettings(Settings):
    """Guided roll-outs (SWG, Algorithm 2 and section 5)."""

    rho: list[float] = [0.0, 15.0]  # guidance scales, one row of cells each
    resample: list[int] = [1]  # numbers M of candidates of which one is kept; SWG-R if above 1
    episodes: int = Field(20, ge=1, le=MOST)  # for each cell and seed; 50 for AntMaze
    sampler: SamplerName = "ddpm"
    # steps that the walk visits, evenly spread; 0: all.  dpm-solver-2s calls the denoiser once more, for its last z_0
    nfe: int = Field(0, ge=0, le=MOST, json_schema_extra={"neutral": 0})
    # guidance acts in the last steps alone, those of k < kmax; 0: in all
    kmax: int = Field(0, ge=0, le=MOST, json_schema_extra={"neutral": 0})
    rescale: bool = Field(False, json_schema_extra={"neutral": False})  # to the unguided noise's norm (AEPO, eq. 45)
    temperature: list[float] = [1.0]  # factors of the sampling noise, a set of cells each; 0 is deterministic
    # which candidate is kept: the one of greatest weight by the critic or by the model, or one drawn ~ w ("sample")
    select: Literal["critic", "self", "sample"] = "critic"
    w_min: float = Field(1e-4, gt=0)  # lower clamp of w_hat before its logarithm
    clip: bool = True  # clip every predicted z_0: actions to [-1, 1], the weight to the range of the data's
    seed: int = Field(0, ge=0)  # for the environments and the sampling noise
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})
    method: str = Field("swg", json_schema_extra={"neutral": "swg"})  # guidance, by its name in `config.method`

    @field_validator("method")
    @classmethod
    def _method(cls, value: str, info: ValidationInfo) -> str:
        if value not in methods() and not info.context:
            raise ValueError(f"must be one of {', '.join(methods())}{nearest(value, methods())}")
        return value

    def keyed(self) -> dict[str, Any]:
        """A single temperature enters the key as the number that it was before there could be several."""
        values = super().keyed()
        return values | {"temperature": self.temperature[0]} if len(self.temperature) == 1 else values

    @field_validator("rho", "resample", "temperature", mode="before")
    @classmethod
    def _many(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("rho", "resample", "temperature")
    @classmethod
    def _distinct(cls, value: list[Any]) -> list[Any]:
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
    def _temperature(cls, value: list[float], info: ValidationInfo) -> list[float]:
        if max(value) == 0 and min(info.data.get("resample", [1])) > 1:
            raise ValueError(EQUAL_CANDIDATES)
        return value


class ToySettings(Settings):
    """The toy experiments (SWG, section 6.1 and appendix B.1), with its guidance or another one."""

    # swg: a denoiser of (a, w); the others: one of a, beside an energy, or beside Q (dps)
    method: Literal["swg", "mse", "dps", "emse", "cep", "ddice", "aepo"] = Field(
        "swg", json_schema_extra={"neutral": "swg"}
    )
    rows: int = Field(1_000_000, ge=1, le=MOST_ROWS)  # points of the data set
    beta_max: float = Field(20.0, gt=0, le=100)  # greatest trained beta; the Swiss roll's target exists below 112
    K: int = Field(100, ge=2, le=MOST)  # diffusion steps
    schedule: Literal["cosine", "vp"] = "cosine"
    width: int = Field(512, ge=1, le=MOST_UNITS)
    layers: int = Field(6, ge=1, le=MOST_LAYERS)
    activation: Literal["gelu", "silu"] = "gelu"
    octaves: int = Field(
        0, ge=0, le=MOST_LAYERS, json_schema_extra={"neutral": 0}
    )  # sines and cosines of the action, as inputs
    lr: float = Field(1e-4, gt=0)
    decay: Decay = "none"
    draws: Literal["uniform", "focused"] = Field(
        "uniform", json_schema_extra={"neutral": "uniform"}
    )  # distribution of k and beta
    batch: int = Field(1024, ge=1, le=MOST_ROWS)
    group: int = Field(64, ge=2, le=MOST_ROWS, json_schema_extra={"neutral": 64})  # cep: points that share k and beta
    # of cep's targets: over a group, or SWG's equation 12
    normalise: Literal["self", "none"] = Field("none", json_schema_extra={"neutral": "none"})
    steps: int = Field(200_000, ge=1, le=MOST_STEPS)
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    weight_scale: Literal["raw", "unit"] = "raw"  # "unit" divides the weights by their mean for each beta
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})
    beta: list[float] = [0.0, 1.0, 5.0, 10.0, 15.0, 20.0]  # the values to sample for
    rho: float = Field(1.0, ge=0, le=MOST)  # guidance scale; 1 targets the weighted density itself
    samples: int = Field(4000, ge=2, le=20_000)  # for each beta; the energy distance takes time for their square
    sampler: SamplerName = "ddpm"
    w_min: float = Field(1e-4, gt=0)  # lower clamp of w_hat before its logarithm, as a share of the mean weight
    clip: bool = Field(
        True, json_schema_extra={"neutral": True}
    )  # clip every predicted z_0; w at the target's 95 % quantile
    seed: int = Field(0, ge=0)  # for the data, the sampling noise and the distances

    def keyed(self) -> dict[str, Any]:
        """The settings of a weight channel and of cep's groups enter the key with the method that reads them."""
        unread = set() if self.method == "swg" else {"weight_scale", "w_min"}
        unread |= set() if self.method == "cep" else {"group", "normalise"}
        return {k: v for k, v in super().keyed().items() if k not in unread}

    @field_validator("group")
    @classmethod
    def _group(cls, value: int, info: ValidationInfo) -> int:
        batch = info.data.get("batch", value)
        if info.data.get("method") == "cep" and batch % value:
            raise ValueError(f"must divide toy.batch = {batch}")
        return value

    @field_validator("beta", mode="before")
    @classmethod
    def _many(cls, value: Any) -> Any:
        return value if isinstance(value, list) else [value]

    @field_validator("beta")
    @classmethod
    def _trained(cls, value: list[float], info: ValidationInfo) -> list[float]:
        most = info.data.get("beta_max", math.inf)
        if not value or min(value) < 0 or max(value) > most:
            raise ValueError(f"must lie in [0, {most:g}], the trained range (toy.beta_max)")
        distinct = sorted(set(value))
        if len({f"{beta:g}" for beta in distinct}) < len(distinct):
            raise ValueError("has values that are alike to six digits")
        return distinct
