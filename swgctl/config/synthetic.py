"""Settings of the stages of synthetic data: trajectories, dynamics, synth, agent (PGD, arXiv 2404.06356)."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from swgctl.config.settings import (
    MOST,
    MOST_LAYERS,
    MOST_ROWS,
    MOST_STEPS,
    MOST_UNITS,
    Precision,
    Settings,
    has_layers,
)

GUIDING = {"guidance", "ramp", "unit", "denoised"}  # settings that only guided generation reads


class TrajectoriesSettings(Settings):
    """Trajectory diffusion model: EDM over windows of the data (PGD, arXiv 2404.06356, section 3)."""

    length: int = Field(16, ge=2, le=MOST)  # rows in a window
    stride: int = Field(8, ge=1, le=MOST_ROWS)  # over the valid starts; first and terminal windows are always in
    features: int = Field(1024, ge=8, le=MOST_UNITS)  # of the first block; each further one has twice as many
    blocks: int = Field(3, ge=1, le=MOST_LAYERS)
    groups: int = Field(8, ge=1, le=MOST_UNITS)  # of channels that are normalised together, a time step at a time
    batch: int = Field(16, ge=1, le=MOST_ROWS)  # windows in a gradient step
    steps: int = Field(1_830_000, ge=1, le=MOST_STEPS)  # 250 epochs of the 117,000 windows of a medium data set
    lr: float = Field(2e-3, gt=0)  # the peak
    warmup: float = Field(0.1, gt=0, lt=1)  # share of the steps in which the rate rises from a tenth of the peak
    ema: float = Field(0.005, gt=0, le=1)  # rate of the parameters' running average, which sampling uses
    ema_every: int = Field(10, ge=1, le=MOST_STEPS)  # steps between two of its updates
    log_sigma_mean: float = -1.2  # of the noise levels in training: log sigma ~ N(mean, sd^2)
    log_sigma_sd: float = Field(1.2, gt=0)
    clip_actions: bool = False  # accept data whose actions leave [-1, 1], and clip them
    precision: Precision = "bf16"

    @field_validator("groups")
    @classmethod
    def _groups(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("features", value) % value:
            raise ValueError(f"must divide trajectories.features = {info.data['features']}")
        return value

    @field_validator("blocks")
    @classmethod
    def _blocks(cls, value: int, info: ValidationInfo) -> int:
        if info.data.get("length", 2**value) < 2 ** (value - 1):
            raise ValueError(f"halves a window of {info.data['length']} rows {value - 1} times, to less than one row")
        return value


class DynamicsSettings(Settings):
    """Ensemble of one-step models, the autoregressive baseline (PETS; MOPO's settings)."""

    members: int = Field(7, ge=1, le=1_000)  # networks a seed, each with its bootstrap of the data
    elites: int = Field(5, ge=1, le=1_000)  # of which roll-outs use the best by held-out error
    hidden: list[int] = Field([200, 200, 200, 200])
    lr: float = Field(1e-3, gt=0)
    batch: int = Field(256, ge=1, le=MOST_ROWS)
    steps: int = Field(100_000, ge=1, le=MOST_STEPS)
    clip_actions: bool = False  # accept data whose actions leave [-1, 1], and clip them
    precision: Precision = "fp32"  # with bf16 products on a CPU the error of one step is 1.7 times as large

    _hidden = field_validator("hidden")(has_layers)

    @field_validator("elites")
    @classmethod
    def _elites(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("members", value):
            raise ValueError(f"must be at most dynamics.members = {info.data['members']}")
        return value


class Generation(Settings):
    """Generation of trajectories, guided by a target policy (PGD, sections 3 and 4)."""

    scale: float = Field(1.0, ge=0, le=MOST)  # lambda; of `shift`, it belongs to the number of levels
    guidance: Literal["shift", "posterior"] = "shift"  # as published, or lambda as the exponent of the policy
    ramp: float = Field(0.3, ge=0)  # shift: beta, the coefficient of the sine in the ramp of lambda
    unit: bool = True  # shift: the gradient has unit norm over a window's actions
    denoised: bool = True  # shift: the gradient is at the denoised trajectory, not at the noisy one
    levels: int = Field(256, ge=2, le=MOST)  # noise levels of the walk, N
    rule: Literal["karras", "published"] = "karras"  # a step starts at the point after, or before the churn
    churn: float = Field(80.0, ge=0)
    churn_min: float = Field(0.05, ge=0)  # noise levels between which steps churn
    churn_max: float = Field(50.0, ge=0)
    churn_noise: float = Field(1.003, gt=0)  # factor of the churn's noise
    trajectories: int = Field(16_384, ge=1, le=MOST_ROWS)  # a member


class SynthSettings(Generation):
    """A synthetic data set: `trajectories` windows a member."""

    length: int = Field(16, ge=2, le=MOST)  # rows of a dynamics model's roll-out; a trajectory model has its own
    seed: int = Field(0, ge=0)  # for the noise, and for the states from which roll-outs of a dynamics model start
    precision: Precision = "bf16"

    def keyed(self) -> dict[str, Any]:
        """What guides enters the key where something does."""
        return {k: v for k, v in super().keyed().items() if self.scale > 0 or k not in GUIDING}


class AgentSettings(Generation):
    """TD3+BC (arXiv 2106.06860) or IQL (arXiv 2110.06169), with PGD's published sizes.

    The settings of the generation are those of the data that it regenerates while it trains.
    """

    algo: Literal["td3bc", "iql"] = "td3bc"
    steps: int = Field(1_000_000, ge=1, le=MOST_STEPS)
    # sets of synthetic data over the run, where it regenerates them; divides the steps
    epochs: int = Field(4, ge=1, le=MOST_STEPS)
    keep: int = Field(1, ge=1, le=MOST_STEPS)  # last sets in use
    batch: int = Field(256, ge=1, le=MOST_ROWS)
    real: int = Field(0, ge=0, le=MOST_ROWS)  # rows of a batch that come from the task's own data
    lr: float = Field(3e-4, gt=0)
    gamma: float = Field(0.99, ge=0, lt=1)
    target_rate: float = Field(0.005, gt=0, le=1)  # rate of the targets' soft update
    hidden: list[int] = Field([256, 256])
    normalise: bool = True  # z-score the observations
    rewards: Literal["task", "none", "return_range", "minus_one"] = "none"  # transform; "task": the task's
    alpha: float = Field(2.5, gt=0)  # td3bc: weight of Q beside the cloning error
    policy_noise: float = Field(0.2, ge=0)  # td3bc: sd of the noise on the target's action
    noise_clip: float = Field(0.5, ge=0)
    critic_updates: int = Field(2, ge=1, le=MOST)  # td3bc: for each update of the actor
    tau: float = Field(0.7, gt=0, lt=1)  # iql: expectile of V
    beta: float = Field(3.0, ge=0)  # iql: inverse temperature of the advantage
    advantage_clip: float = Field(100.0, gt=0)  # iql: largest weight
    clip_actions: bool = False  # of the task's own data: accept actions that leave [-1, 1], and clip them
    precision: Precision = "bf16"

    _hidden = field_validator("hidden")(has_layers)

    def keyed(self) -> dict[str, Any]:
        """The settings of an algorithm enter the key with the algorithm that reads them."""
        td3bc, iql = {"alpha", "policy_noise", "noise_clip", "critic_updates"}, {"tau", "beta", "advantage_clip"}
        unread = iql if self.algo == "td3bc" else td3bc
        unread |= set() if self.scale > 0 else GUIDING
        return {k: v for k, v in super().keyed().items() if k not in unread}

    @field_validator("real")
    @classmethod
    def _real(cls, value: int, info: ValidationInfo) -> int:
        if value > info.data.get("batch", value):
            raise ValueError(f"must be at most agent.batch = {info.data['batch']}")
        return value
