"""The commands of synthetic data: whole chains, and bad input with one line that says what and one that helps."""

import shutil

import pytest
from support.harness import published, swgctl, write_pendulum

from swgctl.config import methods
from swgctl.store import Artifact

pytest_plugins = "support.synthetic"
pytestmark = pytest.mark.training


@pytest.fixture
def refusal(made, tmp_path):
    """refusal(*words) -> the answer to a command that is refused before anything is built.

    "@name", also after ROLE=, is an artifact.
    """

    def ask(*words):
        parts = [str(word).rpartition("@") for word in words]
        answer = made.ask(*(f"{before}{made(name).path}" if at else name for before, at, name in parts))
        assert answer.code in (2, 3), answer.err
        assert answer.error
        assert len(answer.helps) == 1, answer.err
        assert published(tmp_path / "store") == []
        return answer

    return ask


# -- chains ------------------------------------------------------------------------------------------------------------


def test_run_builds_a_trajectory_model_an_agent_and_its_evaluation(made):
    words = ("run", *made.task, "--method", "pgd")
    evaluation = Artifact(made.ask(*words).path)
    lineage = evaluation.ancestors()
    assert {*lineage} == {*methods()["pgd"].stages}
    assert (lineage["agent"].params["algo"], lineage["agent"].params["scale"]) == ("td3bc", 1)
    again = made.ask(*words, "--json").json
    assert (again["status"], again["key"]) == ("cached", evaluation.key)


def test_a_run_can_end_with_the_agent_and_stages_one_by_one_are_the_same(made):
    words = ("run", *made.task, "--method", "pgd", "--seeds", "0-2")
    agent = Artifact(made.ask(*words, "--until", "agent", "--set", "agent.algo=iql", "--set", "agent.epochs=4").path)
    assert agent.stage == "agent"
    assert agent.parent("trajectories").key == made("trajectories").key
    alone = made.ask("agent", "--from", agent.parent("trajectories").path, "--algo", "iql", "--epochs", 4, "--json")
    assert (alone.json["status"], alone.json["key"]) == ("cached", agent.key)
    assert made.ask("run", *made.task, "--method", "pgd", "--until", "critic").code == 2


def test_each_stage_takes_what_this_shell_made_last(made):
    """trajectories, synth, agent, eval without a --from."""
    made.ask("trajectories", *made.task)
    unguided = Artifact(made.ask("synth", "--lambda", 0).path)
    agent = Artifact(made.ask("agent").path)
    assert agent.parent("synth").path == unguided.path
    guided = Artifact(made.ask("synth", "--from", unguided.parent("trajectories").path).path)
    assert guided.parent("agent").path == agent.path
    assert Artifact(made.ask("eval", "--from", agent.path).path).parent("agent").path == agent.path


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_setting_that_is_not_read_is_named_as_it_was_given(made):
    for given, named in ((("--lambda", 1), "--lambda"), (("--set", "agent.scale=1"), "--set agent.scale")):
        answer = swgctl("agent", made.data, "--env", "Pendulum-v1", "--recipe", made.recipe, *given)
        answer.refused(2, "reads no setting 'scale'")
        assert answer.helps == [f"leave out {named}"]


def test_guidance_without_an_agent_is_refused(refusal, made):
    answer = refusal("synth", "--from", "@trajectories", "--lambda", 1)
    answer.refused(3, "synth needs an agent of pendulum")
    assert answer.helps[0].startswith(f"swgctl agent {made.data} --env Pendulum-v1")
    refusal("synth", "--from", "@dynamics").refused(3, "synth needs an agent of pendulum")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("eval", "--from", "@diffuse", "--method", "pgd"), (2, "--method pgd evaluates an agent")),
        (("eval", "--from", "@td3bc", "--method", "cep"), (2, "an agent, which nothing guides")),
        (("eval", "--from", "agent=@diffuse"), (3, "takes an agent for its role agent")),
        (("eval", "--from", "behaviour=@td3bc"), (3, "takes a behaviour model for its role behaviour")),
        (("agent", "--from", "synth=@trajectories"), (3, "for its role synth")),
        (("agent", "--from", "trajectories=@unguided"), (3, "for its role trajectories")),
        (("synth", "--from", "dynamics=@trajectories", "--lambda", 0), (3, "for its role dynamics")),
    ],
)
def test_a_model_in_anothers_place_is_refused(words, said, refusal):
    refusal(*words).refused(*said)


def test_real_rows_are_of_the_data_that_the_model_imitates(made, tmp_path):
    data = tmp_path / "rows.hdf5"
    shutil.copy(made.data, data)
    model = made.ask("trajectories", data, "--env", "Pendulum-v1").path
    synthetic = made.ask("synth", "--from", model, "--lambda", 0).path
    write_pendulum(data, seed=1)
    for source in (model, synthetic):
        answer = made.ask("agent", "--from", source, "--real", 8)
        answer.refused(3, f"{data} has changed since a trajectory model learnt from it")
        assert answer.helps == [f"swgctl trajectories {data} --env Pendulum-v1"]


def test_a_set_named_twice_is_one(made):
    one = ("--from", made("unguided").path)
    assert made.ask("agent", *one, *one, "--json").json["key"] == made.ask("agent", *one, "--json").json["key"]


def test_an_agent_of_other_seeds_is_refused(refusal, made):
    two = made("td3bc", "0-1")
    answer = refusal("synth", "--from", "@trajectories", "--agent", two.path)
    answer.refused(3, two.id, "has the seeds 0-1", "0-2")
    assert "of one seed, which guides all" in answer.helps[0]
    refusal("synth", "--from", "@dynamics", "--agent", two.path).refused(3, "has the seeds 0-1")


@pytest.fixture
def elsewhere(made, tmp_path, pendulum):
    """An agent of the same widths that acts in another environment."""
    import gymnasium

    if "support/Pendulum-v0" not in gymnasium.registry:
        entry = "gymnasium.envs.classic_control:PendulumEnv"
        gymnasium.register("support/Pendulum-v0", entry_point=entry, max_episode_steps=200)
    words = ("--env", "support/Pendulum-v0", "--seeds", "0-2", "--store", tmp_path / "other")
    return Artifact(made.ask("agent", pendulum("elsewhere"), *words).path)


def test_an_agent_of_another_environment_is_refused(refusal, made, elsewhere):
    answer = refusal("synth", "--from", "@trajectories", "--agent", elsewhere.path)
    answer.refused(3, "acts in support/Pendulum-v0", "Pendulum-v1")
    assert answer.helps == [f"swgctl agent --from {made('trajectories').id}"]


def test_sets_of_two_environments_make_no_mixture(made, elsewhere, tmp_path):
    words = ("--env", "support/Pendulum-v0", "--seeds", "0-2", "--store", tmp_path / "other")
    model = made.ask("trajectories", tmp_path / "elsewhere.hdf5", *words).path
    other = made.ask("synth", "--from", model, "--lambda", 0, "--store", tmp_path / "other").path
    answer = made.ask("agent", "--from", made("unguided").path, "--from", other)
    answer.refused(3, "acts in support/Pendulum-v0, not Pendulum-v1")
    assert len(answer.helps) == 1


def test_sets_of_other_seeds_make_no_mixture(refusal, made):
    answer = refusal("agent", "--from", "@unguided", "--from", made("unguided", "1").path)
    answer.refused(3, "has the seeds 1", "of the same seeds")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("agent", "--from", "@unguided", "--real", 64), 2, "must be at most agent.batch = 32"),
        (("agent", "--from", "@trajectories", "--epochs", 3), 2, "agent.epochs = 3 does not divide agent.steps = 40"),
        (("agent", "--from", "@trajectories", "--set", "agent.keep=3"), 2, "agent.keep = 3 is above agent.epochs = 2"),
        (("agent", "--from", "@unguided", "--epochs", 2), 2, "agent of synth reads no setting 'epochs'"),
        (("agent", "--from", "@unguided", "--lambda", 1), 2, "agent of synth reads no setting 'scale'"),
        (("agent", "demo", "--lambda", 1), 2, "agent of a task reads no setting 'scale'"),
        (("agent", "demo", "--real", 8), 2, "agent of a task reads no setting 'real'"),
        (("agent", "--from", "@trajectories", "--from", "@trajectories"), 2, "takes several of"),
        (("agent", "--from", "@unguided", "--from", "@trajectories"), 2, "takes several of"),
        (("agent", "--from", "@unguided", "--algo", "sac"), 2, "must be 'td3bc' or 'iql'"),
        (("agent", "--from", "@unguided", "--seeds", "0"), 2, "agent takes the seeds of its input, 0-2"),
        (("agent", "--from", "@dynamics"), 3, "starts from a synthetic data set or a trajectory model"),
        (("agent", "--from", "@td3bc"), 3, "starts from a synthetic data set or a trajectory model"),
        (("synth", "--from", "@dynamics", "--agent", "@iql", "--lambda", 1), 2, "reads no setting 'scale'"),
        (("synth", "--from", "@trajectories", "--lambda", "-1"), 2, "synth.scale"),
        (("synth", "--from", "@trajectories", "--lambda", "nan"), 2, "synth.scale"),
        (("synth", "--from", "@trajectories", "--guidance", "gradient"), 2, "must be 'shift' or 'posterior'"),
        (
            ("synth", "--from", "@trajectories", "--from", "@trajectories"),
            2,
            "synth takes one trajectories or dynamics",
        ),
        (("synth", "--from", "@unguided"), 3, "starts from a trajectory model or a dynamics model"),
        (("critic", "--from", "@unguided", "--seeds", "0"), 2, "critic takes the seeds of its input, 0-2"),
        (("critic", "--from", "@trajectories"), 3, "starts from a synthetic data set"),
    ],
)
def test_settings_and_inputs_that_do_not_fit_are_refused(words, code, says, refusal):
    refusal(*words).refused(code, says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("guide", "mse", "--from", "@td3bc"), "starts from"),
        (("candidates", "--from", "@td3bc"), "starts from"),
        (("synth", "--from", "@trajectories", "--agent", "@diffuse"), "takes an agent for its role agent"),
        (("synth", "--from", "@trajectories", "--agent", "@shift"), "takes an agent for its role agent"),
        (("eval", "--from", "@trajectories"), "starts from"),
        (("eval", "--from", "@unguided"), "starts from"),
    ],
)
def test_an_agent_is_no_diffusion_policy_and_a_policy_no_agent(words, says, refusal):
    refusal(*words).refused(3, says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--rho", 5), "eval of agent reads no setting 'rho'"),
        (("--resample", 4), "eval of agent reads no setting 'resample'"),
        (("--temperature", 1), "eval of agent reads no setting 'temperature'"),
        (("--critic", "@critic"), "an agent has one action"),
    ],
)
def test_an_agent_has_no_scale_and_no_candidates(words, says, refusal):
    refusal("eval", "--from", "@td3bc", *words).refused(2, says)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--rho", 1), "eval of agent reads no setting 'rho'"),
        (("--weight", "expectile"), "no stage of pgd reads the setting 'weight'"),
        (("--resample", 4), "eval of agent reads no setting 'resample'"),
        (("--set", "agent.epochs=3"), "does not divide"),
        (("--set", "agent.keep=3"), "is above"),
        (("--until", "critic"), "a run has the stages trajectories, agent, eval"),
    ],
)
def test_a_run_of_pgd_refuses_what_it_does_not_read(words, says, refusal):
    refusal("run", "demo", "--method", "pgd", *words).refused(2, says)
