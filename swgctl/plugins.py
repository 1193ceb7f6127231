"""Extension by other packages, through entry points of the groups swgctl.stages, swgctl.methods and swgctl.tasks."""

import contextlib
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol, TypeVar

from swgctl.console import say
from swgctl.errors import SwgError, said_by

STAGES, METHODS, TASKS = "swgctl.stages", "swgctl.methods", "swgctl.tasks"


class Row(Protocol):
    """A row of an extensible table."""

    @property
    def name(self) -> str: ...


R = TypeVar("R", bound=Row)


@cache
def load(group: str) -> dict[str, Any]:
    """Load the entry points of a group, by name.

    One that cannot be imported is reported in one line on stderr and left out.
    """
    loaded: dict[str, Any] = {}
    for point in entry_points(group=group):
        try:
            with contextlib.redirect_stdout(sys.stderr):
                loaded[point.name] = point.load()
        except (SwgError, KeyboardInterrupt):  # a signal came
            raise
        except BaseException as error:  # an import may raise anything, and exit
            who = point.dist.name if point.dist else point.value
            say(f"plugin {who} is left out: {point.name} = {point.value}: {said_by(error)}")
    return loaded


def extend(shipped: Mapping[str, R], group: str, kind: type[R]) -> dict[str, R]:
    """The shipped rows of a table, then those of plugins, by name.

    A plugin's row of another kind, or with a name already taken, is reported on stderr and left out.
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
