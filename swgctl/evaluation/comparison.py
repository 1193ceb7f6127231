"""Guidances side by side, on one critic, one data set and one weight: their cells, with what each cost to reach."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from swgctl.config import Method, methods
from swgctl.errors import InputError
from swgctl.evaluation.protocols import method_of, primary_role, protocol, standings
from swgctl.policies.origin import denoiser_of
from swgctl.store import Artifact, Store
from swgctl.tasks.fidelity import fidelity

NONE, RESAMPLE = "none", "resample"  # the rows of rho = 0: with one candidate, and with several
TOY, BETA = "8gaussians", 5.0  # of the mode error
MEASURED = ("return_mean", "return_ci95", "score_mean", "score_ci95", "seeds", "episodes", "interval_over")


def name_of(method: Method, cell: dict) -> str:
    """The name under which a cell is compared: its method's, and NONE or RESAMPLE where nothing guides."""
    if cell["rho"] > 0:
        return method.name
    return RESAMPLE if cell["candidates"] > 1 else NONE


def check_common(evaluations: Iterable[Artifact]) -> None:
    """Raise InputError unless all evaluations descend from one critic and one data set."""
    first: dict[str, tuple[Artifact, str]] = {}
    for evaluation in evaluations:
        for what, digest in (("critic", critic_of(evaluation).digest), ("data", protocol(evaluation)["data"])):
            other, theirs = first.setdefault(what, (evaluation, digest))
            if digest != theirs:
                raise InputError(
                    f"eval {evaluation.id} is not of the {what} of eval {other.id}: {digest[:12]} and {theirs[:12]}, "
                    "so their rows cannot be compared",
                    f"swgctl diff {other.id} {evaluation.id}{evaluation.store.option}",
                )


def critic_of(evaluation: Artifact) -> Artifact:
    """The critic whose weight guides: the guide's, else the nearest of the lineage."""
    source = policy_of(evaluation)
    return source.parent("critic") if source.stage == "guide" else source.ancestors()["critic"]


def policy_of(evaluation: Artifact) -> Artifact:
    """The guide or the denoiser that was evaluated."""
    role = primary_role(evaluation)
    assert role
    return evaluation.parent(role)


def rows(evaluations: Iterable[Artifact], names: Iterable[str]) -> list[dict]:
    """A row for each cell of the evaluations that is compared under one of the names, in the order of the names.

    method      one of the names; policy: its label in reports
    exact, asks see `Method`; what chooses the best of several is never exact, and asks at the candidates as well
    parameters  number of the guide's own, a seed
    training_s  seconds of training the guide, with those of drawing its candidates
    mode_error  total variation between the modes' shares of samples and of the target, on the toy TOY at inverse
                temperature BETA; None where the store has no toy of the method
    critic, data, denoiser, evaluation   digests, and the evaluation's id
    checksum    how the data files stand to the published ones (`tasks.published`)
    fidelity    how near the environment is to the benchmark's; None where there is nothing to say
    The other columns are those of the evaluation's summary.json.
    """
    order = list(names)
    table: list[dict[str, Any]] = []
    error = cache(lambda root, name: mode_error(Store(root), name))  # which reads every toy's record
    for evaluation in evaluations:
        settings, source = protocol(evaluation), policy_of(evaluation)
        method, guide = method_of(settings), source if source.stage == "guide" else None
        origin = {
            "critic": critic_of(evaluation).digest,
            "data": settings["data"],
            "denoiser": denoiser_of(source).digest,
            "evaluation": evaluation.id,
            "checksum": standings(evaluation),
            "fidelity": fidelity(evaluation.meta["task"]["environment"]),
        }
        for cell in evaluation.meta["metrics"]["cells"]:
            name = name_of(method, cell)
            if name not in order:
                continue
            candidates = cell["candidates"]
            row = {
                "task": evaluation.task,
                "method": name,
                "policy": method.policy(cell),
                **{place: cell[place] for place in ("candidates", "temperature", "rho")},
                **claims(name, candidates, settings),
                "parameters": guide.meta["metrics"]["data"]["parameters"] if guide else 0,
                "training_s": _seconds(guide) if guide else 0.0,
                "mode_error": error(evaluation.store.root, name) if candidates == 1 else None,
            }
            table.append(row | {measure: cell[measure] for measure in MEASURED} | origin)
    place = lambda row: (order.index(row["method"]), row["candidates"], row["temperature"], row["rho"])  # noqa: E731
    return sorted(table, key=place)


def claims(name: str, candidates: int, settings: dict) -> dict[str, str]:
    """The `exact` and `asks` of a method's cells with so many candidates, under the settings of a protocol."""
    if name == NONE:
        return {"exact": "", "asks": ""}
    method = methods()[name]
    exact, asks = method.exact, method.asks
    if method.guidance and settings.get("guide.normalise") == "none":  # by the weights' mean over the data
        exact = "yes"
    if settings.get("eval.rescale") or settings.get("eval.kmax"):
        exact = "no"
    if settings.get("guide.expansion") == "posterior_mean":
        asks = "posterior mean"
    if candidates > 1:
        ranked = "" if settings["eval.select"] == "self" else "candidates"
        asks = ", ".join(filter(None, dict.fromkeys((asks if name != RESAMPLE else "", ranked))))
        exact = exact if name == RESAMPLE and settings["eval.select"] == "sample" else "no"
    return {"exact": exact, "asks": asks}


def _seconds(guide: Artifact) -> float:
    """Duration of a guide's build and of its candidates'; not less than the gradient steps', which a resumed build
    partly took before."""
    steps, rate = (guide.meta["metrics"].get(name) for name in ("steps", "steps_per_s"))
    candidates = guide.parent("candidates").meta["wall_s"] if "candidates" in guide.meta["inputs"] else 0.0
    trained = max(guide.meta["wall_s"], steps / rate) if rate else 0.0  # without a network nothing is trained
    return round(trained + candidates, 3)


def mode_error(store: Store, name: str) -> float | None:
    """Total variation over the modes of the toy TOY at BETA, of the newest toy of a method; None without one."""
    method, samples = ("swg", "unguided") if name == NONE else (name, "guided")
    toys = [toy for toy in store.artifacts("toy", TOY) if toy.params.get("method", "swg") == method]
    for toy in sorted(toys, key=lambda toy: toy.meta["made"]["at"], reverse=True):
        for cell in toy.meta["metrics"]["cells"]:
            if (cell["beta"], cell["method"]) == (BETA, samples):
                return cell["total_variation"]
    return None
