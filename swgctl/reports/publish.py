"""Reports over many evaluations, in each of the forms that they take."""

from pathlib import Path

from swgctl.errors import SwgError, UsageError, nearest
from swgctl.files import write_text
from swgctl.store import Store
from swgctl.tasks import quoted

SUFFIXES = {"csv": ".csv", "json": ".json", "latex": ".tex", "html": ".html"}
FORMATS = ("table", *SUFFIXES)


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
    from swgctl.evaluation.families import families
    from swgctl.evaluation.groups import gather, select
    from swgctl.reports import html, latex, rows, sheets

    form = _form(form, out, as_json)
    if paper and paper not in quoted.papers():
        raise UsageError(f"no paper '{paper}'{nearest(paper, quoted.papers())}", f"one of {', '.join(quoted.papers())}")
    evaluations = select(store, refs, task)
    groups = gather(evaluations)
    found = families(groups, paper)
    if form in ("csv", "json"):
        lines = rows.rows(groups, found, paper)
        text = rows.as_csv(lines) if form == "csv" else rows.as_json(groups, found, lines)
    else:
        summary, details = sheets.families(found), sheets.tasks(groups, found, paper)
        if form == "table":
            sheets.show([*details, *summary])
            text = "".join(f"{evaluation.path}\n" for evaluation in evaluations)
        else:
            text = latex.page([*summary, *details]) if form == "latex" else html.page(summary, details)
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
