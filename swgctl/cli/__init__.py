"""The command line: parses flags and prints paths.  The work is elsewhere, and imported only when it is needed."""

import os
import warnings

from swgctl import runtime

from swgctl.cli import stages, synthetic, toys, compare, look, log, video, data, plan, sweep, bench, remote  # noqa: F401  # isort: skip - the order of --help
from swgctl.cli.app import app


def main() -> None:
    runtime.prepare()
    if os.environ.get("SWGCTL_DEBUG") != "1":
        warnings.simplefilter("ignore")  # of libraries: an error is the last thing that is said
    app()
