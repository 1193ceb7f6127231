"""The command line: flags in, one path out.  No work of its own, and nothing heavy imported before it is needed."""

from swgctl import runtime
from swgctl.cli import bench, data, look, plan, stages  # noqa: F401 - each adds its commands, in the order of --help
from swgctl.cli.app import app


def main() -> None:
    runtime.prepare()
    app()
