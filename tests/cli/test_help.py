"""What every --help shows: sections, whole summaries, metavars, choices and examples that parse; and completion."""

import re
import shlex
import subprocess
import sys
from typing import get_args

import pytest
import typer
from support.harness import shell, swgctl
from typer.main import get_command

from swgctl import config, tasks
from swgctl.cli import app, layout, options, stages
from swgctl.cli.app import Group, command
from swgctl.config import settings

SECTIONS = {
    "Stages": ["critic", "augment", "diffuse", "behaviour", "candidates", "guide", "eval", "toy"],
    "Methods and comparisons": ["run", "compare", "report"],
    "Look": ["ls", "show", "diff", "tree", "plot"],
    "Tasks and data": ["task", "data"],
    "Plan and sweep": ["plan", "recipe"],
    "Measure": ["bench"],
    "Share and keep": ["export", "verify", "gc"],
}
WITH_EXAMPLES = {  # at least so many
    **dict.fromkeys(["critic", "augment", "diffuse", "eval", "run", "toy"], 2),
    **dict.fromkeys(["behaviour", "candidates", "guide", "compare"], 2),
    **dict.fromkeys(["plan", "report", "plot", "export", "bench"], 1),
}
TYPES = re.compile(r"<\w[\w\[\] ]*>|\b(TEXT|INTEGER|FLOAT|BOOLEAN|PATH|UUID)\b")


def walk(command, *names):
    """Every command with its name, (), ("critic",), ("plot", "rho") ..., groups before theirs."""
    yield names, command
    for name, one in getattr(command, "commands", {}).items():
        yield from walk(one, *names, name)


ROOT = get_command(app)
COMMANDS = dict(walk(ROOT))
NAMES = [" ".join(names) for names in COMMANDS]


@pytest.fixture(autouse=True)
def columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")


def help_of(name: str) -> str:
    answer = swgctl(*name.split(), "--help")
    assert (answer.code, answer.err) == (0, "")
    return answer.out


def example_lines(name: str) -> list[str]:
    _, _, rest = help_of(name).partition("\nExamples:\n")
    return [line.strip() for line in rest.partition("\n\n")[0].splitlines()]


def without_section(root) -> list[str]:
    return [name for name, one in root.commands.items() if one.rich_help_panel not in layout.SECTIONS]


# -- sections and summaries --------------------------------------------------------------------------------------------


def test_every_command_is_in_one_section():
    assert not without_section(ROOT)
    assert tuple(SECTIONS) == layout.SECTIONS
    listed = [line.split()[0] for line in help_of("").splitlines() if re.match(r"  \w+ +\S", line)]
    assert all(listed.count(name) == 1 for name in ROOT.commands)


def test_the_sections_come_in_order_with_their_commands():
    headings = re.findall(r"^([A-Z][\w ]+):$", help_of(""), re.MULTILINE)
    assert [heading for heading in headings if heading in SECTIONS] == list(SECTIONS)
    for section, names in SECTIONS.items():
        _, _, rest = help_of("").partition(f"\n{section}:\n")
        shown = [line.split()[0] for line in rest.partition("\n\n")[0].splitlines()]
        assert [name for name in shown if name in names] == names
        assert all(ROOT.commands[name].rich_help_panel == section for name in shown)


def test_a_command_without_a_section_is_shown_last_and_found_here():
    small = typer.Typer(cls=Group, rich_markup_mode=None)
    command(small, "orphan")(lambda: None)
    command(small, "look", layout.LOOK)(lambda: None)
    root = get_command(small)
    assert without_section(root) == ["orphan"]
    text = root.get_help(root.context_class(root))
    assert text.index("Look:\n  look") < text.index("Commands:\n  orphan")


def test_the_stage_of_a_plugin_is_among_the_stages(monkeypatch):
    monkeypatch.setattr(app, "registered_commands", list(app.registered_commands))
    stages._plugged("probe")
    root = get_command(app)
    assert not without_section(root)
    assert root.commands["probe"].rich_help_panel == layout.STAGES
    text = swgctl("probe", "--help").out
    assert not TYPES.search(text)
    assert "--set probe.NAME=VALUE" in text


def test_summaries_are_aligned():
    starts = set()
    for name in ROOT.commands:
        (line,) = re.findall(rf"^  {name} +\S.*$", help_of("").partition("\nExamples:")[0], re.MULTILINE)
        starts.add(len(line) - len(line[2 + len(name) :].lstrip()))
    assert len(starts) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if name])
def test_a_summary_is_a_short_whole_sentence(name):
    summary = COMMANDS[tuple(name.split())].get_short_help_str(60)
    assert summary.endswith(".")
    assert not summary.endswith("...")
    *group, last = name.split()
    assert re.search(rf"^  {last} +{re.escape(summary)}$", help_of(" ".join(group)), re.MULTILINE)


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_help_fits_and_names_no_python_type(name):
    text = help_of(name)
    assert max(map(len, text.splitlines())) <= 80
    assert not TYPES.search(text)
    for parameter in COMMANDS[tuple(name.split())].params:
        if parameter.param_type_name == "option" and not parameter.is_flag:
            assert parameter.metavar, parameter.name
        assert parameter.help, parameter.name


def literal(model, field: str) -> tuple:
    return get_args(model.model_fields[field].annotation)


def test_choices_are_those_that_are_checked():
    from swgctl import bench
    from swgctl.reports import publish
    from swgctl.stages.toy import NAMES as densities
    from swgctl.sweeps import engines, plan
    from swgctl.tasks import quoted
    from swgctl.training import execution

    assert literal(settings.CriticSettings, "loss") == options.LOSSES
    assert literal(settings.AugmentSettings, "weight") == options.WEIGHTS
    assert literal(settings.EvalSettings, "sampler") == options.SAMPLERS
    assert literal(settings.ToySettings, "sampler") == options.SAMPLERS
    assert literal(settings.EvalSettings, "select") == options.SELECTS
    assert tuple(config.method.SHIPPED) == options.METHODS
    assert tuple(method for method, row in config.method.SHIPPED.items() if "guide" in row.stages) == options.GUIDES
    chained = {stage for row in config.method.SHIPPED.values() for stage in row.stages[:-1]}
    assert tuple(stage for stage in config.stage.SHIPPED if stage in chained) == options.ENDS
    assert literal(settings.CandidatesSettings, "of") == options.STATES
    assert ("auto", *execution.MODES) == options.MODES
    assert tuple(bench.TABLES) == options.BENCHMARKS
    assert options.BENCHMARKS[:4] == bench.DEFAULT  # "the first four", as its help says
    assert publish.FORMATS == options.REPORTS
    assert plan.FORMATS == options.PLANS
    assert engines.ENGINES == options.ENGINES
    assert tuple(quoted.papers()) == options.PAPERS
    assert densities == options.DENSITIES


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("eval", "--rho RHO[,RHO...]"),
        ("eval", "--resample M[,M...]"),
        ("eval", "--sampler [ddpm|ddim|dpm-solver++|dpm-solver-2s]"),
        ("run", "--seeds 0-4"),
        ("augment", "--from [ROLE=]REF"),
        ("augment", "--store DIR"),
        ("augment", "--task TASK"),
        ("critic", "--recipe FILE"),
        ("critic", "--set NAME=VALUE"),
        ("critic", "--steps N"),
        ("critic", "--loss [expectile|quantile|linex|cql|isq|dice]"),
        ("run", "--until [critic|augment|diffuse|behaviour|candidates|guide|trajectories|agent]"),
        ("report", "--format [table|csv|json|latex|html]"),
        ("plan", "Usage: swgctl plan [OPTIONS] TASK..."),
        ("report", "Usage: swgctl report [OPTIONS] [REF...]"),
        ("diff", "Usage: swgctl diff [OPTIONS] A B"),
    ],
)
def test_metavars(name, line):
    assert line in help_of(name)


# -- examples ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_there_are_examples(name):
    assert len(example_lines(name)) >= WITH_EXAMPLES[name]
    assert all(f"swgctl {name}" in line for line in example_lines(name))


@pytest.mark.parametrize("name", [name for name in NAMES if COMMANDS[tuple(name.split())].epilog])
def test_examples_parse(name, monkeypatch):
    asked = []
    for one in COMMANDS.values():
        if not hasattr(one, "commands"):
            monkeypatch.setattr(one, "callback", lambda **given: asked.append(given))
    lines = [part.strip() for line in example_lines(name) for part in line.split("|")]
    assert lines
    for number, line in enumerate(lines, 1):
        program, *args = shlex.split(line, comments=True)
        assert program == "swgctl"
        with pytest.raises(SystemExit) as end:
            ROOT.main(args, prog_name=program)
        assert (end.value.code, len(asked)) == (0, number), line
        for task in asked[-1].get("tasks") or [asked[-1].get("task")]:
            assert task is None or task in tasks.names() or task.endswith(".hdf5"), line


@pytest.mark.parametrize("name", [name for name in NAMES if COMMANDS[tuple(name.split())].epilog])
def test_the_choices_in_examples_exist(name):
    for line in example_lines(name):
        for part in line.split("|"):
            words = shlex.split(part, comments=True)[1:]
            one = COMMANDS[tuple(words[:2])] if tuple(words[:2]) in COMMANDS else COMMANDS[tuple(words[:1])]
            for parameter in one.params:
                for option in set(parameter.opts) & set(words):
                    values = re.fullmatch(r"\[([^=]*\|[^=]*)\]", getattr(parameter, "metavar", None) or "")
                    given = words[words.index(option) + 1] if values else None
                    assert given is None or given in values[1].split("|"), line


# -- lines to paste ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "advice"),
    [
        (["eval", "--rho", "1,x"], "swgctl eval --rho 1,8"),
        (["eval", "--resample", "1.5"], "swgctl eval --resample 1,8"),
        (["run", "my data.hdf5", "--rho", "x"], "swgctl run 'my data.hdf5' --rho 1,8"),
        (["toy", "moons", "--beta", "x"], "swgctl toy moons --beta 1,8"),
        (["data", "export", "my data.hdf5"], "swgctl data export 'my data.hdf5' --minari"),
        (
            ["plan", "demo", "--json", "--format", "commands"],
            "swgctl plan demo --format commands   # or --json alone",
        ),
        (["behaviour"], "swgctl behaviour --help"),
        (["plot", "pie"], "swgctl plot --help"),
    ],
)
def test_a_help_line_is_a_whole_command(args, advice):
    answer = swgctl(*args)
    answer.refused(2)
    assert answer.helps == [advice]


@pytest.mark.parametrize(
    ("error", "code", "advice"),
    [
        (ValueError("odd"), 1, "SWGCTL_DEBUG=1 swgctl recipe ls   # shows where"),
        (MemoryError("3 TB"), 1, "swgctl recipe --help   # fewer seeds or a smaller batch need less"),
        (KeyboardInterrupt(), 130, "swgctl recipe ls   # goes on where it stopped"),
    ],
)
def test_a_failure_is_advised_with_its_own_command(error, code, advice, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(config, "recipe_names", fail)
    answer = swgctl("recipe", "ls")
    answer.refused(code)
    assert answer.helps == [advice]


def test_advice_repeats_nothing_that_a_terminal_would_interpret(monkeypatch):
    def fail(*_):
        raise ValueError

    monkeypatch.setattr("swgctl.sweeps.recipes.recipe_text", fail)
    assert swgctl("recipe", "show", "\x1b[2J").helps == [
        "SWGCTL_DEBUG=1 swgctl recipe show $'\\x1b[2J'   # shows where"
    ]


# -- completion --------------------------------------------------------------------------------------------------------


def completed(words: str) -> list[str]:
    """What bash offers for the last of `words`."""
    number = len(words.split(" ")) - 1
    answer = shell("swgctl", COMP_WORDS=words, COMP_CWORD=str(number), _SWGCTL_COMPLETE="complete_bash")
    assert answer.err == ""
    return answer.lines


def test_words_are_completed():
    assert completed("swgctl cri") == ["critic"]
    assert "hopper-medium-v2" in completed("swgctl run hopper-")
    assert completed("swgctl augment --weight ex") == ["expectile", "exponential"]


def test_completion_imports_nothing_heavy():
    code = (
        "import sys; from swgctl.cli import options; "
        "assert 'demo' in options.complete_tasks() and 'demo' in options.complete_recipes(); "
        "assert options.complete_methods()[0] == 'swg'; "
        "assert not {'torch', 'numpy', 'h5py', 'gymnasium', 'matplotlib'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_script_of_a_shell_is_shown_also_where_there_is_no_shell():
    script = shell("swgctl", _SWGCTL_COMPLETE="source_bash")
    assert "complete -o default -F _swgctl_completion swgctl" in script.out
    orphan = (
        "import shellingham, sys\n"
        "def fail(*_): raise shellingham.ShellDetectionFailure\n"
        "shellingham.detect_shell = fail\n"
        "from swgctl.cli import main\n"
        "sys.argv = ['swgctl', '--show-completion']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", orphan], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("help: _SWGCTL_COMPLETE=source_bash swgctl")
