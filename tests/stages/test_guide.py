"""behaviour, candidates, guide and the evaluation of guides, from the command line."""

import json
import re

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import swgctl

from swgctl.config import GUIDE, GuideSettings, methods
from swgctl.evaluation.groups import gather
from swgctl.models import Critic, reset
from swgctl.policies.loading import LogWeight, load_critic, weigher
from swgctl.stages.guide import prepare
from swgctl.store import Artifact
from swgctl.tasks import Task
from swgctl.training import execution
from swgctl.training.execution import products

LEARNT = [name for name, row in methods().items() if row.takes == "energy"]
GUIDES = [name for name, row in methods().items() if "guide" in row.stages]
LIKE = ("mse", "emse")  # their guides are built as ddice's


def each(names):
    """Parameters of a test, of which those that are like another one are slow."""
    return [pytest.param(name, marks=pytest.mark.slow) if name in LIKE else name for name in names]


def ask(chain, *words):
    return swgctl(*words, "--recipe", chain.recipe)


def guide(chain, method, *more):
    """A guide on the joint policy, of the chain's critic."""
    if method == "cep":
        more = ("--candidates", ask(chain, "candidates", "--from", chain.made("diffuse")).path, *more)
    return ask(chain, "guide", method, "--from", chain.made("diffuse"), *more).path


def tensors(path):
    return load_file(path / "energy.safetensors")


# -- chains ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", each(GUIDES))
def test_run_builds_the_whole_chain_of_a_method(chain, method):
    """On the plain behaviour model, and on the chain's critic; the second time nothing is built."""
    scales = ("--rho", "0" if method == "resample" else "0,1")
    evaluation = Artifact(chain.run("--method", method, *scales).path)
    assert chain.run("--method", method, *scales, "--json").json["status"] == "cached"
    lineage = evaluation.ancestors()
    assert {*lineage} == {*methods()[method].stages}
    assert lineage["critic"].path == chain.made("critic")
    assert lineage["guide"].params["method"] == method
    assert list(evaluation.meta["inputs"]) == ["guide"]
    again = swgctl("eval", "--from", lineage["guide"].path, "--recipe", chain.recipe, *scales, "--json").json
    assert (again["status"], again["key"]) == ("cached", evaluation.key)


@pytest.mark.parametrize("method", each(LEARNT))
def test_a_guide_on_a_joint_policy_is_of_its_critic_and_its_weight(chain, method):
    path = guide(chain, method)
    artifact, joint = Artifact(path), Artifact(chain.made("augment"))
    assert artifact.parent("diffuse").path == chain.made("diffuse")
    assert artifact.parent("critic").path == chain.made("critic")
    assert {name: artifact.params[name] for name in joint.params} == joint.params
    saved = tensors(path)
    assert {name.partition(".")[0] for name in saved} - {"ema", "raw"} == (
        {"posterior", "variance"} if method == "aepo" else set()
    )
    assert saved["ema.entry.weight"].shape[:1] == (1,)
    cells = ask(chain, "eval", "--from", path, "--json").json["metrics"]["cells"]
    assert [(cell["rho"], cell["guidance"]) for cell in cells] == [(0.0, "none"), (1.0, method)]
    assert "clamped_share" not in cells[0]  # SWG's alone


def test_the_posterior_table_is_within_what_the_data_allows(chain):
    saved = tensors(guide(chain, "aepo"))
    assert saved["posterior"].shape == (1, 3, 3)
    assert saved["variance"].shape == (1, 3)
    with h5py.File(chain.data) as file:
        most = float(np.asarray(file["actions"]).var(0).mean())
    assert 0 <= saved["variance"].min() <= saved["variance"].max() <= most * 1.001


@pytest.mark.parametrize("method", GUIDES)
def test_a_key_has_the_options_that_the_method_reads_and_no_other(chain, method):
    inputs = {"diffuse": Artifact(chain.made("diffuse")), "critic": Artifact(chain.made("critic"))}
    if method == "cep":
        inputs["candidates"] = Artifact(ask(chain, "candidates", "--from", chain.made("diffuse")).path)
    task = Task.from_json(inputs["diffuse"].meta["task"])

    def job(**changes):
        return prepare(task, GuideSettings(method=method, **changes), [0], inputs)

    usual = job()
    for name, value in {"noises": 2, "normalise": "none", "curvature": "secant", "batch": 16, "states": 4}.items():
        assert (job(**{name: value}).key != usual.key) == (name in usual.params)
    if methods()[method].takes != "line":  # of which the denoiser has one
        assert job(weight="exponential").key != usual.key


def test_a_plain_denoiser_has_the_exponential_weight_unless_another_is_named(chain):
    plain = ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1").path
    for more, weight in (((), "exponential"), (("--weight", "expectile"), "expectile")):
        path = ask(chain, "guide", "dps", "--from", plain, "--critic", chain.made("critic"), *more).path
        assert Artifact(path).params["weight"] == weight


def test_without_a_critic_in_its_lineage_the_critic_of_this_shell_is_taken_and_named(chain):
    ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1")
    answer = ask(chain, "guide", "mse")
    assert Artifact(answer.path).parent("critic").path == chain.made("critic")
    assert re.search(r"guide: critic \w{16} \(pendulum\), the only one that fits", answer.err)


def test_log_w_is_the_logarithm_of_the_weights_of_the_data(chain):
    augmented = Artifact(chain.made("augment"))
    with h5py.File(augmented.file("data.hdf5")) as file:
        observations, actions, weights = (
            torch.from_numpy(file[name][()]) for name in ("observations", "actions", "weights")
        )
    log_weight = LogWeight(load_critic(augmented.parent("critic"), "cpu"), weigher(augmented.params))
    torch.testing.assert_close(log_weight(observations[None], actions[None]).exp(), weights, rtol=1e-5, atol=1e-6)


def test_the_gradient_of_log_w_is_that_of_exact_products_whatever_the_caller_rounds(monkeypatch):
    critic, source = Critic(1, 3, 2, [64, 64]), torch.Generator().manual_seed(0)
    reset(critic, [source])
    log_weight = LogWeight(critic.requires_grad_(False), torch.sigmoid)
    observations, actions = (torch.randn(1, 64, n, generator=source) for n in (3, 2))

    def both():
        a = actions.clone().requires_grad_()
        log_w = log_weight(observations, a)
        return log_w.detach(), *torch.autograd.grad(log_w.square().sum(), a)

    exact = both()
    monkeypatch.setattr(execution, "_has_bf16_factors", lambda: True)
    with products("bf16"):
        for rounded, wanted in zip(both(), exact, strict=True):
            assert torch.equal(rounded, wanted)
    a = actions.clone().requires_grad_()
    q, v = critic.value(observations, a)
    log_w = torch.sigmoid(q - v).log()
    torch.testing.assert_close(exact[0], log_w)
    torch.testing.assert_close(exact[1], *torch.autograd.grad(log_w.square().sum(), a))


# -- calibration -------------------------------------------------------------------------------------------------------


def test_a_calibration_has_a_line_for_each_step_and_guides_by_it(chain):
    answer = ask(chain, "guide", "calibrated", "--from", chain.made("diffuse"), "--json").json
    saved = load_file(f"{answer['path']}/calibration.safetensors")
    assert {name: tuple(value.shape) for name, value in saved.items()} == {"intercept": (1, 3), "slope": (1, 3)}
    assert saved["slope"].min() >= 0
    calibration = answer["metrics"]["calibration"]
    assert {name: len(values) for name, values in calibration.items()} == {"slope": 3, "correlation": 3}
    shown = swgctl("show", answer["path"]).err
    for k, (slope, correlation) in enumerate(zip(saved["slope"][0].tolist(), calibration["correlation"], strict=True)):
        assert re.search(rf"\b{k} +│ +{slope:.3f} │ +{correlation:.3f}", shown)
    cells = {}
    for name, source in (("calibrated", answer["path"]), ("swg", chain.made("diffuse"))):
        made = ask(chain, "eval", "--from", source, "--rho", "5", "--resample", "1", "--json").json
        (cells[name],) = made["metrics"]["cells"]
    assert cells["calibrated"]["guidance"] == "calibrated"
    assert cells["calibrated"]["return_mean"] != cells["swg"]["return_mean"]
    assert "clamped_share" in cells["calibrated"]


def test_what_cannot_be_calibrated_is_refused(chain):
    plain = ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1").path
    named = ("--critic", chain.made("critic"))
    ask(chain, "guide", "calibrated", "--from", plain, *named).refused(
        2, "a joint policy predicts", "a behaviour model"
    )
    answer = ask(chain, "guide", "calibrated", "--from", chain.made("diffuse"), "--weight", "exponential")
    answer.refused(2, "has learnt, expectile")


def test_guidance_in_the_last_steps_alone_is_another_evaluation(chain):
    def evaluated(*more):
        words = ("eval", "--from", chain.made("diffuse"), "--rho", "5", "--resample", "1")
        return ask(chain, *words, *more, "--json").json

    usual, all_steps, last = evaluated(), evaluated("--set", "eval.kmax=3"), evaluated("--set", "eval.kmax=1")
    assert len({usual["key"], all_steps["key"], last["key"]}) == 3
    returns = [one["metrics"]["cells"][0]["return_mean"] for one in (usual, all_steps, last)]
    assert returns[0] == returns[1] != returns[2]  # the policy has three steps


# -- behaviour and candidates ------------------------------------------------------------------------------------------


def test_a_behaviour_model_descends_from_no_critic_and_is_evaluated_unguided(chain):
    path = ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1").path
    assert Artifact(path).meta["inputs"] == {}
    saved = load_file(path / "policy.safetensors")
    assert "weight_range" not in saved
    assert saved["ema.action_out.weight"].shape[-1] == 1
    (cell,) = ask(chain, "eval", "--from", path, "--rho", "0", "--json").json["metrics"]["cells"]
    assert cell["seeds"] == 1
    error = ask(chain, "eval", "--from", path).error
    assert "plain behaviour model" in error


def test_candidates_are_actions_at_states_of_the_data(chain):
    path = ask(chain, "candidates", "--from", chain.made("diffuse")).path
    with h5py.File(path / "candidates.hdf5") as file:
        rows, z = file["rows"][()], file["z"][()]
    assert z.shape == (1, 50, 4, 2)
    assert (np.diff(rows) > 0).all()
    assert np.abs(z[..., 0]).max() <= 1
    assert len(np.unique(z[..., 0])) > 90  # the others at the bounds
    other = ask(chain, "candidates", "--from", chain.made("diffuse"), "--of", "next").path
    with h5py.File(other / "candidates.hdf5") as file:
        assert (file["rows"][()] == rows).all()
        assert not np.array_equal(file["z"][()], z)
    assert swgctl("verify", path).code == swgctl("verify", other).code == 0


def test_a_members_candidates_are_those_that_it_draws_alone(tmp_path, chain, pendulum):
    data = pendulum("other", 3)

    def drawn(seeds):
        denoiser = ask(chain, "behaviour", data, "--env", "Pendulum-v1", "--seeds", seeds).path
        with h5py.File(ask(chain, "candidates", "--from", denoiser).path / "candidates.hdf5") as file:
            return file["z"][()]

    np.testing.assert_allclose(drawn("0-1")[1:], drawn("1"), atol=2e-4)


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_candidates_of_another_denoiser_are_refused(chain):
    plain = ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1").path
    candidates = ask(chain, "candidates", "--from", plain).path
    answer = ask(chain, "guide", "cep", "--from", chain.made("diffuse"), "--candidates", candidates)
    assert "drawn from behaviour" in answer.error
    assert answer.code == 3
    assert answer.helps == [f"swgctl candidates --from {Artifact(chain.made('diffuse')).id}"]
    following = ask(chain, "candidates", "--from", plain, "--of", "next").path
    critic = ("--critic", chain.made("critic"))
    assert "of next states" in ask(chain, "guide", "cep", "--from", plain, "--candidates", following, *critic).error


def test_a_critic_of_other_seeds_or_other_data_is_refused(chain, pendulum):
    seeds = chain.critic("--seeds", "1").path
    other = ask(chain, "critic", pendulum("other", 1), "--env", "Pendulum-v1").path
    joint = ("--from", chain.made("diffuse"))
    assert "of the seeds 1, the policy" in ask(chain, "guide", "mse", *joint, "--critic", seeds).error
    assert "of the task other" in ask(chain, "guide", "mse", *joint, "--critic", other).error


def test_a_guide_needs_a_critic_and_cep_candidates(tmp_path, chain, pendulum):
    store = ("--store", tmp_path / "empty")
    ask(chain, "behaviour", pendulum("other", 1), "--env", "Pendulum-v1", *store)
    answer = ask(chain, "guide", "mse", *store)
    assert answer.code == 3
    assert "needs a critic of other" in answer.error
    assert "needs a set of candidates" in ask(chain, "guide", "cep", "--from", chain.made("diffuse")).error


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--select", "sample"), "draws one of several candidates"),
        (("--method", "mse"), "guides by dps"),
        (("--set", "eval.nfe=4"), "at most 3"),
        (("--sampler", "dpm-solver-2s", "--set", "eval.nfe=3"), "at most 2"),
    ],
)
def test_settings_that_do_not_fit_a_guide_are_refused(chain, words, says):
    answer = ask(chain, "eval", "--from", guide(chain, "dps"), *words)
    assert answer.code == 2
    assert says in answer.error


@pytest.mark.parametrize(
    ("method", "words", "flag"),
    [
        ("dps", ("--steps", "5"), "--steps"),
        ("cep", ("--batch", "7"), "--batch"),
        ("mse", ("--set", "guide.states=7"), "--set guide.states"),
    ],
)
def test_what_a_method_does_not_read_is_refused(chain, method, words, flag):
    answer = ask(chain, "guide", method, "--from", chain.made("diffuse"), "--critic", chain.made("critic"), *words)
    if method == "cep":
        drawn = ask(chain, "candidates", "--from", chain.made("diffuse")).path
        words += ("--from", f"diffuse={chain.made('diffuse')}", "--from", f"candidates={drawn}")
        answer = ask(chain, "guide", method, *words)
    answer.refused(2, f"guide by {method} reads no setting")
    assert answer.helps == [f"leave out {flag}"]


def test_what_a_plain_model_lacks_is_named(chain):
    plain = ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1").path
    several = ("--rho", "0", "--resample", "4", "--critic", chain.made("critic"))
    assert "own weight" in ask(chain, "eval", "--from", plain, "--select", "self", *several[:4]).error
    answer = ask(chain, "eval", "--from", plain, "--select", "sample", *several)
    assert answer.helps == [f"swgctl guide resample --from {Artifact(plain).id}"]
    assert ask(chain, "eval", "--from", plain, *several).code == 0
    assert "dps needs a guide" in ask(chain, "eval", "--from", chain.made("diffuse"), "--method", "dps").error


def test_an_unknown_method_is_refused_with_the_nearest(chain):
    answer = ask(chain, "guide", "ddize", "--from", chain.made("diffuse"))
    assert answer.code == 2
    assert "ddice" in answer.error
    assert "must be one of" in ask(chain, "guide", "swg", "--from", chain.made("diffuse")).error


def test_resampling_alone_has_no_scale(chain):
    assert "nothing guides it" in chain.run("--method", "resample", "--rho", "0,1").error


# -- evaluation --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_choice_among_candidates_runs(chain):
    path = guide(chain, "mse")
    returns = {}
    for words in (("--select", "critic"), ("--select", "sample"), ("--select", "self"), ("--rescale",)):
        many = () if words == ("--rescale",) else ("--resample", "4")
        (cell,) = ask(chain, "eval", "--from", path, "--rho", "1", *many, *words, "--json").json["metrics"]["cells"]
        returns[words] = cell["return_mean"]
    assert len(set(returns.values())) == 4
    summary = json.loads((ask(chain, "eval", "--from", path, "--rho", "1").path / "summary.json").read_text())
    assert summary["cells"][0]["rho"] == 1


def test_a_report_names_each_method_and_keeps_their_groups_apart(chain):
    for method in ("mse", "dps"):
        ask(chain, "eval", "--from", guide(chain, method))
    rows = json.loads(swgctl("report", "--format", "json").out)["rows"]
    policies = {row["policy"] for row in rows if row["row"] == "cell"}
    assert {row["guidance"] for row in rows if row["row"] == "cell"} == {"none", "swg", "mse", "dps"}
    assert {"SWG", "DPS", "Diffuser (MSE)", "behaviour model"} <= policies
    assert len({row["group"] for row in rows if row["row"] == "cell"}) == 3


def test_the_stage_table_names_the_role_that_is_filled():
    assert GUIDE.filled({"critic": 1, "behaviour": 2}) == "behaviour"
    assert GUIDE.filled({"critic": 1}) is None


@pytest.mark.slow
def test_the_papers_own_discretisation_runs_from_end_to_end(chain):
    """1,000 steps, of which the walk visits 15."""
    tiny = {"critic.steps": 20, "critic.hidden": "[8]", "behaviour.steps": 10, "behaviour.batch": 16}
    tiny |= {"behaviour.width": 8, "guide.steps": 10, "guide.hidden": "[8]", "guide.moments": 256, "eval.episodes": 1}
    words = [word for name, value in tiny.items() for word in ("--set", f"{name}={value}")]
    data = ("run", chain.data, "--env", "Pendulum-v1", "--recipe", "aepo")
    evaluation = Artifact(swgctl(*data, *words, "--rho", "0,2").path)
    lineage = evaluation.ancestors()
    assert (lineage["behaviour"].params["K"], lineage["guide"].params["method"]) == (1000, "aepo")
    assert tensors(lineage["guide"].path)["posterior"].shape == (1, 3, 1000)
    assert (evaluation.params["nfe"], evaluation.params["rescale"]) == (15, True)
    assert [cell["policy"] for cell in gather([evaluation])[0].cells] == ["behaviour model", "AEPO"]


def test_a_record_has_the_products_that_ran(chain):
    """A calibration's are fp32, whatever `guide.precision` says, which it does not read."""
    made = Artifact(guide(chain, "calibrated")).meta["made"]
    assert (made["precision"], made["mode"]) == ("fp32", "eager")
    joint = Artifact(chain.made("diffuse"))
    assert joint.meta["made"]["precision"] == execution.effective(joint.params.get("precision", "fp32"), "cpu")


def test_an_option_of_another_guidance_is_refused(chain):
    answer = ask(chain, "eval", "--from", guide(chain, "ddice"), "--set", "eval.w_min=0.1")
    answer.refused(2, "eval of guide reads no setting 'w_min'")
