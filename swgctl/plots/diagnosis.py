"""The diagnosis of a joint policy's guidance in a picture: what it knows of its weight, and what it reaches."""

from pathlib import Path

from swgctl.config import a
from swgctl.errors import InputError
from swgctl.evaluation.diagnosis import Diagnosis
from swgctl.plots.figures import GREY, Picture, named_or_only, panels, publish, style
from swgctl.store import Artifact, Store

SCALES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0)  # rho
ENOUGH = 10  # effective candidates a state: an estimate of q w^rho from fewer is too low
WITH_POLICY = ("diffuse", "guide")


def guidance(store: Store, ref: str | None, out: str | None) -> Path:
    """Draw the diagnosis of a joint policy or of a guide on one; returns the picture's path.

    ref  one of these, or an evaluation; None: what this shell made last, else the only one
    Raises InputError for anything else.
    """
    artifact = named_or_only(store, "guidance", ref, *WITH_POLICY, "eval")
    policy = artifact
    if artifact.stage == "eval":
        policy = next((artifact.parent(role) for role in WITH_POLICY if role in artifact.meta["inputs"]), artifact)
    if policy.stage not in WITH_POLICY:
        raise InputError(f"{artifact.id} is {a(artifact.stage)}, without a joint policy", "swgctl ls --stage diffuse")
    return publish(store, f"guidance-{policy.task}-{policy.id}", out, lambda: draw_guidance(policy))


def draw_guidance(policy: Artifact) -> Picture:
    """Left, by step of the walk: how well w_hat, the weight that the policy predicts of a noisy action, goes with the
    critic's.  Right, by rho: the mean advantage of guided actions, and of the density that they are meant to have.

    Means over the seeds, and the range that they span.  The density's line ends where fewer than ENOUGH candidates a
    state are in effect what it is estimated from; the numbers have all of it, and their `effective` number.
    """
    diagnosis = Diagnosis(policy)
    knowledge, reach = diagnosis.knowledge(), diagnosis.reach(SCALES)
    figure, (left, right) = panels(2, 2, 4.8, 4)
    places = {"": "over the data", "within_": "within a state", "seen_": "within a state of the training set"}
    lines = {
        f"{prefix}{name}": f"{name}, {place}" for prefix, place in places.items() for name in ("correlation", "slope")
    }
    steps = range(next(iter(knowledge.values())).shape[1])
    for i, name in enumerate(name for name in lines if name in knowledge):
        _draw(left, steps, knowledge[name].T.tolist(), style(i), lines[name])
    left.axhline(0, color=GREY, linewidth=0.8)
    left.set(xlabel="diffusion step k", ylabel=r"of $w$ with $\hat w(z_k)$")
    left.set_title("what the policy knows of its weight")
    for i, (name, label) in enumerate({"target": r"of $q\,w^\rho$", "reached": "reached by guidance"}.items()):
        shown = [row for row in reach if name == "reached" or row["effective"].min() >= ENOUGH]
        _draw(right, SCALES[: len(shown)], [row[name].tolist() for row in shown], style(i), label)
    right.set(xlabel=r"guidance scale $\rho$", ylabel="mean advantage of an action")
    right.set_title(f"{policy.task}, {policy.id}")
    for axes in (left, right):
        axes.legend(loc="best")
    values: list[tuple[str, float, str, list[float]]] = []
    for name, table in knowledge.items():
        values += [("k", k, name, column) for k, column in enumerate(table.T.tolist())]
    for rho, row in zip(SCALES, reach, strict=True):
        values += [("rho", rho, name, column.tolist()) for name, column in row.items()]
    numbers = [
        {"seed": seed, "of": name, "at": axis, "x": x, "value": value}
        for axis, x, name, column in values
        for seed, value in zip(policy.seeds, column, strict=True)
    ]
    return figure, numbers


def _draw(axes, x, members: list[list[float]], look: dict, label: str) -> None:
    """A line of the members' mean, over the range that they span."""
    axes.plot(x, [sum(values) / len(values) for values in members], **look, label=label)
    axes.fill_between(x, [min(v) for v in members], [max(v) for v in members], color=look["color"], alpha=0.18, lw=0)
