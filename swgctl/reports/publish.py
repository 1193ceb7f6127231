"""Reports over many evaluations: as a table, CSV, JSON, LaTeX or HTML."""

from pathlib import Path

from swgctl import console
from swgctl.errors import SwgError, UsageError, closest, nearest
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
    """Report on evaluations: all in the store, or those that REFs name, or those of a task.

    form   one of FORMATS; None: by the suffix of `out`, else a table on stderr, with the evaluations' paths on stdout
    out    the file to write, whose path is printed; None: stdout
    paper  the source of the quoted numbers; None: SWG's paper, or another where SWG's does not have the task
    as_json  short for the form "json"
    Raises UsageError for an unknown form or paper, InputError where there is no evaluation, CorruptError.
    """
    from swgctl.evaluation.families import families
    from swgctl.evaluation.groups import gather, select
    from swgctl.reports import agents, html, latex, rows, sheets

    form = _form(form, out, as_json)
    if paper and paper not in quoted.papers():
        raise UsageError(
            f"no paper '{paper}'{nearest(paper, quoted.papers())}",
            f"swgctl report --paper {closest(paper, quoted.papers()) or quoted.papers()[0]}",
        )
    evaluations = select(store, refs, task)
    groups = gather(evaluations)
    averaged = families(groups, paper)
    if form in ("csv", "json"):
        table = rows.rows(groups, averaged, paper)
        text = rows.as_csv(table) if form == "csv" else rows.as_json(groups, averaged, table)
    else:
        summary = [*sheets.families(averaged), *agents.by_data(groups, paper or "pgd")]  # its Table 2 is of just these
        details = [*sheets.tasks(groups, averaged, paper), *agents.tasks(groups, paper)]
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
        raise SwgError(
            f"{out} cannot be written: {error.strerror}", f"swgctl report --out {console.quoted(Path(out).name)}"
        ) from None
    print(Path(out).absolute())


def _form(form: str | None, out: str | None, as_json: bool) -> str:
    """The format that the options ask for.  Raises UsageError."""
    if form and form not in FORMATS:
        raise UsageError(
            f"unknown format '{form}'{nearest(form, FORMATS)}",
            f"swgctl report --format {closest(form, FORMATS) or 'table'}   # one of {', '.join(FORMATS)}",
        )
    if as_json and form not in (None, "json"):
        raise UsageError(f"--json and --format {form} are two formats", "swgctl report --json")
    form = "json" if as_json else form
    if out is None:
        return form or "table"
    by_suffix = {suffix: name for name, suffix in SUFFIXES.items()}
    implied = by_suffix.get(Path(out).suffix)
    if form == "table":
        raise UsageError(f"a table is shown on the terminal, not written to '{out}'", "swgctl report --out report.html")
    if form is None and implied is None:
        raise UsageError(f"the suffix of '{out}' must be {', '.join(by_suffix)}", "swgctl report --out report.html")
    if form and implied and form != implied:
        path = console.quoted(Path(out).with_suffix(SUFFIXES[form]))
        raise UsageError(
            f"the suffix of '{out}' means {implied}, not {form}", f"swgctl report --format {form} --out {path}"
        )
    return form or implied or "table"
