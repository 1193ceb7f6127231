"""A run as a graph: one node for each artifact, built or to be built."""

from collections.abc import Iterator, Mapping
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


def graph(task: Task, resolved: Resolved, last: str) -> Node:
    """The node of the stage `last` with its ancestors; the first stage that fits a role fills it."""
    nodes: dict[str, Node] = {}

    def node(name: str) -> Node:
        if name not in nodes:
            row, settings = stages()[name], resolved[name]
            inputs = {role: node(input.stages[0]) for role, input in row.inputs.items() if input.when(settings)}
            nodes[name] = Node(row, task, settings, resolved.seeds, inputs)
        return nodes[name]

    return node(last)
