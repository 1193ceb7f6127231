"""Options and arguments that several commands share."""

from typing import Annotated

import typer

StoreOption = Annotated[
    str, typer.Option("--store", help="Directory of artifacts. [$SWGCTL_STORE, nearest swg-store/]")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout instead of a path.")]
Recipe = Annotated[str | None, typer.Option(help="A shipped recipe's name, or a file, on top of the task's own.")]
Set = Annotated[list[str], typer.Option("--set", help="A setting, such as critic.lr=3e-4. May be repeated.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Mode = Annotated[str, typer.Option(help="How training steps run: auto, eager, compiled, or on CUDA graph.")]
Force = Annotated[bool, typer.Option("--force", help="Build again what is there.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Exit 5 when another process is building the same.")]
From = Annotated[
    list[str] | None,
    typer.Option("--from", metavar="[ROLE=]REF", help="The input: a directory, an id's first characters, or -."),
]
Method = Annotated[str | None, typer.Option(help="Whose guidance: swg, or a plugin's.")]
TaskOption = Annotated[str | None, typer.Option("--task", help="Take an input of this task only.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, trained as one: 0-4, or 0,3.")]
Until = Annotated[str | None, typer.Option(help="The stage to end with: critic, augment or diffuse.")]
Env = Annotated[str | None, typer.Option("--env", help="Gymnasium id that a file's policies are evaluated in.")]
TaskArgument = Annotated[str, typer.Argument(help="A task's name, minari:ID, or an HDF5 file with --env.")]
Tasks = Annotated[list[str], typer.Argument(help="Tasks.")]
Ref = Annotated[str, typer.Argument(help="A directory, an id's first characters, or - for standard input.")]
Out = Annotated[str | None, typer.Option(help="The picture's file, .png or .svg. [default: plots/ in the store]")]
OptionalRef = Annotated[str | None, typer.Argument(help="REF. [default: the one that this shell made last]")]

ClipActions = Annotated[bool | None, typer.Option("--clip-actions", help="Clip actions outside [-1, 1].")]
Steps = Annotated[int | None, typer.Option(help="Gradient steps.")]
Batch = Annotated[int | None, typer.Option(help="Rows a step.")]
LearningRate = Annotated[float | None, typer.Option(help="Adam's learning rate.")]
Weight = Annotated[str | None, typer.Option(help="expectile, hard_expectile, exponential, linex or quantile.")]
Rho = Annotated[list[str] | None, typer.Option(help="Guidance scales: 15, or 0,5,10.")]
Resample = Annotated[list[str] | None, typer.Option(help="Candidates M of which one is kept: 8, or 1,8.")]
Episodes = Annotated[int | None, typer.Option(help="Episodes of each cell and seed.")]
Sampler = Annotated[str | None, typer.Option(help="ddpm, ddim or dpm-solver++.")]
