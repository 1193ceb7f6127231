"""The frame of the command line: groups of commands, and errors as one line, a `help:` line and an exit code."""

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer

from swgctl.cli import layout
from swgctl.console import NAME, printable, quoted
from swgctl.errors import SwgError, said_by

try:
    from typer import TyperException as ParserError  # every error of a Typer that has its own copy of click
except ImportError:  # an older one, on the package click
    from click import ClickException as ParserError  # type: ignore[assignment]

COMPLETION = {"--show-completion", "--install-completion"}
NO_MEMORY = ("out of memory", "allocate memory", "failed to map segment")  # of PyTorch, of the system, of its loader
SYSTEM = {  # what the system may refuse anywhere -> (exit code, help about a file)
    **dict.fromkeys((errno.EACCES, errno.EPERM), (3, "ls -ld {0}")),
    **dict.fromkeys((errno.ELOOP, errno.ENAMETOOLONG), (2, "ls -ld {0}")),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), (1, "ulimit -n 1024")),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO), (1, "df -h {0}")),
}


class Group(layout.Group):
    """A group whose errors are one line that says what and where, and a `help:` line, with `swgctl.errors`' codes."""

    def main(self, args=None, prog_name=None, standalone_mode=True, **extra):
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        sys.exit(self._run(list(sys.argv[1:] if args is None else args), prog_name or "swgctl", extra))

    def parse_args(self, ctx, args):
        if not args and self.no_args_is_help and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            ctx.exit(2)
        return super().parse_args(ctx, args)

    def _run(self, args: list[str], program: str, extra: dict[str, Any]) -> int:
        from swgctl import signals

        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):  # None where the parent had closed it
            # in this order, since a file takes the lowest descriptor that is free
            setattr(sys, name, getattr(sys, name) or open(os.devnull, mode))  # noqa: SIM115
        for stream in (sys.stdin, sys.stdout):
            if isinstance(stream, io.TextIOWrapper):  # a path keeps its bytes, whatever the locale and PYTHONIOENCODING
                stream.reconfigure(encoding=sys.getfilesystemencoding(), errors="surrogateescape")
        try:
            with signals.handled():
                code = super().main(args, program, standalone_mode=False, **extra)
                sys.stdout.flush()
            if code == 130:  # what Typer turns a KeyboardInterrupt into
                raise KeyboardInterrupt
            if code == 1 and COMPLETION & {*args}:  # Typer looks for it among the parent processes
                advice = f"_{program.upper()}_COMPLETE=source_bash {program}   # or source_zsh, source_fish"
                return fail("the shell is unknown, or has no completion", advice, 1)
            return code if isinstance(code, int) else 0
        except SwgError as error:
            return fail(str(error), error.help, error.code)
        except ParserError as error:
            context = getattr(error, "ctx", None)
            return fail(error.format_message(), f"{context.command_path if context else program} --help", 2)
        except (KeyboardInterrupt, typer.Abort):
            return fail("stopped by SIGINT", f"{_line(program, args)}   # goes on where it stopped", 130)
        except (BrokenPipeError, SystemExit) as error:
            if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
                raise
            _drop(sys.stdout)  # the reader has closed the pipe
            return 0
        except Exception as error:
            if isinstance(error, MemoryError) or any(text in said_by(error) for text in NO_MEMORY):
                advice = f"{_line(program, args[:1])} --help   # fewer seeds or a smaller batch need less"
                return fail(f"out of memory: {error}", advice, 1)
            if isinstance(error, FileNotFoundError) and _adrift():
                return fail("the working directory has been removed", "cd", 2)
            if isinstance(error, OSError) and error.errno in SYSTEM:
                code, help = SYSTEM[error.errno]
                name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
                if not name and code == 1:
                    _drop(sys.stdout)  # perhaps what could not be written: Python would try again at its end
                return fail(f"{name or program}: {error.strerror}", help.format(quoted(name or ".")), code)
            return fail(f"internal: {said_by(error)}", f"SWGCTL_DEBUG=1 {_line(program, args)}   # shows where", 1)


def _adrift() -> bool:
    """True if the working directory has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _line(program: str, args: list[str]) -> str:
    """A command as a shell takes it."""
    return " ".join([program, *map(quoted, args)])


def fail(message: str, advice: str | list[str] | None, code: int) -> int:
    """Print an error and what helps on stderr; returns the exit code."""
    if os.environ.get("SWGCTL_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    text = re.sub(rf"[^\s/]{{{NAME + 1},}}", lambda long: printable(long[0], NAME), " ".join(message.split()))
    helps = [advice] if isinstance(advice, str) else advice or []
    try:
        print(f"error: {printable(text)}", file=sys.stderr)
        for line in helps:
            print(f"help: {printable(line, len(line))}", file=sys.stderr)
    except OSError:  # as where stderr is a file on a full disk: the exit code is left
        _drop(sys.stderr)
    return code


def _drop(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a descriptor
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def command(group: typer.Typer, name: str, section: str | None = None, examples: str = "") -> Callable[[Any], Any]:
    """A decorator that makes a command of a function; its docstring is the help, the first sentence the summary.

    section   the heading that `swgctl --help` lists it under, one of `layout.SECTIONS`; None in a sub-group
    examples  lines that can be pasted
    """
    return group.command(name, cls=layout.Command, rich_help_panel=section, epilog=layout.examples(examples))


def _group(name: str, section: str, about: str, examples: str) -> typer.Typer:
    """A sub-group of commands, `swgctl NAME ...`."""
    group = typer.Typer(cls=Group, no_args_is_help=True, help=about, epilog=layout.examples(examples))
    app.add_typer(group, name=name, rich_help_panel=section)
    return group


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog="""\
Examples:
  swgctl run demo                         # minutes on two CPU cores
  swgctl critic demo                      # or a stage at a time
  swgctl augment
  swgctl diffuse
  swgctl eval --rho 0,5,10
  swgctl report

Exit codes:
  0  done or cached                       4    damaged
  1  failed                               5    busy
  2  wrong usage                          75   interrupted: repeat to resume
  3  input missing or ambiguous           130  Ctrl-C
""",
)
plot_app = _group(
    "plot",
    layout.LOOK,
    "Plot scores, weights, losses and benchmarks.",
    """
    swgctl plot rho
    swgctl plot compare --task demo --out compare.svg
    """,
)
task_app = _group(
    "task",
    layout.TASKS,
    "List the tasks, or show one of them.",
    """
    swgctl task ls
    swgctl task show antmaze-umaze-v0
    """,
)
data_app = _group(
    "data",
    layout.TASKS,
    "Fetch, check, import and export data sets.",
    """
    swgctl data fetch hopper-medium-v2
    swgctl data info hopper-medium-v2
    """,
)
recipe_app = _group(
    "recipe",
    layout.PLAN,
    "List, show and check recipes: hyper-parameters by task.",
    """
    swgctl recipe show demo
    swgctl recipe validate --all
    """,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(version("swgctl"))
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Train, guide and evaluate diffusion policies for offline RL.

    Four stages lead from a task to scores: critic -> augment -> diffuse -> eval; `run` does all four. A stage starts
    from what the one before made in this shell, or from --from REF, and prints the directory of its artifact.
    """
