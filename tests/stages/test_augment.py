"""Candidates beside the rows of an augmented data set, and the policies that learn from both, from the command line."""

import json

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import swgctl

from swgctl.config import AugmentSettings
from swgctl.evaluation.diagnosis import Diagnosis
from swgctl.policies.loading import LogWeight, load_critic, load_denoiser, weigher, weight_lines
from swgctl.stages.augment import prepare
from swgctl.store import Artifact
from swgctl.tasks import Task


def ask(chain, *words):
    return swgctl(*words, "--recipe", chain.recipe)


def usual(chain, built, stage):
    """The chain's own artifact of a stage, beside which there are others by now."""
    return chain.store / built.made(stage).relative_to(built.store)


@pytest.fixture
def candidates(chain):
    return ask(chain, "candidates", "--from", chain.made("diffuse")).path


@pytest.fixture
def mixed(chain, candidates):
    """Half of a batch are candidates."""
    words = ("--from", chain.made("critic"), "--candidates", candidates, "--share", "0.5")
    return ask(chain, "augment", *words).path


def arrays(path, *names):
    with h5py.File(path / "data.hdf5") as file:
        return [file[name][()] for name in names]


# -- what is written ---------------------------------------------------------------------------------------------------


def test_candidates_have_the_weight_of_their_critic_computed_the_other_way(chain, candidates, mixed):
    rows, actions, weights, advantages = arrays(
        mixed, *(f"candidates/{name}" for name in ("rows", "actions", "weights", "advantages"))
    )
    with h5py.File(candidates / "candidates.hdf5") as file:
        assert np.array_equal(rows, file["rows"][()])
        assert np.array_equal(actions, file["z"][..., :1])
    (observations,) = arrays(mixed, "observations")
    log_weight = LogWeight(load_critic(Artifact(chain.made("critic")), "cpu"), weigher(Artifact(mixed).params))
    for i in range(actions.shape[2]):
        states, one = torch.from_numpy(observations[rows])[None], torch.from_numpy(actions[:, :, i])
        torch.testing.assert_close(
            log_weight(states, one).exp(), torch.from_numpy(weights[:, :, i]), rtol=1e-5, atol=1e-6
        )
    assert (np.sign(weights - 0.5) == np.sign(advantages)).all()  # the expectile weight's


def test_the_datas_own_arrays_and_the_key_without_a_share_stay_as_they_are(chain, built, mixed):
    plain = usual(chain, built, "augment")
    names = ("observations", "actions", "weights", "q", "v", "advantages")
    for ours, theirs in zip(arrays(mixed, *names), arrays(plain, *names), strict=True):
        assert np.array_equal(ours, theirs)
    again = ask(chain, "augment", "--from", chain.made("critic"), "--share", "0", "--json").json
    assert (again["status"], again["path"]) == ("cached", str(plain))


def test_the_record_says_how_many_there_are_and_whose(chain, candidates, mixed):
    record = Artifact(mixed)
    assert record.params["share"] == 0.5
    assert record.meta["inputs"]["candidates"]["digest"] == Artifact(candidates).digest
    of_candidates = record.meta["metrics"]["candidates"]
    assert (of_candidates["states"], of_candidates["each"]) == (50, 4)
    assert of_candidates["mean"] == pytest.approx(arrays(mixed, "candidates/weights")[0].mean(), abs=1e-6)
    shown = swgctl("show", mixed).err
    assert "candidates/weights           float32 (1, 50, 4)" in shown
    assert swgctl("tree", mixed).err.splitlines()[0].startswith("augment")
    assert str(candidates) in swgctl("tree", mixed).lines
    picture = swgctl("plot", "weights", mixed).path
    with open(f"{picture}.csv") as file:
        assert {line.rpartition(",")[2].strip() for line in file} == {"of", "data", "candidates"}
    assert swgctl("verify", mixed).code == 0


def test_candidates_of_a_behaviour_model_serve_as_well(chain):
    plain = ask(chain, "behaviour", chain.data, "--env", "Pendulum-v1").path
    drawn = ask(chain, "candidates", "--from", plain).path
    words = ("augment", "--from", chain.made("critic"), "--candidates", drawn, "--share", "0.25")
    assert Artifact(ask(chain, *words).path).params["share"] == 0.25


# -- what learns from it -----------------------------------------------------------------------------------------------


def test_a_policy_learns_from_both_guides_itself_and_is_diagnosed(chain, built, mixed):
    policy, plain = ask(chain, "diffuse", "--from", mixed).path, usual(chain, built, "diffuse")
    before = load_file(plain / "policy.safetensors")
    learnt = load_file(policy / "policy.safetensors")
    assert not torch.equal(learnt["raw.entry.weight"], before["raw.entry.weight"])
    seen = np.concatenate([part.ravel() for part in arrays(mixed, "weights", "candidates/weights")])
    assert learnt["weight_range"].tolist() == [[seen.min(), seen.max()]]
    knowledge = Diagnosis(Artifact(policy)).knowledge()
    prefixes = ("", "within_", "seen_")
    assert knowledge.keys() == {f"{prefix}{name}" for prefix in prefixes for name in ("slope", "correlation")}


@pytest.mark.slow
def test_a_report_tells_a_policy_of_candidates_from_one_without(chain, built, mixed):
    policy, plain = ask(chain, "diffuse", "--from", mixed).path, usual(chain, built, "diffuse")
    for source in (policy, plain):
        words = ("eval", "--from", source, "--rho", "2", "--resample", "2", "--temperature", "1")
        assert len(ask(chain, *words, "--json").json["metrics"]["cells"]) == 1
    report = swgctl("report", "--format", "json").out
    assert "augment.share" in report
    assert "candidates.M" in report


def test_a_standardised_policy_guides_by_the_weight_itself(chain):
    more = ("--set", "diffuse.weight_scale=standard", "--set", "diffuse.weight_form=data")
    policy = Artifact(ask(chain, "diffuse", "--from", chain.made("augment"), *more).path)
    (weights,) = arrays(chain.made("augment"), "weights")
    sampler = load_denoiser(policy, "cpu")
    intercept, slope = weight_lines(sampler, None)
    np.testing.assert_allclose(intercept, np.full((1, 3), weights.mean()), rtol=1e-5)
    np.testing.assert_allclose(slope, np.full((1, 3), weights.std()), rtol=1e-4)
    low, high = (bound[0, 0, -1] for bound in sampler.bounds)
    np.testing.assert_allclose(
        [low, high], [(w - weights.mean()) / weights.std() for w in (weights.min(), weights.max())], rtol=1e-4
    )
    diagnosis = Diagnosis(policy)
    torch.testing.assert_close(torch.cat([diagnosis.channel.offset, diagnosis.channel.factor], 1), sampler.channel)
    guide = Artifact(ask(chain, "guide", "calibrated", "--from", policy.path).path)
    line = load_file(guide.path / "calibration.safetensors")
    offset, factor = weights.mean(), weights.std()
    together = weight_lines(sampler, guide)
    np.testing.assert_allclose(together[0], offset + factor * line["intercept"], rtol=1e-4)
    np.testing.assert_allclose(together[1], factor * line["slope"], rtol=1e-4)
    (cell,) = ask(chain, "eval", "--from", guide.path, "--rho", "5", "--json").json["metrics"]["cells"]
    assert cell["clamped_share"] < 1


def test_an_old_key_has_neither_form_nor_share(chain):
    assert "weight_form" not in Artifact(chain.made("diffuse")).params
    assert "share" not in Artifact(chain.made("augment")).params


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", ["-0.1", "1", "1.5", "nan"])
def test_a_share_outside_its_range_is_refused(chain, share):
    ask(chain, "augment", "--from", chain.made("critic"), "--share", share).refused(2, "augment.share")


def test_candidates_and_a_share_belong_together(chain, candidates):
    critic = chain.made("critic")
    answer = ask(chain, "augment", "--from", critic, "--candidates", candidates)
    answer.refused(2, "have no share")
    assert answer.helps == [
        f"swgctl augment --from {Artifact(critic).id} --candidates {Artifact(candidates).id} --share 0.5"
    ]
    task = Task.from_json(Artifact(critic).meta["task"])
    with pytest.raises(Exception, match="needs candidates"):
        prepare(task, AugmentSettings(share=0.5), [0], {"critic": Artifact(critic)})


def test_a_share_without_any_candidates_is_refused(chain):
    ask(chain, "augment", "--from", chain.made("critic"), "--share", "0.5").refused(3, "needs a set of candidates")
    answer = chain.run("--set", "augment.share=0.5")
    answer.refused(2, "no method's chain")


def test_candidates_of_next_states_are_refused(chain):
    of_next = ask(chain, "candidates", "--from", chain.made("diffuse"), "--of", "next").path
    words = ("augment", "--from", chain.made("critic"), "--candidates", of_next, "--share", "0.5")
    answer = ask(chain, *words)
    answer.refused(3, "of next states")
    assert answer.helps == [f"swgctl candidates --from {Artifact(chain.made('diffuse')).id} --of states"]


@pytest.mark.parametrize(
    ("name", "seed", "seeds", "words"),
    [
        ("other", 0, "0", "of the task other"),
        ("pendulum", 0, "1", "of the seeds 1"),
        ("pendulum", 5, "0", "of data whose sha256"),
    ],
)
def test_candidates_of_another_task_other_seeds_or_other_data_are_refused(chain, pendulum, name, seed, seeds, words):
    data = pendulum(name, seed)
    plain = ask(chain, "behaviour", data, "--env", "Pendulum-v1", "--seeds", seeds).path
    drawn = ask(chain, "candidates", "--from", plain).path
    answer = ask(chain, "augment", "--from", chain.made("critic"), "--candidates", drawn, "--share", "0.5")
    answer.refused(3, words)


def test_candidates_serve_whatever_environment_evaluates_their_data(chain, pendulum):
    """A denoiser's digest does not hold the environment, so that two have the same candidates."""
    drawn = ask(chain, "candidates", "--from", chain.made("diffuse")).path
    critic = ask(chain, "critic", chain.data, "--env", "support.upright:Upright-v0").path
    answer = ask(chain, "augment", "--from", critic, "--candidates", drawn, "--share", "0.5")
    assert answer.code == 0, answer.error


def test_a_batch_too_small_for_the_share_is_refused(chain, candidates):
    words = ("augment", "--from", chain.made("critic"), "--candidates", candidates, "--share", "0.01")
    mixed = ask(chain, *words).path
    answer = ask(chain, "diffuse", "--from", mixed)
    answer.refused(2, "a batch of 32 rows")
    assert answer.helps == [f"swgctl diffuse --from {Artifact(mixed).id} --batch 1024"]


def test_a_clean_weight_needs_a_head(chain):
    more = ("--set", "diffuse.weight_block=0", "--set", "diffuse.weight_form=data")
    ask(chain, "diffuse", "--from", chain.made("augment"), *more).refused(2, "needs a head")


def test_json_has_no_field_of_candidates_where_there_are_none(chain):
    assert "candidates" not in json.loads((chain.made("augment") / "artifact.json").read_text())["metrics"]
