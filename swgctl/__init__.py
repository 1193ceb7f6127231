"""swgctl: diffusion self-weighted guidance for offline reinforcement learning, as staged artifacts.

`swgctl.run_stage` runs a stage, `swgctl.load_policy` loads what it made; `swgctl.diffusion` and `swgctl.weights` are
the method itself.
"""

import os

# PyTorch's threads spin while they wait for each other.  Measured on two cores with one busy process beside, the
# default spin makes a training step 20 to 30 times slower, this one 3 times; alone, it costs small steps a fifth.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

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
