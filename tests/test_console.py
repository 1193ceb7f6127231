"""What people read."""

import pytest
from rich.console import Console
from rich.table import Table

from swgctl import console


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (
            ["policy", "return", "95 %"],
            [["SWG-R", "3,201", "[3,132, 3,237]"], ["data", "", ""], ["± é", "-1", "x" * 300]],
        ),
        (["", "left"], [["", ""]]),
        (["alone"], []),
    ],
)
def test_a_table_is_drawn_as_rich_would(columns, rows, capsys):
    console.table("a title", columns, rows)
    drawn = capsys.readouterr()
    assert drawn.out == ""
    sheet = Table()
    for i, column in enumerate(columns):
        sheet.add_column(column, justify="right" if i else "left")
    for row in rows:
        sheet.add_row(*(text.replace("[", r"\[") for text in row))
    Console(width=1000).print(sheet)
    assert drawn.err == "a title\n" + capsys.readouterr().out


def test_brackets_are_text_to_a_table(capsys):
    console.table("", ["task"], [["[red]medium[/red]"]])
    assert "│ [red]medium[/red] │" in capsys.readouterr().err
