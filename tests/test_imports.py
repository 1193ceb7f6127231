"""The rooms of the house: who may import whom, held against the source by a walk over its syntax trees."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "swgctl"
LINES = 450  # of a file, at most

# From the top down.  A room imports rooms of the floors below it, those of the ground also each other.
FLOORS = (
    {"__init__", "__main__"},
    {"cli"},
    {"sweeps"},
    {"stages"},
    {"trackers"},
    {"plots"},
    {"reports", "bench"},
    {"evaluation", "learners"},
    {"policies", "toys"},
    {"config"},
    {"tasks", "store", "training"},
    {
        "console",
        "diffusion",
        "errors",
        "files",
        "models",
        "plugins",
        "randomness",
        "runtime",
        "seeds",
        "signals",
        "weights",
    },
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
GROUND = len(FLOORS) - 1
TORCH_ALONE = ("diffusion", "weights", "learners.losses")  # besides the standard library and each other


def name_of(path: Path) -> str:
    """swgctl/store/__init__.py -> swgctl.store"""
    return ".".join(part for part in ("swgctl", *path.relative_to(PACKAGE).with_suffix("").parts) if part != "__init__")


FILES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imported(module: str) -> frozenset[str]:
    """Everything that a module imports, at its top or inside a function; modules that strings name count as well."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in whole}
        elif isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
            start = node.values[0].value  # f"swgctl.stages.{name}", as importlib is given it
            found |= {name for name in FILES if start.startswith("swgctl.") and name.startswith(start)}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found |= {node.value.partition(":")[0]} & FILES.keys() if ":" in node.value else set()  # module:function
    return frozenset(found)


def ours(module: str) -> set[str]:
    return {name for name in imported(module) if name in FILES} - {module}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def test_every_room_has_a_floor():
    assert {room(module) for module in FILES} == FLOOR.keys()


@pytest.mark.parametrize("name", [name for name in sorted(FLOOR) if FLOOR[name] < GROUND])
def test_a_room_imports_lower_floors_only(name):
    upward = {
        f"{module} imports {other}"
        for module in FILES
        if room(module) == name
        for other in ours(module)
        if room(other) != name and FLOOR[room(other)] <= FLOOR[name]
    }
    assert not upward


def test_the_ground_imports_nothing_above_it():
    upward = {
        f"{module} imports {other}"
        for module in FILES
        if FLOOR[room(module)] == GROUND
        for other in ours(module) - {"swgctl"}
        if FLOOR[room(other)] < GROUND
    }
    assert not upward


def test_no_module_imports_itself_by_a_circle():
    # `import swgctl.x` runs swgctl/__init__.py, whose imports happen when its names are used
    graph = {module: ours(module) - {"swgctl"} for module in FILES}
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle: {' -> '.join(reversed(error.args[1]))}")


def test_the_method_imports_torch_alone():
    import sys

    for module in FILES:
        if module.removeprefix("swgctl.").startswith(TORCH_ALONE):
            others = {name.partition(".")[0] for name in imported(module) - ours(module)} - {"torch"}
            assert others <= sys.stdlib_module_names | {"swgctl"}, module
            assert all(name.removeprefix("swgctl.").startswith(TORCH_ALONE) for name in ours(module)), module


def test_a_walk_sees_what_it_is_meant_to(monkeypatch):
    """A circle, and an upward import inside a function, are found where there are some."""
    monkeypatch.setitem(FILES, "swgctl.errors", Path(__file__))  # which names a module that is above it
    assert "swgctl.cli" in imported.__wrapped__("swgctl.errors")


ABOVE = "swgctl.cli:main"  # read by the test before


def test_no_file_is_longer_than_a_reader_can_hold():
    long = {module: count for module, path in FILES.items() if (count := len(path.read_text().splitlines())) > LINES}
    assert not long
