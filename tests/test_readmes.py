"""What is written in Markdown: every command parses, every link leads somewhere, every name is in the code."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
import yaml

from swgctl.cli import app
from swgctl.config import methods, stages
from swgctl.config.recipes import recipe_names
from swgctl.tasks import names

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *(ROOT / "recipes").rglob("README.md"),
    *(ROOT / "swgctl").rglob("README.md"),
]
PAGES = sorted(page for page in PAGES if page.is_file())
CLICK_ERROR = typer.BadParameter.__base__.__base__
PROGRAM = typer.main.get_command(app)
SHELL_WORDS = {"do", "then", "else", "while", "if", "$"}
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


# -- reading a page ----------------------------------------------------------------------------------------------------


def split(page: Path) -> tuple[str, dict[str, str]]:
    """The page's prose, and its code by language: fenced blocks, and lines indented by four spaces."""
    prose, code, language = [], {}, None
    for line in page.read_text().splitlines():
        if line.lstrip().startswith("```"):
            language = None if language is not None else line.strip("` ")
        elif language is not None:
            code.setdefault(language, []).append(line)
        elif line.startswith("    "):
            code.setdefault("sh", []).append(line.strip())
        else:
            prose.append(line)
    return "\n".join(prose), {name: "\n".join(lines) for name, lines in code.items()}


def spans(page: Path) -> list[str]:
    """What stands between backticks in the prose."""
    prose, _ = split(page)
    return [" ".join(span.replace("\\|", "|").split()) for span in re.findall(r"`([^`]+)`", prose)]


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of every command of a shell script, pipes and lists taken apart and variables replaced by 1."""
    for line in script.replace("\\\n", " ").splitlines():
        while inner := re.search(r"\$\(([^()]*)\)", line):
            yield from simple_commands(inner[1])
            line = line.replace(inner[0], "1")
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        command: list[str] = []
        tokens = iter([*lexer, ";"])
        for token in tokens:
            if not set(token) <= set("();<>|&"):
                command.append(re.sub(r"\$\{?\w+\}?", "1", token))
            elif set(token) & set("<>"):
                next(tokens)  # the file that it names
            else:
                while command and (command[0] in SHELL_WORDS or re.match(r"\w+=", command[0])):
                    command = command[1:]
                if command:
                    yield command
                command = []


def of_swgctl(script: str) -> list[list[str]]:
    """The arguments of every call of swgctl in a script, without what stands for more: ... and [REF]."""
    calls = []
    for words in simple_commands(script):
        if words[0] == "swgctl" or words[1:3] == ["-m", "swgctl"]:
            given = words[1:] if words[0] == "swgctl" else words[3:]
            calls.append([word for word in given if word != "..." and not re.fullmatch(r"\[[A-Z]+\]", word)])
    return calls


# -- holding it against the command line -------------------------------------------------------------------------------


def problems(arguments: list[str], mention: bool = False) -> list[str]:
    """What swgctl would complain about.  A mention names a command only, and may leave out its arguments."""
    command, rest = PROGRAM, list(arguments)
    while hasattr(command, "commands") and rest:
        if rest[0] in options_of(command):  # such as --help, which acts by itself
            return []
        if rest[0] not in command.commands:
            return [f"unknown command '{rest[0]}'"]
        command = command.commands[rest.pop(0)]
    if hasattr(command, "commands") or rest == ["--help"] or (mention and not rest):
        return []
    try:
        parsed = command.make_context(command.name, rest).params
    except CLICK_ERROR as error:
        return [error.format_message()]
    given = {name: parsed.get(parameter.name) for parameter in command.params for name in parameter.opts}
    return [*unknown_tasks(given), *unknown_settings(given), *unknown_names(given)]


def stands_for_another(word: str) -> bool:
    """TASK, FILE, REF: what a reader puts something in the place of."""
    return bool(re.fullmatch(r"[A-Z]+(\.\w+)?", word))


def unknown_tasks(given: dict) -> Iterator[str]:
    for task in given.get("tasks") or filter(None, [given.get("task"), given.get("--task")]):
        if not (stands_for_another(task) or task in names() or task.startswith("minari:") or task.endswith(".hdf5")):
            yield f"unknown task '{task}'"


def unknown_settings(given: dict) -> Iterator[str]:
    for text in (*(given.get("--set") or ()), *(given.get("--grid") or ())):
        stage, _, setting = text.partition("=")[0].partition(".")
        if stage != "seeds" and (stage not in stages() or setting not in stages()[stage].settings.model_fields):
            yield f"unknown setting '{text}'"


def unknown_names(given: dict) -> Iterator[str]:
    for option, known in (("--recipe", recipe_names()), ("--method", (*methods(), "all")), ("--stage", stages())):
        for name in (given.get(option) or "").split(",") if option == "--method" else [given.get(option)]:
            if name and name not in known and not stands_for_another(name):
                yield f"{option} {name}: no such name"


def options_of(command) -> set[str]:
    return {"--help"}.union(*(parameter.opts for parameter in command.params))


def options(command=PROGRAM) -> set[str]:
    """Those of a command and of all commands inside of it."""
    return options_of(command).union(*(options(inner) for inner in getattr(command, "commands", {}).values()))


@each_page
def test_every_command_parses(page):
    _, code = split(page)
    scripts = [(code.get(language, ""), False) for language in ("sh", "console", "")]
    scripts += [(span, True) for span in spans(page) if span.startswith("swgctl ")]
    wrong = {
        shlex.join(call): complaints
        for script, mention in scripts
        for call in of_swgctl(script)
        if (complaints := problems(call, mention))
    }
    assert not wrong


@each_page
def test_every_option_is_one(page):
    named = {span.split("=")[0].split()[0] for span in spans(page) if span.startswith("--")}
    assert named <= options()


@each_page
def test_every_target_of_make_and_every_path_of_pytest_is_there(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    script = "\n".join([*split(page)[1].get("sh", "").splitlines(), *(s for s in spans(page) if s.startswith("make "))])
    for words in simple_commands(script):
        if words[0] == "make":
            assert words[1] in targets
        if "pytest" in words:
            assert all((ROOT / word).exists() for word in words[words.index("pytest") + 1 :])


def test_the_check_sees_what_it_is_meant_to():
    """Each kind of mistake, in the forms in which pages have commands."""
    for script, complaint in (
        ("swgctl crtic demo", "unknown command 'crtic'"),
        ("swgctl critic demo --taus 3", "--taus"),
        ("swgctl behaviour", "Missing argument"),
        ("swgctl export REF", "Missing option"),
        ("swgctl critic dmeo", "unknown task 'dmeo'"),
        ("swgctl run demo --set diffuse.layers=3", "unknown setting"),
        ("swgctl run demo --recipe papper", "no such name"),
        ("evaluation=$(swgctl run)", "Missing argument"),
        ("swgctl ls | swgctl plot rho --our x.svg  # a comment", "--our"),
        ("for tau in 0.7 0.9; do swgctl critic demo --tau high; done", "--tau"),
        ("swgctl run demo \\\n  --rhos 3", "--rhos"),
    ):
        (found,) = [text for call in of_swgctl(script) for text in problems(call)]
        assert complaint in found
    assert of_swgctl("swgctl plan TASK >jobs.txt && swgctl critic demo --tau $tau  # swgctl nothing") == [
        ["plan", "TASK"],
        ["critic", "demo", "--tau", "1"],
    ]


# -- links and names ---------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", split(page)[0], re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_link_leads_somewhere(page):
    prose = re.sub(r"`[^`]+`", "", split(page)[0])
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if link.startswith(("https:", "http:", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each_page
def test_every_file_that_is_named_is_there(page):
    named = {span for span in spans(page) if re.fullmatch(r"(swgctl|tests|recipes)/[\w/.-]+(\.\w+|/)", span)}
    assert not {path for path in named if "NAME" not in path and not (ROOT / path).exists()}


def defined(path: Path) -> set[str]:
    """The names at the top of a module, and those of its classes' methods as Class.method."""
    known = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            known |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            known.add(node.name)
        elif isinstance(node, ast.Assign):
            known |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return known


def test_the_paper_leads_to_code_that_is_there():
    rows = [re.fullmatch(r"(swgctl/[\w/]+\.py): ([\w., ]+)", span) for span in spans(ROOT / "CONTRIBUTING.md")]
    rows = [row for row in rows if row]
    assert len(rows) > 20
    for row in rows:
        assert set(row[2].split(", ")) <= defined(ROOT / row[1]), row[0]


# -- the front page and the files beside it ----------------------------------------------------------------------------


def test_the_front_page_is_short_and_says_how_to_begin():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 200
    assert {"make demo", "make test"} <= set(spans(ROOT / "README.md"))


@pytest.mark.parametrize("path", [*PAGES, *(ROOT / "recipes/results").glob("*.svg")], ids=lambda path: path.name)
def test_nothing_names_the_machine_that_it_was_made_on(path):
    text = path.read_text()
    assert not re.search(r"(?<![\w.:/])/(home|root|tmp|work|Users)/", text)
    assert "<dc:date>" not in text
    assert len(text) < 200_000


def test_versions_are_the_same_everywhere():
    pinned = dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [one["rev"] for one in hooks if "ruff" in one["repo"]] == [f"v{pinned['ruff']}"]
    project = (ROOT / "pyproject.toml").read_text()
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == re.findall(r"Python :: (3\.\d+)", project)
    (version,) = re.findall(r'^version = "(.+)"', project, re.MULTILINE)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()
