"""A run as a graph: one node for each artifact, built or to be built."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from swgctl.config import Resolved, Settings, Stage, stages
from swgctl.files import canonical
from swgctl.tasks import Task


@dataclass(frozen=True, eq=False)
class Node:
    """An artifact, built or not: stage, task, settings, seeds, and its input nodes by role."""

    stage: Stage
    task: Task
    settings: Settings
    seeds: list[int]
    inputs: Mapping[str, "Node"]

    @cached_property
    def identity(self) -> str:
        """A text that is equal for two nodes with the same artifact, however their settings are written."""
        parameters = [self.stage.name, self.task.to_json(), self.seeds, self.settings.keyed()]
        return canonical([*parameters, {role: node.identity for role, node in self.inputs.items()}])

    def walk(self) -> Iterator["Node"]:
        """Every ancestor, each once and after its inputs; then the node itself."""
        seen: set[int] = set()

        def visit(node: Node) -> Iterator[Node]:
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node.inputs.values():
                    yield from visit(parent)
                yield node

        return visit(self)


def graph(task: Task, resolved: Resolved, chain: Sequence[str], method: str) -> Node:
    """The node of a chain's last stage with its ancestors.

    Of a stage's primary roles, the one is filled whose stage comes last in the chain; another role takes the first
    stage of the chain that fits.  A setting called `method` is the method's name.
    """
    nodes: dict[str, Node] = {}

    def node(name: str) -> Node:
        if name not in nodes:
            row, settings = stages()[name], resolved[name]
            if "method" in type(settings).model_fields:
                settings = settings.model_copy(update={"method": method})
            nodes[name] = Node(row, task, settings, resolved.seeds, _inputs(row, settings))
        return nodes[name]

    def _inputs(row: Stage, settings: Settings) -> dict[str, Node]:
        before = chain[: chain.index(row.name)]
        primary = max(
            ((before.index(stage), role) for role, fit in row.primaries.items() for stage in fit if stage in before),
            default=(0, None),
        )[1]
        roles = {
            role: input
            for role, input in row.inputs.items()
            if (role == primary if input.primary else input.when(settings, primary))
        }
        return {
            role: node(next((stage for stage in before if stage in input.stages), input.stages[0]))
            for role, input in roles.items()
        }

    return node(chain[-1])
