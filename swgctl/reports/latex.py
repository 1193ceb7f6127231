"""Sheets as LaTeX tabulars for booktabs."""

from swgctl.console import printable
from swgctl.reports.sheets import Sheet, conventions, differences

SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SPECIAL |= {character: f"\\{character}" for character in "&%$#_{}"}
BREAK = "\\\\"


def page(sheets: list[Sheet]) -> str:
    """A tabular for each sheet, which names it in its first lines; notes and conventions stand above as comments."""
    lines = [r"% \usepackage{booktabs}", *map(_comment, conventions(sheets))]
    for sheet in sheets:
        lines += ["", *map(_comment, (sheet.title, *sheet.notes)), *_tabular(sheet)]
    return "\n".join(lines) + "\n"


def _comment(text: str) -> str:
    """A comment, which no character of the text ends."""
    return f"% {printable(text)}"


def escape(text: str) -> str:
    """Text as LaTeX."""
    return r"$\rho$" if text == "rho" else "".join(SPECIAL.get(c, c) for c in printable(text))


def _tabular(sheet: Sheet) -> list[str]:
    n = len(sheet.columns)
    ours = n - sheet.quoted
    lines = [rf"\begin{{tabular}}{{l{'r' * (n - 1)}}}", r"\toprule"]
    remarks = differences(sheet.group) if sheet.group else []
    lines += [rf"\multicolumn{{{n}}}{{l}}{{{escape(text)}}} {BREAK}" for text in (sheet.title, *remarks)]
    if sheet.quoted:
        above = rf"\multicolumn{{{sheet.quoted}}}{{c}}{{quoted from {escape(sheet.source)}}}"
        lines += [f"{'& ' * ours}{above} {BREAK}", rf"\cmidrule(l){{{ours + 1}-{n}}}"]
    heads = [_head(name, sheet.citations.get(name, "") if i >= ours else "") for i, name in enumerate(sheet.columns)]
    lines += [f"{' & '.join(heads)} {BREAK}", r"\midrule"]
    for i, row in enumerate(sheet.rows):
        if sheet.turns(i):
            lines.append(r"\midrule")
        lines.append(f"{' & '.join(map(escape, row))} {BREAK}")
    return [*lines, r"\bottomrule", r"\end{tabular}"]


def _head(name: str, citation: str) -> str:
    """A column's head, broken at its commas, with the citation of quoted numbers below in small type."""
    parts = [escape(part) for part in name.split(", ")]
    authors, et_al, rest = citation.partition(" et al.")
    parts += [rf"{{\tiny {escape(part.strip())}}}" for part in (authors, et_al + rest) if part]
    return parts[0] if len(parts) == 1 else rf"\shortstack[r]{{{BREAK.join(parts)}}}"
