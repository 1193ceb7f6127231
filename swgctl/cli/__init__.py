"""The command line: parses flags and prints paths.  The work is elsewhere, and imported only when it is needed."""

from swgctl import runtime

from swgctl.cli import stages, synthetic, toys, compare, look, data, plan, bench  # noqa: F401  # isort: skip - the order of --help
from swgctl.cli.app import app


def main() -> None:
    runtime.prepare()
    app()
