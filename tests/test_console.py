"""What people read."""

import subprocess

import pytest
from rich.console import Console
from rich.table import Table

from swgctl import console


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        (
            ["policy", "return", "95 %"],
            [["SWG-R", "3,201", "[3,132, 3,237]"], ["data", "", ""], ["± é", "-1", "x" * 200]],
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


# -- what came from outside --------------------------------------------------------------------------------------------

HOSTILE = ["\x1b[31mred", "bell\x07", "a\rb", "\u202eright to left", "\udcff", "\x9b1m", "\u200bzero"]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_control_character_reaches_a_terminal(text, capsys):
    console.say(f"a {text}\nanother line")
    console.table(text, [text, f"two\n{text}"], [[text, "x" * 5_000]])
    drawn = capsys.readouterr().err
    assert all(line.isprintable() for line in drawn.split("\n"))
    assert console.shown(text) in drawn
    assert max(map(len, drawn.split("\n"))) < 250


def test_a_name_is_cut_and_says_so():
    assert console.shown("x" * 200) == "x" * 200
    assert console.shown("x" * 201) == "x" * 197 + "..."
    assert console.shown(3) == "3"


@pytest.mark.parametrize("word", ["plain", "a b; c'd", "$HOME `id`", "", *HOSTILE, "a\nb\\'c", "\x01" + "1"])
def test_a_shell_reads_a_quoted_word_as_it_was(word):
    text = console.quoted(word)
    assert text.isprintable()
    read = subprocess.run(["bash", "-c", f"printf %s {text}"], capture_output=True, check=True).stdout
    assert read == word.encode(errors="surrogateescape")


def test_a_message_is_said_once(capsys):
    for _ in range(3):
        console.say_once("only here")
    assert capsys.readouterr().err == "only here\n"


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("sftp://me:secret@box:22/x", "sftp://me@box:22/x"),
        ("sftp://me:se@cret@box/x", "sftp://me@box/x"),
        ("sftp://me:se/cret@box/x", "sftp://me@box/x"),
        ("sftp://me:123@box/x@y", "sftp://me@box/x@y"),
        ("sftp://:secret@box/x", "sftp://@box/x"),
        ("sftp://box:22/x@y", "sftp://box:22/x@y"),
        ("hf://me/policy@main", "hf://me/policy@main"),
        ("s3://bucket/a:b@c", "s3://bucket/a:b@c"),
        ("critic:a@b", "critic:a@b"),
    ],
)
def test_a_password_is_not_printed(url, printed):
    assert console.shown(url) == printed
