"""swgctl: diffusion self-weighted guidance for offline reinforcement learning, as staged artifacts.

`swgctl.run_stage` runs a stage, `swgctl.load_policy` loads a trained policy; `swgctl.diffusion` and `swgctl.weights`
are the method itself.
"""

__all__ = ["load_policy", "run_stage"]


def __getattr__(name: str):
    """Import a public name when it is first used: `import swgctl` must not cost an import of PyTorch."""
    if name == "run_stage":
        from swgctl.stages.run import run_stage

        return run_stage
    if name == "load_policy":
        from swgctl.policies.diffusion import load_policy

        return load_policy
    raise AttributeError(f"module 'swgctl' has no attribute '{name}'")
