"""What a run builds, as a graph: a node for each artifact, which need not exist yet."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from swgctl.config import Resolved, Settings, Stage, stages
from swgctl.files import canonical
from swgctl.tasks import Task


@dataclass(frozen=True, eq=False)
class Node:
    """An artifact to be: of a stage, a task and settings, from other nodes by role."""

    stage: Stage
    task: Task
    settings: Settings
    seeds: list[int]
    inputs: Mapping[str, "Node"]

    @cached_property
    def identity(self) -> str:
        """The same for two nodes that end in the same artifact, however their settings are written."""
        own = [self.stage.name, self.task.to_json(), self.seeds, self.settings.keyed()]
        return canonical([*own, {role: node.identity for role, node in self.inputs.items()}])

    def walk(self) -> Iterator["Node"]:
        """Every node that this one is made from, each once and after its own inputs; then itself."""
        seen: set[int] = set()

        def visit(node: Node) -> Iterator[Node]:
            if id(node) not in seen:
                seen.add(id(node))
                for parent in node.inputs.values():
                    yield from visit(parent)
                yield node

        return visit(self)


def graph(task: Task, resolved: Resolved, last: str) -> Node:
    """The node of a stage and all that it takes: a role is filled by the first stage that fits it."""
    nodes: dict[str, Node] = {}

    def node(name: str) -> Node:
        if name not in nodes:
            row, settings = stages()[name], resolved[name]
            inputs = {role: node(one.stages[0]) for role, one in row.inputs.items() if one.when(settings)}
            nodes[name] = Node(row, task, settings, resolved.seeds, inputs)
        return nodes[name]

    return node(last)
