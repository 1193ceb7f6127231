"""The Dockerfile, parsed: what it starts from, what it pins, what it copies and what it runs.  No builder is needed."""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from typer.main import get_command

from swgctl.cli import app

ROOT = Path(__file__).parents[1]
NAMES = {"FROM", "ARG", "RUN", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "ENTRYPOINT", "CMD"}


def parse(text: str) -> list[tuple[str, str]]:
    """(instruction, argument) of each: comments left out, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(name, argument) for name, _, argument in (line.partition(" ") for line in joined.splitlines())]


DOCKERFILE = parse((ROOT / "Dockerfile").read_text())


def arguments(instruction: str) -> list[str]:
    return [argument for name, argument in DOCKERFILE if name == instruction]


def commands() -> list[list[str]]:
    """Every command of every RUN, as words."""
    return [shlex.split(part) for run in arguments("RUN") for part in run.split("&&")]


def test_every_instruction_is_known_and_the_base_comes_first():
    assert {name for name, _ in DOCKERFILE} <= NAMES
    assert DOCKERFILE[0][0] == "FROM"


def test_the_base_image_is_a_whole_version_of_a_python_that_is_supported():
    (base,) = arguments("FROM")
    version = re.fullmatch(r"python:(\d+)\.(\d+)\.\d+-slim-[a-z]+", base)
    assert version
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"Programming Language :: Python :: {version[1]}.{version[2]}" in project["classifiers"]


def test_it_is_for_the_cpu_and_an_argument_makes_it_one_for_cuda():
    assert arguments("ARG") == ["TORCH=cpu"]
    installs = [words for words in commands() if words[:3] == ["uv", "pip", "install"]]
    assert len(installs) == 2
    for words in installs:
        assert words[words.index("--torch-backend") + 1] == "$TORCH"


def test_all_versions_are_pinned():
    for words in commands():
        if words[:2] == ["pip", "install"]:
            assert all("==" in word for word in words[2:] if not word.startswith("--"))
        if words[:3] == ["uv", "pip", "install"]:
            assert words[words.index("--constraint") + 1] == "constraints.txt"
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [re.match(r"[\w-]+", requirement)[0] for requirement in project["dependencies"]]
    assert set(needed) <= set(pinned)


def test_the_extras_that_it_installs_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (asked,) = re.findall(r"\.\[([\w,]+)\]", " ".join(arguments("RUN")))
    assert set(asked.split(",")) <= extras.keys()


def test_what_it_copies_is_in_the_repository_and_is_not_ignored():
    sources = [word for argument in arguments("COPY") for word in argument.split()[:-1]]
    tracked = subprocess.run(
        ["git", "ls-files", "--others", "--cached", "--exclude-standard", *sources],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if tracked.returncode == 0:  # not a copy without its history
        assert {line.partition("/")[0] for line in tracked.stdout.splitlines()} == set(sources)
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert set(sources) == set(allowed)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"} <= set(sources)
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]) <= set(sources)


def test_it_runs_the_demo_as_an_ordinary_user():
    (entry,), (words,) = (map(json.loads, arguments(name)) for name in ("ENTRYPOINT", "CMD"))
    assert entry + words == ["swgctl", "run", "demo"]
    assert words[0] in get_command(app).commands
    assert DOCKERFILE[-1][0] == "CMD"
    names = [name for name, _ in DOCKERFILE]
    assert "RUN" not in names[names.index("USER") :]


def test_what_it_keeps_is_in_the_volume():
    (volume,) = arguments("VOLUME")
    environment = dict(word.split("=") for argument in arguments("ENV") for word in argument.split())
    assert environment.keys() == {"SWGCTL_STORE", "SWGCTL_CACHE"}
    assert all(path.startswith(f"{volume}/") for path in environment.values())
    assert arguments("WORKDIR")[-1] == volume


@pytest.mark.parametrize("line", re.findall(r"^#   (docker .*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
def test_the_lines_of_its_head_agree_with_it(line):
    words = shlex.split(line)
    if words[1] == "build":
        assert words[-1] == "."
        assert all(word.partition("=")[0] == "TORCH" for word in words if "=" in word)
    else:
        assert f"swgctl:{arguments('VOLUME')[0]}" in words
