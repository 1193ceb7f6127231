"""The command line: flags in, one path out.  No work of its own, and nothing heavy imported before it is needed."""

from swgctl.cli import stages, look, data, plan, measure  # noqa: F401, I001 - each adds its commands, in the order of --help
from swgctl.cli.app import app


def main() -> None:
    app()
