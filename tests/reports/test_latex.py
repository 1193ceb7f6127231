"""LaTeX that compiles: every row of a tabular has its columns, nothing is left unescaped."""

import re

import pytest
from support.fake_evaluations import several

from swgctl.evaluation.families import families
from swgctl.evaluation.groups import gather, select
from swgctl.reports import latex, sheets
from swgctl.reports.latex import escape
from swgctl.store import Store


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    groups = gather(select(Store(several(tmp_path_factory.mktemp("several") / "store"))))
    found = families(groups)
    return latex.page(sheets.families(found) + sheets.tasks(groups, found))


def tabulars(page: str) -> list[str]:
    return re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", page, re.S)


def columns(row: str) -> int:
    """Of a row: one more than its separators, a \\multicolumn as many as it spans."""
    cells = re.split(r"(?<!\\)&", row)
    return sum(int(m[1]) if (m := re.match(r"\s*\\multicolumn\{(\d+)\}", cell)) else 1 for cell in cells)


def test_every_row_has_the_columns_of_its_tabular(page):
    assert len(tabulars(page)) == 11
    for tabular in tabulars(page):
        spec = re.match(r"\\begin\{tabular\}\{(\w+)\}", tabular)[1]
        rows = [line.removesuffix(" \\\\") for line in tabular.splitlines() if line.endswith(" \\\\")]
        assert len(rows) > 1
        assert {columns(row) for row in rows} == {len(spec)}
        assert rows[0].startswith(rf"\multicolumn{{{len(spec)}}}{{l}}{{")  # what it is of, in print
        others = [line for line in tabular.splitlines()[1:-1] if not line.endswith(" \\\\")]
        assert all(re.fullmatch(r"\\(top|mid|bottom)rule|\\cmidrule\(l\)\{\d+-\d+\}", line) for line in others)


def test_braces_and_environments_balance(page):
    code = "".join(line for line in page.splitlines() if not line.startswith("%"))
    code = re.sub(r"\\[\\{}]", "", code)
    assert code.count("{") == code.count("}") > 0
    assert page.count(r"\begin{tabular}") == page.count(r"\end{tabular}") == page.count(r"\toprule")


def test_what_is_special_is_escaped(page):
    """Outside of comments a percent sign would swallow the rest of its row."""
    assert r"mine_100" in page  # the title, in a comment
    for tabular in tabulars(page):
        assert not re.search(r"(?<!\\)[%#_^~]", tabular)
    assert escape(r"a_b 95 % {x} \y & ~^#$") == (
        r"a\_b 95 \% \{x\} \textbackslash{}y \& \textasciitilde{}\textasciicircum{}\#\$"
    )


def test_the_head_says_who_is_quoted(page):
    kitchen = next(t for t in tabulars(page) if "kitchen-mixed-v0" in t)
    assert r"\multicolumn{7}{c}{quoted from arXiv 2505.18345 v2} \\" in kitchen
    assert r"\cmidrule(l){7-13}" in kitchen
    assert r"\shortstack[r]{CQL\\{\tiny Kumar}\\{\tiny et al., 2020}}" in kitchen
    assert r"\shortstack[r]{SWG\\selected online}" in kitchen
