"""Schedules, samplers and guidance: pure functions of tensors, independent of reinforcement learning."""

from swgctl.diffusion.exact import Exact
from swgctl.diffusion.guidance import Counting, Guidance, energy_guided, posterior_guided, rescaled, self_weighted
from swgctl.diffusion.samplers import SAMPLERS, sample
from swgctl.diffusion.schedule import Schedule

__all__ = [
    "SAMPLERS",
    "Counting",
    "Exact",
    "Guidance",
    "Schedule",
    "energy_guided",
    "posterior_guided",
    "rescaled",
    "sample",
    "self_weighted",
]
