"""Rows of a comparison of guidances that nobody built."""

from swgctl.evaluation.comparison import claims

LABELS = {"none": "behaviour model", "resample": "behaviour model, resampled", "swg": "SWG", "dps": "DPS"}


def row(method: str, rho: float, mean: float, candidates: int = 1, temperature: float = 1.0, **changed) -> dict:
    """A row of `comparison.rows` with times; its interval is [mean - 2, mean + 1]."""
    return {
        "task": "demo",
        "method": method,
        "policy": LABELS[method],
        "candidates": candidates,
        "temperature": temperature,
        "rho": rho,
        **claims(method, candidates, {"eval.select": "critic"}),
        "parameters": 0,
        "training_s": 0.0,
        "mode_error": None,
        "return_mean": 100 * mean,
        "return_ci95": [100 * (mean - 2), 100 * (mean + 1)],
        "score_mean": mean,
        "score_ci95": [mean - 2, mean + 1],
        "seeds": 3,
        "episodes": 4,
        "interval_over": "seeds",
        "critic": "c" * 64,
        "data": "d" * 64,
        "denoiser": "e" * 64,
        "checksum": [],
        "fidelity": None,
        "evaluation": f"{method}-{candidates}",
        "weight": "expectile",
        "action_ms": 5.0 if method == "none" else 10.0,
        "action_ratio": 1.0 if method == "none" else 2.0,
        **changed,
    }


def rows(**changed) -> list[dict]:
    """Two policies without guidance and two with, at two scales."""
    return [
        row("none", 0.0, 10.0, **changed),
        row("resample", 0.0, 20.0, candidates=8, **changed),
        *(row(method, rho, 10 * rho + i, **changed) for i, method in enumerate(("swg", "dps")) for rho in (1.0, 4.0)),
    ]
