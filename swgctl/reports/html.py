"""Sheets as one self-contained HTML page: inline style, inline pictures, no scripts."""

from swgctl.reports.sheets import Sheet, conventions, plural
from swgctl.reports.svg import escape, figure

STYLE = """\
:root { color-scheme: light dark; --page: #fbfbfa; --card: #fff; --ink: #1c1e21; --soft: #666b73; --line: #dcdfe3;
  --mark: #eef4fa; --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #b0568f; --c4: #a87900; }
@media (prefers-color-scheme: dark) { :root { --page: #15171a; --card: #1d2024; --ink: #e6e8ea; --soft: #9aa1ab;
  --line: #343940; --mark: #22303d; --c0: #56b4e9; --c1: #f0803c; --c2: #2fc497; --c3: #dc8fbe; --c4: #e6b422; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 2rem 1rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.1rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
p { margin: .2rem 0; max-width: 48rem; }
.note, footer, nav { color: var(--soft); font-size: .875rem; overflow-wrap: anywhere; }
nav { margin: 1rem 0; }
nav a { margin-right: .9rem; white-space: nowrap; display: inline-block; }
a { color: var(--c0); text-decoration-thickness: 1px; text-underline-offset: 2px; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; margin: 1.2rem 0; }
.body { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-start; margin-top: .7rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums lining-nums; }
th, td { padding: .25rem .65rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; line-height: 1.25; }
th small { display: block; font-weight: 400; color: var(--soft); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--card); }
th.over { text-align: center; font-weight: 400; color: var(--soft); }
tr:last-child td { border-bottom: 0; }
td.quoted, tr.quoted td, tr.missing td, td.missing { color: var(--soft); }
td.missing, tr.missing td { font-style: italic; }
td.first, th.first { border-left: 1px solid var(--line); }
tr.paper td { background: var(--mark); font-weight: 600; }
tr.average td { font-weight: 600; }
tr.turn td { border-top: 2px solid var(--line); }
figure { margin: 0; flex: 1 1 20rem; min-width: 0; max-width: 30rem; }
svg { width: 100%; height: auto; display: block; font: 12px system-ui, sans-serif; fill: var(--soft); }
svg .grid { stroke: var(--line); } svg .line { fill: none; stroke-width: 2; } svg .band { opacity: .16; }
svg .ring { fill: none; stroke: var(--ink); stroke-width: 2; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-size: .8125rem; color: var(--soft); }
.legend i { display: inline-block; width: 1.1em; height: .3em; border-radius: 2px; margin-right: .4em;
  vertical-align: .2em; }
.legend i.ring { width: .7em; height: .7em; border: 2px solid var(--ink); border-radius: 50%; vertical-align: -.05em; }
@media (max-width: 40rem) { th:first-child, td:first-child { white-space: normal; min-width: 8.5rem; } }
@media print { section { break-inside: avoid; } nav { display: none; } }
"""


def page(summary: list[Sheet], details: list[Sheet]) -> str:
    """An HTML page of the families' sheets, then the tasks' with their pictures."""
    groups = dict.fromkeys(group for sheet in details for group in (sheet.group, *sheet.agents) if group)
    evaluations = sum(len(group.evaluations) for group in groups)
    tasks = len({group.task.name for group in groups})
    heading = f"{plural(evaluations, 'evaluation')} of {plural(tasks, 'task')}"
    anchored = [(f"s{i}", sheet) for i, sheet in enumerate([*summary, *details])]
    first = {sheet.title.partition(":")[0]: anchor for anchor, sheet in reversed(anchored)}
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a> ' for title, anchor in reversed(first.items()))
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>swgctl report: {heading}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>",
            f"<header><h1>{heading}</h1>\n<p>Self-weighted guidance: scores by guidance scale rho and candidates M, "
            "every cell.</p></header>",
            f'<nav aria-label="Tables">{links}</nav>',
            *(_section(anchor, sheet) for anchor, sheet in anchored),
            "<footer>",
            *(f"<p>{escape(line)}</p>" for line in conventions([*summary, *details])),
            "</footer>\n</main>\n</body>\n</html>\n",
        ]
    )


def _section(anchor: str, sheet: Sheet) -> str:
    notes = "".join(f'<p class="note">{escape(note)}</p>\n' for note in sheet.notes)
    picture = figure(sheet.group) if sheet.group else ""
    return (
        f'<section id="{anchor}">\n<h2>{escape(sheet.title)}</h2>\n{notes}<div class="body">\n'
        f'<div class="scroll">\n{_table(sheet)}\n</div>\n{picture}</div>\n</section>'
    )


def _table(sheet: Sheet) -> str:
    ours = len(sheet.columns) - sheet.quoted
    lines = ["<table>", "<thead>"]
    if sheet.quoted:
        over = f'<th class="over first" colspan="{sheet.quoted}">quoted from {escape(sheet.source)}</th>'
        lines.append(f'<tr><th></th><td colspan="{ours - 1}"></td>{over}</tr>')
    heads = []
    for i, column in enumerate(sheet.columns):
        text, _, small = column.partition(", ") if i < ours else (column, "", sheet.citations.get(column, ""))
        first = ' class="first"' if sheet.quoted and i == ours else ""
        heads.append(f'<th scope="col"{first}>{escape(text)}{f" <small>{escape(small)}</small>" if small else ""}</th>')
    lines += [f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>"]
    for i, (row, mark) in enumerate(zip(sheet.rows, sheet.marks, strict=True)):
        turn = " turn" if sheet.turns(i) else ""
        cells = []
        for j, text in enumerate(row):
            marks = {"quoted": j >= ours, "first": sheet.quoted > 0 and j == ours, "missing": text == "missing"}
            classes = " ".join(name for name, holds in marks.items() if holds)
            cells.append(f'<td class="{classes}">{escape(text)}</td>' if classes else f"<td>{escape(text)}</td>")
        row_class = f' class="{f"{mark}{turn}".strip()}"' if mark else ""
        lines.append(f"<tr{row_class}>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table>"])
