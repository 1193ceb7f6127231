"""The tables with which stages end, on stderr."""

from swgctl import console
from swgctl.config.method import method_named
from swgctl.errors import InputError
from swgctl.evaluation.protocols import policy_label, protocol
from swgctl.reports.sheets import choice, interval, number
from swgctl.store import Artifact
from swgctl.tasks import Task, normalized_score


def ancestor(artifact: Artifact, stage: str) -> Artifact | None:
    """The artifact of a stage in another's lineage; None where it is missing from the store."""
    try:
        return artifact.ancestors().get(stage)
    except InputError:
        return None


def print_evaluation(evaluation: Artifact) -> None:
    """Print the table with which an evaluation ends: every cell, never the best one alone."""
    task, settings = Task.from_json(evaluation.meta["task"]), protocol(evaluation)
    rows = []
    if learner := ancestor(evaluation, "critic") or _learner(evaluation):
        data = learner.meta["metrics"]["data"]
        for name, value in (("data, mean episode", "return_mean"), ("data, best episode", "return_best")):
            score = number(normalized_score(task, data[value]))
            rows.append([name, "", "", "", number(data[value], "return"), "", score, ""])
    cells = evaluation.meta["metrics"]["cells"]
    for cell in cells:
        row = [policy_label(settings, cell), *(choice(cell[name]) for name in ("rho", "candidates", "temperature"))]
        for measure in ("return", "score"):
            row += [number(cell[f"{measure}_mean"], measure), interval(cell[f"{measure}_ci95"], measure)]
        rows.append(row)
    first = cells[0]
    title = (
        f"{task.name} in {task.environment}: {first['seeds']} seed(s) x {first['episodes']} episodes, "
        f"intervals over the {first['interval_over']}"
    )
    columns = ["policy", "rho", "M", "T", "return", "95 %", "score", "95 %"]
    shown = len(columns) if task.references or task.score == "success" else columns.index("score")
    console.table(title, columns[:shown], [row[:shown] for row in rows])


def _learner(evaluation: Artifact) -> Artifact | None:
    """The model of a trajectory or the agent whose record has the returns of the task's own data."""
    models = (ancestor(evaluation, stage) for stage in ("trajectories", "dynamics", "agent"))
    return next((one for one in models if one and "return_mean" in one.meta["metrics"].get("data", {})), None)


def print_toy(artifact: Artifact) -> None:
    """Print each distance beside its floor."""
    rows = []
    cells = artifact.meta["metrics"]["cells"]
    modes = "total_variation" in cells[0]
    for cell in cells:
        row = [f"{cell['beta']:g}", cell["method"]]
        row += [f"{cell['sliced_wasserstein']:.4f}", f"{cell['floor']:.4f}", f"{cell['ratio']:.2f}"]
        row += [f"{cell['energy_distance']:.5f}", f"{cell['energy_floor']:.5f}"]
        row += [f"{cell['total_variation']:.4f}", f"{cell['total_variation_floor']:.4f}"] if modes else []
        rows.append(row)
    columns = ["beta", "samples", "sliced W1", "floor", "ratio", "energy distance", "floor"]
    title = f"{artifact.task}: distance from the ground truth; guidance scale {artifact.params['rho']:g}"
    console.table(title, columns + (["modes' TV", "floor"] if modes else []), rows)


def print_toys(artifacts: list[Artifact]) -> None:
    """Print the methods of each density that has several: distance over floor, a column for each beta."""
    for density in dict.fromkeys(artifact.task for artifact in artifacts):
        several = [artifact for artifact in artifacts if artifact.task == density]
        if len(several) > 1:
            _print_methods(several)


def _print_methods(artifacts: list[Artifact]) -> None:
    """The rows without guidance are those of the last artifact's denoiser."""
    from swgctl.learners.toy_energy import SMOOTH

    last = artifacts[-1]

    def row(name: str, label: str, artifact: Artifact, kind: str, measure: str = "ratio", digits: int = 2) -> list[str]:
        cells = [cell for cell in artifact.meta["metrics"]["cells"] if cell["method"] == kind]
        return [name, label, *(f"{cell[measure]:.{digits}f}" for cell in cells)]

    rows = [row("floor, a distance", "", last, "guided", "floor", 4)]
    rows += [row("none", "", last, "unguided"), row("none, reweighted", "exact", last, "reweighted")]
    for artifact in artifacts:
        method = method_named(artifact.params.get("method", "swg"))
        label = "Q(a)" if method.name in SMOOTH else "data"
        rows.append(row(method.label, label, artifact, "guided"))
    title = f"{last.task}: sliced W1 from the ground truth over its floor; guidance scale {last.params['rho']:g}"
    console.table(title, ["samples", "label", *(f"beta {beta:g}" for beta in last.params["beta"])], rows)
