"""The graph of a run: one node an artifact, each input before what takes it, and what makes two runs the same."""

from swgctl import config, tasks
from swgctl.stages import run
from swgctl.stages.graph import Node


def last(*assignments: str, until: str | None = None) -> Node:
    task = tasks.get("demo")
    return run.chain(task, config.resolve(task.name, task.recipe, assignments=assignments), until)


def test_a_run_walks_its_method_in_order():
    assert [node.stage.name for node in last().walk()] == ["critic", "augment", "diffuse", "eval"]
    assert [node.stage.name for node in last(until="augment").walk()] == ["critic", "augment"]


def test_a_node_is_shared_by_all_that_take_it():
    evaluation = last()
    assert evaluation.inputs.keys() == {"diffuse", "augment", "critic"}
    assert evaluation.inputs["augment"] is evaluation.inputs["diffuse"].inputs["augment"]
    assert evaluation.inputs["critic"] is evaluation.inputs["augment"].inputs["critic"]


def test_without_candidates_an_evaluation_takes_a_policy_alone():
    assert last("eval.resample=1").inputs.keys() == {"diffuse"}


def test_an_identity_is_of_everything_behind_a_node_and_of_nothing_else():
    def identities(*assignments):
        return {node.stage.name: node.identity for node in last(*assignments).walk()}

    plain, wider = identities(), identities("diffuse.width=64")
    assert [stage for stage in plain if plain[stage] != wider[stage]] == ["diffuse", "eval"]
    assert identities("critic.lr=1e-3") == identities("critic.lr=0.001")
    assert not {*plain.values()} & {*identities("seeds=7").values()}
