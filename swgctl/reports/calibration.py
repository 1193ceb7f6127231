"""The table with which the calibration of a joint policy's weight ends, on stderr."""

from swgctl import console
from swgctl.store import Artifact


def print_calibration(guide: Artifact) -> None:
    """Print a row a step of the walk: each member's r_k, and the mean correlation of w with w_hat."""
    from swgctl.policies.loading import load_calibration

    slopes = load_calibration(guide)[1].T.tolist()
    correlations = guide.meta["metrics"]["calibration"]["correlation"]
    rows = [
        [str(k), *(f"{slope:.3f}" for slope in members), f"{correlation:.3f}"]
        for k, (members, correlation) in enumerate(zip(slopes, correlations, strict=True))
    ]
    console.table(
        f"{guide.task}: slope r_k of w on the predicted w_hat at step k, 1 where it is E[w given z_k] and 0 where it "
        "knows nothing",
        ["k", *(f"seed {seed}" for seed in guide.seeds), "correlation"],
        rows,
    )
