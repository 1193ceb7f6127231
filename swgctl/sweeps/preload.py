"""What most stages import first.  Only the server that `engines.Local` forks its children from imports this.

The imports take seconds of a core; a child that is forked has them at once, and shares their memory.
"""
# ruff: noqa: E402, F401

import contextlib
import os
import signal

from swgctl import runtime

with contextlib.suppress(OSError):
    os.setsid()  # the server outlives what a terminal sends to its group: the children's exit codes come through it
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored up to here; children get the handler of before
runtime.prepare()  # before PyTorch is imported

import torch._dynamo  # which the first step of an optimiser imports
import typer

import swgctl.evaluation.rollout
import swgctl.learners.agent
import swgctl.learners.critic
import swgctl.learners.denoiser
import swgctl.learners.guide
import swgctl.policies.diffusion
import swgctl.reports.results
import swgctl.stages.augment
import swgctl.stages.eval
import swgctl.tasks.transitions
import swgctl.training
