"""Named inputs: which artifact fills a role, by what was named, by the primary input's lineage, or not at all."""

import json
import shutil

import pytest
from support.harness import published, swgctl

from swgctl.config import AUGMENT, EVAL
from swgctl.errors import UsageError
from swgctl.stages.inputs import by_role
from swgctl.stages.run import run_stage
from swgctl.store import Artifact, Store


def inputs(path) -> dict[str, str]:
    """The ids of an artifact's inputs by role."""
    record = json.loads((path / "artifact.json").read_text())
    return {role: given["key"][:16] for role, given in record["inputs"].items()}


# -- texts -------------------------------------------------------------------------------------------------------------


def test_a_ref_without_a_role_is_the_primary_inputs():
    assert by_role(EVAL, ["3f9a", "critic=77"]) == {"diffuse": ["3f9a"], "critic": ["77"]}
    assert by_role(AUGMENT, ["-"]) == {"critic": ["-"]}


def test_a_directory_may_have_an_equals_sign(tmp_path):
    folder = tmp_path / "lr=3"
    folder.mkdir()
    assert by_role(EVAL, [str(folder)]) == {"diffuse": [str(folder)]}


@pytest.mark.parametrize(
    ("sources", "word"),
    [(["policy=3f9a"], "eval has no input 'policy'"), (["3f9a", "diffuse=77"], "eval takes one diffuse")],
)
def test_texts_that_name_no_role_or_one_twice_are_refused(sources, word):
    with pytest.raises(UsageError, match=word):
        by_role(EVAL, sources)


# -- roles -------------------------------------------------------------------------------------------------------------


def test_roles_that_are_not_named_come_from_the_lineage(chain):
    made = {stage: chain.made(stage).name for stage in ("critic", "augment", "diffuse")}
    evaluation = swgctl("eval", "--recipe", chain.recipe, "--resample", "2").path
    assert inputs(evaluation) == made


def test_candidates_behind_the_data_are_not_those_of_a_contrast(chain):
    """Those that `augment` added were drawn from another model; `guide cep` takes its denoiser's, which came last."""

    def ask(*words):
        return swgctl(*words, "--recipe", chain.recipe).path

    plain = ask("behaviour", chain.data, "--env", "Pendulum-v1")
    behind = ask("candidates", "--from", plain)
    added = ("--from", chain.made("critic"), "--candidates", behind, "--share", "0.5")
    policy = ask("diffuse", "--from", ask("augment", *added))
    candidates = ask("candidates", "--from", policy)
    assert inputs(ask("guide", "cep", "--from", policy))["candidates"] == candidates.name


def test_roles_that_the_settings_do_not_call_for_are_left_out(chain):
    assert inputs(chain.made("eval")).keys() == {"diffuse"}
    evaluation = swgctl("eval", "--recipe", chain.recipe, "--resample", "2", "--select", "self").path
    assert inputs(evaluation).keys() == {"diffuse"}


def test_a_missing_input_is_named_with_what_makes_it_of_that_task(tmp_path):
    store = ("--store", tmp_path / "empty")
    for stage, words in (
        ("eval", "run local-hopper-medium --until diffuse"),
        ("augment", "critic local-hopper-medium"),
    ):
        answer = swgctl(stage, "--task", "local-hopper-medium", *store)
        answer.refused(3, "of local-hopper-medium")
        assert answer.helps[0].startswith(f"swgctl {words}")


def test_a_task_that_the_store_has_nothing_of_is_named_as_the_mistake(chain):
    """What is close to its name, instead of a command for a task that does not exist."""
    for args in (["augment", "--task", "pendulm"], ["eval", "--task", "pendulm"]):
        answer = swgctl(*args)
        answer.refused(3, "of pendulm", "(did you mean 'pendulum'?)")
        assert answer.helps == ["swgctl ls"]
    assert "(did you mean 'pendulum'?)" in swgctl("ls", "--task", "pendulm").err


def test_a_task_of_a_file_is_gone_on_with(chain):
    """Its name is no argument of `swgctl run`: it goes on from what the store has of it."""
    shutil.rmtree(chain.made("diffuse"))
    shutil.rmtree(chain.made("augment"))
    answer = swgctl("diffuse", "--task", "pendulum")
    answer.refused(3, "diffuse needs an augmented data set of pendulum")
    assert answer.helps == ["swgctl augment --task pendulum"]


def test_an_object_that_json_printed_names_its_artifact_in_a_pipe(chain):
    printed = swgctl("critic", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--json").out
    piped = swgctl("augment", "--from", "-", "--recipe", chain.recipe, stdin=printed)
    assert piped.path == chain.made("augment")
    swgctl("augment", "--from", "-", stdin='{"stage": "critic"}').refused(3, "no artifact")


def test_a_role_can_be_named_in_two_ways(chain):
    other = chain.critic("--tau", "0.9").path
    how = ["eval", "--recipe", chain.recipe, "--resample", "2", "--json"]
    one, same = swgctl(*how, "--critic", other).json, swgctl(*how, "--from", f"critic={other.name}").json
    assert one["key"] == same["key"]
    assert same["status"] == "cached"


def test_a_role_takes_its_stages_only(chain):
    answer = swgctl("eval", "--recipe", chain.recipe, "--resample", "2", "--from", f"critic={chain.made('augment')}")
    answer.refused(3, "eval takes a critic for its role critic", "an augmented data set")


def test_paths_are_refs_and_tasks_in_python(chain):
    known = {"recipe": str(chain.recipe), "store": chain.store}
    critic = run_stage("critic", chain.data, environment="Pendulum-v1", **known).artifact
    assert critic.path == chain.made("critic")
    assert run_stage("augment", source=critic.path, **known).artifact.path == chain.made("augment")


# -- files that move ---------------------------------------------------------------------------------------------------


def test_a_file_that_has_moved_is_used_where_it_was_named_last(chain, pendulum, tmp_path):
    """Its critic is cached, since its bytes are the same, and what follows reads it where it is."""

    def critic(data, *words):
        return swgctl("critic", data, "--env", "Pendulum-v1", "--recipe", chain.recipe, *words, "--json")

    data = pendulum("mine", 5)
    made = critic(data).json
    elsewhere = tmp_path / "elsewhere" / data.name
    elsewhere.parent.mkdir()
    data.rename(elsewhere)
    augment = ("augment", "--from", made["path"], "--weight", "exponential")
    lost = swgctl(*augment)
    lost.refused(3, f"{data}: no such file")
    assert lost.helps == ["swgctl plan FILE --env ENV_ID   # where it is now; then this again"]
    assert swgctl("plan", elsewhere, "--env", "Pendulum-v1", "--recipe", chain.recipe).code == 0
    assert swgctl(*augment, "--json").json["status"] == "built"
    assert critic(elsewhere).json["status"] == "cached"
    data.write_bytes(b"another file by now")
    assert swgctl(*augment, "--set", "augment.beta=2", "--json").json["status"] == "built"
    elsewhere.write_bytes(b"and this one is not it either")
    swgctl(*augment, "--set", "augment.beta=4").refused(3, "has changed since a critic learnt from it")


def test_a_file_that_changes_after_its_checksum_was_taken_is_not_learnt_from(chain, pendulum, tmp_path):
    """As while another process has the lock of its key."""
    data, build = pendulum("mine", 5), Store.build

    def later(self, *args, **options):
        data.write_bytes(pendulum("other", 6).read_bytes())
        return build(self, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "build", later)
        answer = swgctl("critic", data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--store", tmp_path / "new")
    answer.refused(3, f"{data} was changed")
    assert published(tmp_path / "new") == []


# -- lineages ----------------------------------------------------------------------------------------------------------


def test_of_two_critics_the_nearer_has_the_stages_name_and_the_other_its_way(chain):
    other = chain.critic("--tau", "0.9").path
    evaluation = Artifact(swgctl("eval", "--recipe", chain.recipe, "--resample", "2", "--critic", other).path)
    named = {name: artifact.path for name, artifact in evaluation.ancestors().items()}
    assert named == {
        "eval": evaluation.path,
        "augment": chain.made("augment"),
        "critic": other,
        "diffuse": chain.made("diffuse"),
        "augment/critic": named["augment/critic"],
    }
    own = json.loads((named["augment/critic"] / "artifact.json").read_text())
    assert own["params"]["tau"] == 0.7


def test_one_artifact_by_two_ways_is_one(chain):
    evaluation = Artifact(swgctl("eval", "--recipe", chain.recipe, "--resample", "2").path)
    assert evaluation.ancestors().keys() == {"eval", "augment", "critic", "diffuse"}
