"""Options and arguments that several commands share, and the values that shells complete."""

import contextlib
import io
from collections.abc import Callable
from typing import Annotated

import typer

# Choices are checked where they are used, by `swgctl.config` and others; here they are for --help and for completion.
LOSSES = ("expectile", "quantile", "linex", "cql", "isq", "dice")
WEIGHTS = ("expectile", "hard_expectile", "exponential", "linex", "quantile", "dice")
SAMPLERS = ("ddpm", "ddim", "dpm-solver++", "dpm-solver-2s")
SELECTS = ("critic", "self", "sample")
METHODS = ("swg", "calibrated", "resample", "mse", "dps", "emse", "cep", "ddice", "aepo", "pgd")
GUIDES = METHODS[1:-1]
TOYS = ("swg", *GUIDES[2:], "all")  # methods of the toys: neither a calibration nor resampling
STATES = ("states", "next")
MODES = ("auto", "eager", "graph", "compiled")
ENDS = ("critic", "augment", "diffuse", "behaviour", "candidates", "guide", "trajectories", "agent")
ALGOS = ("td3bc", "iql")
PULLS = ("shift", "posterior")
DENSITIES = ("8gaussians", "2spirals", "swissroll", "rings", "moons", "checkerboard")
BENCHMARKS = (
    *("critic", "diffuse", "sample", "eval", "trajectories", "synth", "agent"),
    *("scaling", "inference"),
)
REPORTS = ("table", "csv", "json", "latex", "html")
ENGINES = ("local", "ray")
PLANS = ("table", "commands", "json", "slurm")
PAPERS = ("swg", "aepo", "pgd", "fql")


def choices(values: tuple[str, ...]) -> str:
    """The metavar of an option that takes one of some values: [ddpm|ddim|dpm-solver++]."""
    return f"[{'|'.join(values)}]"


def completing(values: tuple[str, ...]) -> Callable[[], list[str]]:
    """The completion of such an option."""
    return lambda: list(values)


def complete_tasks() -> list[str]:
    """The names of the tasks, those of plugins as well."""
    from swgctl import tasks

    with contextlib.redirect_stderr(io.StringIO()):  # a plugin that is left out is named there
        return list(tasks.names())


def complete_recipes() -> list[str]:
    """The names of the shipped recipes."""
    from swgctl import config

    with contextlib.redirect_stderr(io.StringIO()):
        return list(config.recipe_names())


def complete_methods() -> list[str]:
    """The names of the methods, those of plugins as well."""
    from swgctl.config import method

    with contextlib.redirect_stderr(io.StringIO()):
        return list(method.methods())


StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", metavar="DIR", help="Directory of artifacts. [default: $SWGCTL_STORE, else the nearest swg-store/]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a line instead of paths or a table.")]
Recipe = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Recipe on top of the task's own: a file, or the name of a shipped one.",
        autocompletion=complete_recipes,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Change a setting, such as critic.lr=3e-4. Repeatable."),
]
Device = Annotated[
    str,
    typer.Option(
        metavar="[auto|cpu|cuda|cuda:N]",
        help="Where to compute; auto takes CUDA if there is a GPU.",
        autocompletion=completing(("auto", "cpu", "cuda")),
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        metavar=choices(MODES),
        help="How steps run; auto compiles training where it pays and works, and graph is for CUDA alone.",
        autocompletion=completing(MODES),
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Build the artifact again even if it exists.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Exit with 5 if another process is building the artifact; do not wait.")
]
Log = Annotated[
    list[str] | None,
    typer.Option(
        "--log",
        metavar="TRACKER",
        help="Send what is measured to tensorboard:DIR, trackio[:PROJECT] or wandb[:PROJECT]. Repeatable. "
        "[default: $SWGCTL_LOG]",
    ),
]
From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="[ROLE=]REF",
        help="Input artifact: a directory, the first characters of an id, URL#ID, or - for standard input. "
        "[default: the one that this shell made last, else the only one that fits]",
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        metavar=choices((*METHODS, "...")),
        help="Guidance, and the stages that it needs. [default: swg]",
        autocompletion=complete_methods,
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option("--task", metavar="TASK", help="Take an input of this task only.", autocompletion=complete_tasks),
]
Seeds = Annotated[
    str | None, typer.Option(metavar="0-4", help="Seeds, trained together: a range, or a list such as 0,3.")
]
SeedLists = Annotated[
    list[str] | None,
    typer.Option(metavar="0-4", help="Seeds of a run, a range or a list. Repeatable, one run each."),
]
Grid = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE,VALUE", help="Values of a setting, one run each. Repeatable: all combinations."),
]
Methods = Annotated[
    str | None,
    typer.Option(
        metavar="METHOD[,METHOD...]",
        help="Methods, one run each; short for --grid eval.method=...",
        autocompletion=complete_methods,
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar=choices(ENDS), help="Stop after this stage.", autocompletion=completing(ENDS))
]
Env = Annotated[
    str | None,
    typer.Option(
        "--env", metavar="ID", help="Environment in which a file is evaluated; module:Id runs that module's code."
    ),
]
Leave = Annotated[
    str | None,
    typer.Option(
        "--env", metavar="MODULE:ID", help="The record's environment, to allow its module, whose code this runs."
    ),
]
TaskArgument = Annotated[
    str,
    typer.Argument(help="A task's name, minari:ID, or an HDF5 file with --env.", autocompletion=complete_tasks),
]
OptionalTask = Annotated[
    str | None,
    typer.Argument(
        help="A task's name, minari:ID, or an HDF5 file with --env. [default: the input of --from]",
        autocompletion=complete_tasks,
    ),
]
Tasks = Annotated[
    list[str],
    typer.Argument(metavar="TASK", help="Tasks: names, minari:ID, or HDF5 files.", autocompletion=complete_tasks),
]
Ref = Annotated[
    str,
    typer.Argument(help="An artifact: a directory, the first characters of an id, URL#ID, or - for standard input."),
]
OptionalRef = Annotated[
    str | None, typer.Argument(help="An artifact. [default: the one that this shell made last, else the only one]")
]
Out = Annotated[
    str | None, typer.Option(metavar="FILE", help="Picture to write, .png or .svg. [default: in plots/ of the store]")
]

ClipActions = Annotated[
    bool | None, typer.Option("--clip-actions", help="Clip actions outside [-1, 1] instead of refusing the data.")
]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Gradient steps.")]
Width = Annotated[int | None, typer.Option(metavar="N", help="Units in each block of the network.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Rows in a gradient step.")]
LearningRate = Annotated[float | None, typer.Option(metavar="RATE", help="Adam's learning rate.")]
Weight = Annotated[
    str | None,
    typer.Option(
        metavar=choices(WEIGHTS),
        help="Weight function of the advantage; linex, quantile and dice need a critic trained with that loss.",
        autocompletion=completing(WEIGHTS),
    ),
]
Lambda = Annotated[
    float | None, typer.Option("--lambda", metavar="LAMBDA", help="Scale of the guidance; 0 is unguided.")
]
Rho = Annotated[list[str] | None, typer.Option(metavar="RHO[,RHO...]", help="Guidance scales; 0 is unguided.")]
Resample = Annotated[
    list[str] | None,
    typer.Option(metavar="M[,M...]", help="Numbers of candidate actions, of which the best is taken."),
]
Temperature = Annotated[
    list[str] | None, typer.Option(metavar="T[,T...]", help="Factors of the sampling noise; 0 is deterministic.")
]
Episodes = Annotated[int | None, typer.Option(metavar="N", help="Episodes per seed, for each cell.")]
Sampler = Annotated[
    str | None,
    typer.Option(metavar=choices(SAMPLERS), help="Diffusion sampler.", autocompletion=completing(SAMPLERS)),
]
