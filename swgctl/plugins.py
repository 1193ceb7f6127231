"""Packages that extend swgctl, through entry points of the groups swgctl.stages, swgctl.methods and swgctl.tasks."""

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from swgctl.console import say

STAGES, METHODS, TASKS = "swgctl.stages", "swgctl.methods", "swgctl.tasks"


@cache
def load(group: str) -> dict[str, Any]:
    """What installed packages offer in a group, by name.

    One that cannot be imported is named in one line on stderr, and the others are there all the same.
    """
    loaded: dict[str, Any] = {}
    for point in entry_points(group=group):
        try:
            loaded[point.name] = point.load()
        except Exception as error:  # whatever its import raises
            who = point.dist.name if point.dist else point.value
            say(f"plugin {who} is left out: {point.name} = {point.value}: {type(error).__name__}: {error}")
    return loaded


def extend(shipped: dict[str, Any], group: str, kind: type) -> dict[str, Any]:
    """The shipped rows of a table, then those of plugins, by the rows' names.

    A plugin's row that is of another kind, or has a name that is taken, is named on stderr and left out.
    """
    rows = dict(shipped)
    for name, row in load(group).items():
        if not isinstance(row, kind):
            say(f"plugin {name} of {group} is left out: it is a {type(row).__name__}, not a {kind.__name__}")
        elif row.name in rows:
            say(f"plugin {name} of {group} is left out: the name '{row.name}' is taken")
        else:
            rows[row.name] = row
    return rows
