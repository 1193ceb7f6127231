"""The table of `compare`: a line for each policy, its score at every guidance scale."""

from swgctl import console
from swgctl.evaluation.comparison import BETA, NONE, TOY
from swgctl.reports.sheets import interval, number, plural
from swgctl.tasks.published import unpublished

POLICY = ("method", "candidates", "temperature")  # a line of the table


def measure_of(rows: list[dict]) -> str:
    """The quantity compared: the score, or the return where the task has none."""
    return "return" if any(row["score_mean"] is None for row in rows) else "score"


def lines_of(rows: list[dict]) -> dict[tuple, list[dict]]:
    """The rows of `comparison.rows` by policy."""
    lines: dict[tuple, list[dict]] = {}
    for row in rows:
        lines.setdefault(tuple(row[name] for name in POLICY), []).append(row)
    return lines


def table(rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """The columns and the lines of text; columns that nothing fills are left out."""
    measure = measure_of(rows)
    scales = sorted({row["rho"] for row in rows})
    columns = ["policy", "M", "T", "exact at\nrho 1", "asks Q at", "parameters", "training\ns", "action\nx none"]
    columns += [f"{TOY}\nmode error\nbeta {BETA:g}", *(f"{measure}, 95 %\nrho {rho:g}" for rho in scales)]
    lines = []
    for line in lines_of(rows).values():
        row = line[0]
        by_scale = {one["rho"]: one for one in line}
        lines.append(
            [
                row["policy"],
                str(row["candidates"]),
                f"{row['temperature']:g}",
                row["exact"] or "-",
                row["asks"] or "-",
                f"{row['parameters']:,}",
                f"{row['training_s']:,.1f}",
                f"{row['action_ratio']:.2f}",
                "" if row["mode_error"] is None else f"{row['mode_error']:.3f}",
                *(_score(by_scale.get(rho), measure) for rho in scales),
            ]
        )
    shown = [i for i in range(len(columns)) if any(line[i] for line in lines)]
    return [columns[i] for i in shown], [[line[i] for i in shown] for line in lines]


def _score(row: dict | None, measure: str) -> str:
    """A row's mean and its interval; "" where the scale was not evaluated."""
    if row is None:
        return ""
    return f"{number(row[f'{measure}_mean'], measure)} {interval(row[f'{measure}_ci95'], measure)}"


def show(rows: list[dict]) -> None:
    """Print the rows of one task on stderr."""
    first = rows[0]
    none = next(row for row in rows if row["method"] == NONE)
    denoisers = ", ".join(dict.fromkeys(row["denoiser"][:12] for row in rows))
    title = (
        f"{first['task']}: {plural(first['seeds'], 'seed')} x {plural(first['episodes'], 'episode')}, intervals over "
        f"the {first['interval_over']}\n"
        f"  one weight, {first['weight']}, of one critic, {first['critic'][:12]}; denoiser {denoisers}\n"
        f"  an action without guidance takes {none['action_ms']:.2f} ms here"
    )
    title += "".join(f"\n  data: {text}" for text in unpublished(one for row in rows for one in row["checksum"]))
    title += f"\n  environment: {first['fidelity']}" if first["fidelity"] else ""
    console.table(title, *table(rows))
