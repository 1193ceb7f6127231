"""swgctl: diffusion self-weighted guidance for offline reinforcement learning, as staged artifacts.

`swgctl.run_stage` runs a stage, `swgctl.load_policy` loads what it made; `swgctl.diffusion` and `swgctl.weights` are
the method itself.
"""

import contextlib
import ctypes
import os

# PyTorch's threads spin while they wait for each other.  Measured on two cores with one busy process beside, the
# default spin makes a training step 20 to 30 times slower, this one 3 times; alone, it costs small steps a fifth.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

# glibc gives a large block back to the system when it is freed, and gets it anew, page by page, for the next activation
# of the same size.  Measured on two cores, a step of the critic with five seeds is four to thirty times quicker where
# it keeps what it has: blocks below 32 MB (its most) are taken from the heap, and the heap is not trimmed.
with contextlib.suppress(AttributeError, TypeError, OSError):  # another C library
    for _option, _value in ((-3, 32 << 20), (-1, 2**31 - 1), (-2, 64 << 20)):  # M_MMAP_THRESHOLD, M_TRIM_..., M_TOP_PAD
        ctypes.CDLL(None).mallopt(_option, _value)

__all__ = ["load_policy", "run_stage"]


def __getattr__(name: str):
    """The public names, imported when they are used: `import swgctl` must not cost an import of PyTorch."""
    if name == "run_stage":
        from swgctl.stages import run_stage

        return run_stage
    if name == "load_policy":
        from swgctl.policy import load_policy

        return load_policy
    raise AttributeError(f"module 'swgctl' has no attribute '{name}'")
