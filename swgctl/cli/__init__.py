"""The command line: parses flags and prints paths.  The work is elsewhere, and imported only when it is needed."""

import copy
import os
import sys
import warnings

import typer

from swgctl import runtime

from swgctl.cli import stages, synthetic, toys, compare, look, log, video, data, plan, sweep, bench, remote  # noqa: F401  # isort: skip - the order of --help
from swgctl.cli.app import app


def main() -> None:
    runtime.prepare()
    if os.environ.get("SWGCTL_DEBUG") != "1":
        warnings.simplefilter("ignore")  # of libraries: an error is the last thing that is said
    app_of(sys.argv[1:])()


def app_of(args: list[str]) -> typer.Typer:
    """The app with the command or sub-group that `args` begin with alone, else with all, those of plugins too.

    Typer builds every command that an app has before it runs one, and that takes longer than most commands do.
    """
    name = args[:1]
    one = copy.copy(app)
    one.registered_commands = [command for command in app.registered_commands if command.name in name]
    one.registered_groups = [group for group in app.registered_groups if group.name in name]
    if one.registered_commands or one.registered_groups:
        return one
    stages.add_plugged()
    return app
