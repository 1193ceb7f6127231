"""What people read: the table that a stage ends with, and reports over many evaluations."""

from pathlib import Path

from swgctl import console
from swgctl.errors import InputError, SwgError, UsageError, nearest
from swgctl.files import write_text
from swgctl.scores import label
from swgctl.sheets import interval, number
from swgctl.store import Artifact, Store
from swgctl.tasks import Task, normalized_score, quoted

SUFFIXES = {"csv": ".csv", "json": ".json", "latex": ".tex", "html": ".html"}
FORMATS = ("table", *SUFFIXES)


def ancestor(artifact: Artifact, stage: str) -> Artifact | None:
    """The artifact of that stage that another was made from; None where it is not in the store."""
    try:
        return artifact.ancestors().get(stage)
    except InputError:
        return None


def print_evaluation(evaluation: Artifact, critic: Artifact | None) -> None:
    """The table that an evaluation ends with, on stderr: every cell, never the best one alone."""
    task = Task.from_json(evaluation.meta["task"])
    rows = []
    if critic:
        data = critic.meta["metrics"]["data"]
        for name, value in (("data, mean episode", "return_mean"), ("data, best episode", "return_best")):
            score = number(normalized_score(task, data[value]))
            rows.append([name, "", "", number(data[value], "return"), "", score, ""])
    found = evaluation.meta["metrics"]["cells"]
    for cell in found:
        row = [label(cell), f"{cell['rho']:g}", str(cell["candidates"])]
        for measure in ("return", "score"):
            row += [number(cell[f"{measure}_mean"], measure), interval(cell[f"{measure}_ci95"], measure)]
        rows.append(row)
    cell = found[0]
    title = (
        f"{task.name} in {task.environment}: {cell['seeds']} seed(s) x {cell['episodes']} episodes, "
        f"intervals over the {cell['interval_over']}"
    )
    columns = ["policy", "rho", "M", "return", "95 %", "score", "95 %"]
    shown = len(columns) if task.references else columns.index("score")
    console.table(title, columns[:shown], [row[:shown] for row in rows])


def print_result(artifact: Artifact) -> None:
    """What a stage has to say to people beside its artifact's path."""
    if artifact.stage == "eval":
        print_evaluation(artifact, ancestor(artifact, "critic"))
    elif artifact.stage == "toy":
        print_toy(artifact)


def print_toy(artifact: Artifact) -> None:
    """Each distance beside its floor, for people."""
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
    console.table(title, columns + ["modes' TV", "floor"] * modes, rows)


# -- reports -----------------------------------------------------------------------------------------------------------


def publish(
    store: Store,
    refs: list[str],
    task: str | None = None,
    form: str | None = None,
    out: str | None = None,
    paper: str | None = None,
    as_json: bool = False,
) -> None:
    """A report over evaluations: of all in the store, or of those that REFs name, or of a task's.

    form   one of FORMATS; None: as `out` is called, else a table, on stderr, with the evaluations' paths on stdout
    out    the file to write, whose path is printed; None: stdout
    paper  whose numbers stand beside; None: SWG's, and another's where SWG has no such task
    as_json  another name for the form "json"
    Raises UsageError for an unknown form or paper, InputError where there is nothing to report, CorruptError.
    """
    from swgctl import latex, pages, records, sheets
    from swgctl.evaluations import gather, select
    from swgctl.families import families

    form = _form(form, out, as_json)
    if paper and paper not in quoted.papers():
        raise UsageError(f"no paper '{paper}'{nearest(paper, quoted.papers())}", f"one of {', '.join(quoted.papers())}")
    evaluations = select(store, refs, task)
    groups = gather(evaluations)
    found = families(groups, paper)
    if form in ("csv", "json"):
        rows = records.rows(groups, found, paper)
        text = records.as_csv(rows) if form == "csv" else records.as_json(groups, found, rows)
    else:
        summary, details = sheets.families(found), sheets.tasks(groups, found, paper)
        if form == "table":
            sheets.show([*details, *summary])
            text = "".join(f"{evaluation.path}\n" for evaluation in evaluations)
        else:
            text = latex.page([*summary, *details]) if form == "latex" else pages.page(summary, details)
    if out is None:
        print(text, end="")
        return
    try:
        write_text(Path(out), text)
    except OSError as error:
        raise SwgError(f"{out} cannot be written: {error.strerror}", "--out of another place") from None
    print(Path(out).absolute())


def _form(form: str | None, out: str | None, as_json: bool) -> str:
    """The format that is meant.  Raises UsageError."""
    if form and form not in FORMATS:
        raise UsageError(f"unknown format '{form}'{nearest(form, FORMATS)}", f"one of {', '.join(FORMATS)}")
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} are two formats", "leave out one of them")
    form = "json" if as_json else form
    if out is None:
        return form or "table"
    known = {suffix: name for name, suffix in SUFFIXES.items()}
    named = known.get(Path(out).suffix)
    if form == "table":
        raise UsageError(f"a table is shown, and not written to '{out}'", "leave out --format or --out")
    if not (form or named):
        raise UsageError(f"'{out}' is none of {', '.join(known)}", "--out report.html")
    if form and named and form != named:
        raise UsageError(f"'{out}' is no name for {form}", f"--out {Path(out).with_suffix(SUFFIXES[form])}")
    return form or named
