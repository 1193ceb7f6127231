"""Which artifacts fit together: what a stage starts from, and which critic may rank a policy's candidates."""

from swgctl.config import LOSS
from swgctl.errors import InputError
from swgctl.seeds import ranges
from swgctl.store import CHAIN, Artifact, Store
from swgctl.tasks import Task

PREVIOUS = dict(zip(CHAIN[1:], CHAIN, strict=False))


def choose(store: Store, stage: str, ref: str | None, task: str | None) -> tuple[Artifact, str]:
    """The artifact that a stage starts from, and why that one.  Never merely the newest.

    Raises InputError when none fits, or several do; then `help` has a line to paste for each.
    """
    wanted = PREVIOUS[stage]
    if ref is not None:
        artifact = store.resolve(ref)
        if artifact.stage != wanted:
            way = f"{wanted} --from {ref}" if PREVIOUS.get(wanted) == artifact.stage else f"ls --stage {wanted}"
            raise InputError(
                f"{stage} starts from {a(wanted)}; {ref} is {a(artifact.stage)}", f"swgctl {way}{store.option}"
            )
        if task and artifact.task != task:
            raise InputError(
                f"{ref} is of the task {artifact.task}, not {task}", f"swgctl ls --task {task}{store.option}"
            )
        return artifact, "named by --from"
    last = store.current(wanted)
    if last and (task is None or last.task == task):
        return last, "which this shell made last"
    fitting = list(store.artifacts(wanted, task))
    if len(fitting) == 1:
        return fitting[0], "the only one that fits"
    of = f" of {task}" if task else ""
    if not fitting:
        first = f"swgctl critic {task or 'TASK'}" if wanted == "critic" else f"swgctl {wanted}"
        raise InputError(f"{stage} needs {a(wanted)}{of}, and {store.root} has none", f"{first}{store.option}")
    raise InputError(
        f"{len(fitting)} {wanted} artifacts{of} fit, and this shell made none of them",
        [f"swgctl {stage} --from {f.id}{store.option}   # {f.task}, seeds {ranges(f.seeds)}" for f in fitting],
    )


def check_ranking(critic: Artifact, policy: Artifact, augmented: Artifact) -> None:
    """Raises InputError unless the critic can rank the policy's candidates by the weight of its augmented data set."""
    task = Task.from_json(policy.meta["task"])
    wanted = f"swgctl critic {task.argument} --seeds {ranges(policy.seeds)}"
    if critic.stage != "critic":
        raise InputError(f"--critic takes a critic to rank candidates by, and {critic.id} is {a(critic.stage)}", wanted)
    widths = {name: critic.meta["metrics"]["data"][name] for name in ("observation_dim", "action_dim")}
    loss, weight = critic.params["loss"], augmented.params["weight"]
    for what, theirs, ours in (
        ("of the task", critic.task, policy.task),
        ("of", critic.params["environment"], task.environment),
        ("of the widths", widths, {name: policy.meta["metrics"]["data"][name] for name in widths}),
        ("of the seeds", ranges(critic.seeds), ranges(policy.seeds)),
    ):
        if theirs != ours:
            raise InputError(f"the critic {critic.id} is {what} {theirs}, the policy {policy.id} {what} {ours}", wanted)
    if loss != LOSS[weight]:
        raise InputError(
            f"the weight '{weight}' is none of a critic with the {loss} loss", f"{wanted} --loss {LOSS[weight]}"
        )


def a(stage: str) -> str:
    return {"augment": "an augmented data set", "diffuse": "a policy (diffuse)", "eval": "an evaluation"}.get(
        stage, f"a {stage}"
    )
