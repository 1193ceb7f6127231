"""What a policy was made from, and the conditions under which a critic can rank its candidates."""

from swgctl.config import GUIDE, LOSS, a
from swgctl.errors import InputError
from swgctl.seeds import ranges
from swgctl.store import Artifact
from swgctl.tasks import Task, argument


def check_ranking(critic: Artifact, policy: Artifact, weight: dict | None) -> None:
    """Raise InputError unless the critic can rank the policy's candidates by the weight of these parameters.

    weight  None: by the advantage
    """
    task = Task.from_json(policy.meta["task"])
    help = f"swgctl critic {argument(task)} --seeds {ranges(policy.seeds)}"
    if critic.stage != "critic":
        raise InputError(f"a critic is needed to rank candidates, and {critic.id} is {a(critic.stage)}", help)
    widths = {name: critic.meta["metrics"]["data"][name] for name in ("observation_dim", "action_dim")}
    for what, theirs, ours in (
        ("of the task", critic.task, policy.task),
        ("of", critic.params["environment"], task.environment),
        ("of the widths", widths, {name: policy.meta["metrics"]["data"][name] for name in widths}),
        ("of the seeds", ranges(critic.seeds), ranges(policy.seeds)),
    ):
        if theirs != ours:
            raise InputError(f"the critic {critic.id} is {what} {theirs}, the policy {policy.id} {what} {ours}", help)
    if weight:
        check_loss(critic, weight["weight"], help)


def check_loss(critic: Artifact, weight: str, help: str) -> None:
    """Raise InputError unless the weight derives from the loss that the critic's V was trained with."""
    loss, usual = critic.params["loss"], LOSS[weight][0]
    if loss not in LOSS[weight]:
        raise InputError(
            f"the weight '{weight}' needs a critic trained with the {usual} loss, not {loss}",
            f"{help} --loss {usual}",
        )


def denoiser_of(source: Artifact) -> Artifact:
    """The denoiser of a guide; any other policy's artifact is its own."""
    if source.stage != "guide":
        return source
    role = GUIDE.filled(source.meta["inputs"])
    assert role
    return source.parent(role)


def weight_of(source: Artifact) -> dict | None:
    """The parameters of the weight that a policy is guided by: its guide's, else its data's; None for a plain one."""
    if source.stage == "guide":
        return source.params
    return source.parent("augment").params if source.stage == "diffuse" else None
