"""The command line's frame: groups of commands, and errors as one line, a `help:` line and an exit code."""

import os
import sys
from typing import Annotated

import typer
from typer.core import TyperGroup

from swgctl.errors import SwgError

# The class that every complaint of the parser derives from, whichever package defines it.
PARSER_ERROR = typer.BadParameter.__base__.__base__


class Group(TyperGroup):
    """Errors are one line that says what and where, and a `help:` line; each has its exit code (`swgctl.errors`)."""

    def main(self, args=None, prog_name=None, standalone_mode=True, **extra):
        if not standalone_mode:
            return super().main(args, prog_name, standalone_mode=False, **extra)
        sys.exit(self._run(args, prog_name, extra))

    def _run(self, args, prog_name, extra) -> int:
        from swgctl import signals

        for name in ("stdout", "stderr"):  # None where whoever started this had closed it
            setattr(sys, name, getattr(sys, name) or open(os.devnull, "w"))  # noqa: SIM115
        try:
            with signals.handled():
                code = super().main(args, prog_name or "swgctl", standalone_mode=False, **extra)
                sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except SwgError as error:
            return fail(str(error), error.help, error.code)
        except PARSER_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                print(error.format_message(), file=sys.stderr)
                return 2
            context = getattr(error, "ctx", None)
            return fail(error.format_message(), f"{context.command_path if context else 'swgctl'} --help", 2)
        except (KeyboardInterrupt, typer.Abort):
            return fail("stopped by SIGINT", "run the same command again to go on", 130)
        except (BrokenPipeError, SystemExit) as error:
            if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # whoever reads has seen enough
            return 0
        except Exception as error:
            if isinstance(error, MemoryError) or "out of memory" in str(error) or "allocate memory" in str(error):
                return fail(f"out of memory: {error}", "a smaller batch or fewer seeds, or --device cpu", 1)
            where = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return fail(f"internal: {where}", "SWGCTL_DEBUG=1 shows where", 1)


def fail(message: str, help: str | list[str] | None, code: int) -> int:
    if os.environ.get("SWGCTL_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    for line in [help] if isinstance(help, str) else help or []:
        print(f"help: {line}", file=sys.stderr)
    return code


app = typer.Typer(cls=Group, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
recipe_app = typer.Typer(no_args_is_help=True, help="Hyper-parameters of a family of tasks.")
task_app = typer.Typer(no_args_is_help=True, help="The tasks by name.")
data_app = typer.Typer(no_args_is_help=True, help="The files that tasks learn from.")
plot_app = typer.Typer(no_args_is_help=True, help="Pictures of an artifact.")
app.add_typer(plot_app, name="plot")
app.add_typer(task_app, name="task")
app.add_typer(data_app, name="data")
app.add_typer(recipe_app, name="recipe")


def version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as installed

        print(installed("swgctl"))
        raise typer.Exit


@app.callback()
def about(
    _: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Diffusion self-weighted guidance for offline reinforcement learning, as staged artifacts.

    critic -> augment -> diffuse -> eval, or all four with run. Exit codes: 0 done or cached, 1 failed, 2 usage,
    3 input missing or ambiguous, 4 corrupt, 5 busy, 75 interrupted (the same command resumes), 130 Ctrl-C.
    """
