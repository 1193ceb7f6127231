"""Schedules, samplers and guidance: pure functions over tensors that know nothing of reinforcement learning."""

from swgctl.diffusion.exact import Exact
from swgctl.diffusion.guidance import Guidance, self_weighted
from swgctl.diffusion.samplers import SAMPLERS, sample
from swgctl.diffusion.schedule import Schedule

__all__ = ["SAMPLERS", "Exact", "Guidance", "Schedule", "sample", "self_weighted"]
