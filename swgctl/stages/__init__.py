"""The stages, one file each, and their runner: `run_stage` runs one of them, `run_all` a method's chain."""

from swgctl.stages.job import Job, Result, check_horizon, locate_source
from swgctl.stages.run import run_all, run_stage, show

__all__ = ["Job", "Result", "check_horizon", "locate_source", "run_all", "run_stage", "show"]
