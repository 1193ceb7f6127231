"""Schedules, samplers and guidance: pure functions of tensors, independent of reinforcement learning."""

from swgctl.diffusion import edm
from swgctl.diffusion.exact import Exact
from swgctl.diffusion.guidance import (
    Counting,
    Guidance,
    check_scale,
    energy_guided,
    late,
    posterior_guided,
    rescaled,
    self_weighted,
)
from swgctl.diffusion.policy_guidance import Act, policy_posterior, policy_shift
from swgctl.diffusion.samplers import SAMPLERS, sample
from swgctl.diffusion.schedule import Schedule
from swgctl.diffusion.trajectories import Channels

__all__ = [
    "SAMPLERS",
    "Act",
    "Channels",
    "Counting",
    "Exact",
    "Guidance",
    "Schedule",
    "check_scale",
    "edm",
    "energy_guided",
    "late",
    "policy_posterior",
    "policy_shift",
    "posterior_guided",
    "rescaled",
    "sample",
    "self_weighted",
]
