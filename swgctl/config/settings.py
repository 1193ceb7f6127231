"""Settings of each stage, typed and checked."""

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from swgctl.config.method import methods
from swgctl.errors import nearest


class Settings(BaseModel):
    """Parameters of one stage.

    A field that is added later declares its neutral value, at which keys leave it out and so stay as they were:
    `Field(default, json_schema_extra={"neutral": default})`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        flag = cls.model_fields[info.field_name].annotation is bool
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, bool) and not flag:  # YAML reads `yes` and `on` as booleans, and pydantic those as 1
                raise ValueError(f"must not be {str(one).lower()}")
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
MOST = 1_000_000  # upper limit of guidance scales and of candidates
Decay = Literal["none", "cosine"]  # learning rate (`optimisers.Adam`): cosine falls to 0 at the end, after a warm-up


class CriticSettings(Settings):
    """Learning of Q and V (SWG, appendix B.2 and Algorithm 3)."""

    loss: Literal["expectile", "quantile", "linex"] = "expectile"  # V's; linex and quantile weights need theirs
    tau: float = Field(0.7, gt=0, lt=1)  # level of the expectile or quantile; 0.9 for AntMaze
    alpha: float = Field(1.0, gt=0)  # temperature of the linex loss and weight
    gamma: float = Field(0.99, ge=0, lt=1)
    lr: float = Field(3e-4, gt=0)
    batch: int = Field(256, ge=1)
    steps: int = Field(1_000_000, ge=1)
    target_rate: float = Field(0.005, gt=0, le=1)  # rate of the targets' soft update
    hidden: list[int] = [256, 256]
    rewards: Literal["task", "none", "return_range", "minus_one"] = "task"  # transform; "task": the task's
    clip_actions: bool = False  # accept data whose actions leave [-1, 1], and clip them
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    @field_validator("hidden")
    @classmethod
    def _hidden(cls, value: list[int]) -> list[int]:
        if not value or min(value) < 1:
            raise ValueError("needs at least one layer of at least one unit")
        return value


# Weight -> the loss of V from which IDQL's section 4 derives it.
LOSS = {
    "expectile": "expectile",
    "hard_expectile": "expectile",
    "exponential": "expectile",
    "linex": "linex",
    "quantile": "quantile",
}


class AugmentSettings(Settings):
    """Weights from advantages (SWG, section 5).  tau and alpha are the critic's."""

    weight: Literal["expectile", "hard_expectile", "exponential", "linex", "quantile"] = "expectile"
    scale: float = Field(1.0, gt=0)  # factor of the advantage in the smooth expectile; the official code uses 3
    beta: float = Field(3.0, gt=0)  # inverse temperature of exp(beta A)
    w_max: float = Field(80.0, gt=0)  # clips the unbounded weights: exponential, linex, quantile


class DiffuseSettings(Settings):
    """Joint diffusion model of (action, weight) (SWG, Algorithm 1 and appendix B.2)."""

    K: int = Field(15, ge=2)  # diffusion steps
    schedule: Literal["vp", "cosine", "linear"] = "vp"
    width: int = Field(256, ge=1)
    blocks: int = Field(3, ge=1)
    weight_block: int = Field(2, ge=0)  # block, counted from 1, whose output feeds the weight's head; 0: no head
    # width of a sub-network for the weight alone, weight_block blocks deep; 0: the weight shares the blocks
    weight_net: int = Field(0, ge=0, json_schema_extra={"neutral": 0})
    dropout: float = Field(0.1, ge=0, le=0.99)
    lr: float = Field(3e-4, gt=0)  # 3e-5 for Adroit Pen
    decay: Decay = Field("none", json_schema_extra={"neutral": "none"})
    batch: int = Field(1024, ge=1)
    steps: int = Field(1_000_000, ge=1)  # 3M for AntMaze
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    weight_scale: Literal["raw", "unit"] = "raw"  # "unit" divides the weights by their mean over the data
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})

    def channels(self, action_dim: int) -> int:
        """Number of channels of z = [action, weight]."""
        return action_dim + 1

    @field_validator("schedule")
    @classmethod
    def _reaches_noise(cls, value: str, info: ValidationInfo) -> str:
        steps = info.data.get("K", 1000)
        if value == "linear" and steps < 500:
            raise ValueError(
                f"keeps much of the data after {steps} steps, but sampling starts from noise: K must be 500 or more"
            )
        return value

    @field_validator("weight_net")
    @classmethod
    def _weight_head(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("weight_block") == 0:
            raise ValueError("a sub-network needs blocks: diffuse.weight_block=1 or more")
        return value

    @field_validator("weight_block")
    @classmethod
    def _weight_block(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("blocks", value):
            raise ValueError(f"must be at most diffuse.blocks = {info.data['blocks']}")
        return value


class EvalSettings(Settings):
    """Guided roll-outs (SWG, Algorithm 2 and section 5)."""

    rho: list[float] = [0.0, 15.0]  # guidance scales, one row of cells each
    resample: list[int] = [1]  # numbers M of candidates of which one is kept; SWG-R if above 1
    episodes: int = Field(20, ge=1)  # for each cell and seed; 50 for AntMaze
    sampler: Literal["ddpm", "ddim", "dpm-solver++"] = "ddpm"
    temperature: list[float] = [1.0]  # factors of the sampling noise, a set of cells each; 0 is deterministic
    select: Literal["critic", "self"] = "critic"  # source of the weight that ranks candidates
    w_min: float = Field(1e-4, gt=0)  # lower clamp of w_hat before its logarithm
    clip: bool = True  # clip every predicted z_0: actions to [-1, 1], the weight to the range of the data's
    seed: int = Field(0, ge=0)  # for the environments and the sampling noise
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})
    method: str = Field("swg", json_schema_extra={"neutral": "swg"})  # guidance, by its name in `config.method`

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        if value not in methods():
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
            raise ValueError("0 makes all candidates equal: --resample 1, or another temperature beside it")
        return value


class ToySettings(Settings):
    """The toy experiments (SWG, section 6.1 and appendix B.1)."""

    rows: int = Field(1_000_000, ge=1)  # points of the data set
    beta_max: float = Field(20.0, gt=0, le=100)  # greatest trained beta; the Swiss roll's target exists below 112
    K: int = Field(100, ge=2)  # diffusion steps
    schedule: Literal["cosine", "vp"] = "cosine"
    width: int = Field(512, ge=1)
    layers: int = Field(6, ge=1)
    activation: Literal["gelu", "silu"] = "gelu"
    octaves: int = Field(0, ge=0, json_schema_extra={"neutral": 0})  # sines and cosines of the action, as inputs
    lr: float = Field(1e-4, gt=0)
    decay: Decay = "none"
    draws: Literal["uniform", "focused"] = Field(
        "uniform", json_schema_extra={"neutral": "uniform"}
    )  # distribution of k and beta
    batch: int = Field(1024, ge=1)
    steps: int = Field(200_000, ge=1)
    ema: float = Field(0.001, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    weight_scale: Literal["raw", "unit"] = "raw"  # "unit" divides the weights by their mean for each beta
    precision: Precision = Field("bf16", json_schema_extra={"neutral": "fp32"})
    beta: list[float] = [0.0, 1.0, 5.0, 10.0, 15.0, 20.0]  # the values to sample for
    rho: float = Field(1.0, ge=0, le=MOST)  # guidance scale; 1 targets the weighted density itself
    samples: int = Field(4000, ge=2, le=20_000)  # for each beta; the energy distance takes memory for their square
    sampler: Literal["ddpm", "ddim", "dpm-solver++"] = "ddpm"
    w_min: float = Field(1e-4, gt=0)  # lower clamp of w_hat before its logarithm, as a share of the mean weight
    clip: bool = Field(
        True, json_schema_extra={"neutral": True}
    )  # clip every predicted z_0; w at the target's 95 % quantile
    seed: int = Field(0, ge=0)  # for the data, the sampling noise and the distances

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
