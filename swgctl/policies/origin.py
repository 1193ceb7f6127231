"""What a policy was made from, and the conditions under which a critic can rank its candidates."""

from swgctl.config import GUIDE, LOSS, a
from swgctl.console import quoted
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
        check_loss(critic, weight["weight"])


def check_loss(critic: Artifact, weight: str) -> None:
    """Raise InputError unless the weight derives from the loss that the critic's V was trained with."""
    if critic.params["loss"] in LOSS[weight]:
        return
    loss = LOSS[weight][0]
    # The new critic differs from this one in its loss alone: whatever was set by hand is set again.
    by_hand = [name for name, origin in critic.meta["origin"].items() if not origin.startswith("recipe ")]
    values = {name: critic.params.get(name.split(".")[1]) for name in by_hand if name != "critic.loss"}
    words = [f"--set {quoted(f'{name}={value}')}" for name, value in values.items() if value is not None]
    train = (
        f"swgctl critic {argument(Task.from_json(critic.meta['task']))} --seeds {ranges(critic.seeds)} --loss {loss}"
    )
    raise InputError(
        f"the weight '{weight}' needs V trained with the {loss} loss; critic {critic.id} has the "
        f"{critic.params['loss']} loss",
        " ".join([train, *words]),
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
