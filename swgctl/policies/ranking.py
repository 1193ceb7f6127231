"""The conditions under which a critic can rank a policy's candidates."""

from swgctl.config import LOSS, a
from swgctl.errors import InputError
from swgctl.seeds import ranges
from swgctl.store import Artifact
from swgctl.tasks import Task, argument


def check_ranking(critic: Artifact, policy: Artifact, augmented: Artifact) -> None:
    """Raise InputError unless the critic can rank the policy's candidates by the weight of its augmented data set."""
    task = Task.from_json(policy.meta["task"])
    help = f"swgctl critic {argument(task)} --seeds {ranges(policy.seeds)}"
    if critic.stage != "critic":
        raise InputError(f"a critic is needed to rank candidates, and {critic.id} is {a(critic.stage)}", help)
    if augmented.digest != policy.parent("augment").digest:
        raise InputError(f"{augmented.id} is not the augmented data set that {policy.id} learnt from", help)
    widths = {name: critic.meta["metrics"]["data"][name] for name in ("observation_dim", "action_dim")}
    loss, weight = critic.params["loss"], augmented.params["weight"]
    for what, theirs, ours in (
        ("of the task", critic.task, policy.task),
        ("of", critic.params["environment"], task.environment),
        ("of the widths", widths, {name: policy.meta["metrics"]["data"][name] for name in widths}),
        ("of the seeds", ranges(critic.seeds), ranges(policy.seeds)),
    ):
        if theirs != ours:
            raise InputError(f"the critic {critic.id} is {what} {theirs}, the policy {policy.id} {what} {ours}", help)
    if loss != LOSS[weight]:
        raise InputError(
            f"the weight '{weight}' needs a critic trained with the {LOSS[weight]} loss, not {loss}",
            f"{help} --loss {LOSS[weight]}",
        )
