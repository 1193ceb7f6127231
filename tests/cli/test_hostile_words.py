"""Names, numbers and recipes beyond all measure: one short line without control characters, and nothing is built."""

import pytest
from support.harness import published, swgctl

from swgctl.reports import latex, svg

# -- names -------------------------------------------------------------------------------------------------------------

LONG, ESC = "x" * 5_000, "\x1b]0;title\x07\u202e"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["show", LONG], 3),
        (["show", ESC], 3),
        (["show", "\udcff"], 3),
        (["show", "a\nb"], 3),
        (["tree", f"{LONG}/{LONG}"], 3),
        (["augment", "--from", LONG], 3),
        (["augment", "--from", f"{ESC}=a"], 2),
        (["critic", ESC], 2),
        (["critic", "\udcff"], 2),
        (["critic", LONG], 2),
        (["critic", "demo", "--recipe", LONG], 2),
        (["critic", "demo", "--recipe", ESC], 2),
        (["critic", "demo", "--set", f"critic.{ESC}=1"], 2),
        (["critic", "demo", "--set", f"critic.{LONG}=1"], 2),
        (["critic", "demo", "--set", "critic.loss=\udcff"], 2),
        (["critic", "demo", "--seeds", ESC], 2),
        (["critic", "demo", "--seeds", LONG], 2),
        (["critic", "demo", f"--{ESC}"], 2),
        (["ls", "--stage", ESC], 2),
        (["plan", "demo", "--grid", LONG], 2),
    ],
)
def test_a_name_is_shown_without_its_power(args, code, tmp_path):
    answer = swgctl(*args)
    answer.refused(code)
    assert all(line.isprintable() for line in answer.err.splitlines())
    assert len(answer.error) < 1_000


HOSTILE = "a\n\\input{/etc/passwd}\r\x85\u2028%\x1b[31m\u202e<b>"


def test_no_character_of_a_name_ends_a_comment_or_a_tag():
    for text in (latex._comment(HOSTILE), latex.escape(HOSTILE), svg.escape(HOSTILE)):
        assert text.isprintable()
    assert "<b>" not in svg.escape(HOSTILE)
    assert latex.escape("\n\\") == r"\textbackslash{}n\textbackslash{}"


# -- numbers -----------------------------------------------------------------------------------------------------------

MANY = ",".join(f"{2_000 * i}-{2_000 * i + 1_000}" for i in range(300))


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (["--seeds", "9" * 5_000], "seeds"),
        (["--seeds", MANY], "more than 1,001 seeds"),
        (["--seeds", "١"], "seeds"),
        (["--set", f"seeds={'9' * 5_000}"], "seeds"),
        (["--set", f"critic.batch={'9' * 5_000}"], "critic.batch"),
        (["--set", f"critic.batch={10**25}"], "critic.batch"),
        (["--set", "critic.batch=1e25"], "critic.batch"),
        (["--set", f"critic.steps={2**63}"], "critic.steps"),
        (["--set", f"critic.hidden=[{', '.join(['1'] * 20_000)}]"], "critic.hidden"),
        (["--set", "critic.hidden=[1000000000]"], "critic.hidden"),
        (["--set", f"critic.tau={'[' * 2_000}"], "critic.tau"),
        (["--set", f"critic.tau={'[' * 60}{']' * 60}"], "levels deep"),
        (["--set", "critic.tau=[&a [1, *a]]"], "levels deep"),
    ],
)
def test_a_number_beyond_its_bound_is_said_at_once(args, word, tmp_path):
    answer = swgctl("critic", "demo", *args)
    answer.refused(2, word)
    assert len(answer.error) < 1_000
    assert published(tmp_path / "store") == []


def test_a_grid_is_bounded():
    axes = [text for name in ("lr", "tau", "gamma", "alpha") for text in ("--grid", f"critic.{name}={'1,' * 98}1")]
    swgctl("plan", "demo", *axes).refused(2, "96,059,601 runs")


RECIPES = {
    "aliases that expand": "".join(f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]\n" for i in range(9)),
    "brackets": "critic: " + "[" * 3_000 + "]" * 3_000,
    "a million of keys": "".join(f"k{i}: 1\n" for i in range(9_000)),
    "a number of 5,000 digits": f"critic: {{batch: {'9' * 5_000}}}",
    "more than a megabyte": "#" * 1_000_001,
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_that_grows(name, tmp_path):
    text = RECIPES[name]
    (tmp_path / "bad.yaml").write_text("a0: &a0 1\n" + text if "aliases" in name else text)
    for args in (["recipe", "validate", tmp_path / "bad.yaml"], ["critic", "demo", "--recipe", tmp_path / "bad.yaml"]):
        answer = swgctl(*args)
        answer.refused(2, "bad.yaml")
        assert len(answer.error) < 5_000
