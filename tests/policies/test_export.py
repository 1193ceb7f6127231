"""An exported policy: two files that act as `load_policy` does, without this package."""

import json
import math
import os
import runpy
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gymnasium
import h5py
import numpy as np
import pytest
import torch
from support.exports import export, metadata
from support.harness import swgctl, write_pendulum
from support.policies import propose
from support.records import rewrite

from swgctl import load_policy
from swgctl.diffusion import Schedule, late, rescaled
from swgctl.policies.candidates import Ranking
from swgctl.randomness import generator
from swgctl.tasks import environments

SEEDS, ROWS = [0, 3, 7], 400
OPTIONS = [
    {"rho": 0.0},
    {"rho": 5.0},
    {"rho": 5.0, "temperature": 0.0},
    {"rho": 20.0, "candidates": 4},
    {"rho": 0.0, "candidates": 4, "temperature": 0.5},
]


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory, built):
    """A policy of three seeds for HalfCheetah, of made-up data: 17 observations and 6 actions."""
    folder, random = tmp_path_factory.mktemp("export"), np.random.default_rng(0)
    arrays = {
        "observations": random.normal(1, 2, (ROWS, 17)).astype(np.float32),
        "actions": random.uniform(-1, 1, (ROWS, 6)).astype(np.float32),
    }
    data = write_pendulum(folder / "cheetah.hdf5", **arrays)
    more = ["--set", "diffuse.K=5", "--set", "critic.hidden=[16,8]", "--recipe", built.recipe, "--store", folder / "s"]
    more += ["--set", "diffuse.width=32", "--seeds", "0,3,7", "--until", "diffuse"]
    policy = swgctl("run", data, "--env", "HalfCheetah-v4", *more).path
    return SimpleNamespace(policy=policy, data=data, recipe=built.recipe, store=folder / "s")


def example(directory: Path) -> dict:
    """What is in act.py, run in this process; its `act` has the temperature of `load_policy`'s, where none is given."""
    content = runpy.run_path(str(directory / "act.py"))
    return content | {"act": partial(content["act"], temperature=1.0)}


def noise(seed: int = 1):
    """One source for both."""
    return generator(seed, "noise", 0)


def expected(policy, observations, low, high, **options):
    actions = policy.act(observations, generator=noise(), **options)
    return torch.from_numpy(environments.rescale(actions.numpy(), low, high))


def same(actual, wanted) -> None:
    torch.testing.assert_close(actual, wanted, rtol=0, atol=3e-5)  # of actions as far as 2: float32, in another order


# -- acts as load_policy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS)
def test_the_example_acts_as_the_policy(cheetah, tmp_path, options):
    act = example(export(cheetah.policy, tmp_path / "p"))["act"]
    x, drawn = torch.randn(3, 4, 17, generator=noise(2)), noise()
    actual = act(x, noise=lambda shape: torch.randn(shape, generator=drawn), **options)
    same(actual, expected(load_policy(str(cheetah.policy)), x, -1, 1, **options))
    assert actual.std() > 0.05


def test_the_example_refuses_what_is_no_number_and_candidates_that_are_all_equal(cheetah, tmp_path):
    act = example(export(cheetah.policy, tmp_path / "p"))["act"]
    with pytest.raises(ValueError, match="temperature 0 makes all candidates equal"):
        act(torch.zeros(17), candidates=2, temperature=0)
    for wrong in ({"rho": math.nan}, {"rho": -1}, {"temperature": math.inf}, {"candidates": 0}):
        with pytest.raises(ValueError, match="not a scale"):
            act(torch.zeros(17), **wrong)
    for shape in ((), (16,), (3, 18), (2, 4, 17), (1, 1, 1, 17)):  # of three seeds
        with pytest.raises(ValueError, match=r"\(S, O\) = \(3, 17\), not"):
            act(torch.zeros(shape))
    assert act(torch.zeros(0, 17), candidates=2).shape == (3, 0, 6)


@pytest.mark.parametrize(("method", "rescale"), [("calibrated", False), ("ddice", False), ("aepo", True)])
def test_the_example_acts_as_a_guide_of_a_joint_or_a_plain_denoiser(chain, tmp_path, method, rescale):
    """Its energy is in the export, on a joint denoiser for ddice and on a plain one for aepo."""
    recipe = ("--recipe", chain.recipe)
    if method == "aepo":
        source = swgctl("behaviour", chain.data, "--env", "Pendulum-v1", *recipe).path
    else:
        source = chain.made("diffuse")
    guide = swgctl("guide", method, "--from", source, "--critic", chain.made("critic"), *recipe).path
    more = ["--rescale"] if rescale else ["--set", "eval.kmax=2"]
    settings = ("--rho", "2", "--resample", "1", *more)
    evaluation = swgctl("eval", "--from", guide, *settings, *recipe).path
    act = example(export(evaluation, tmp_path / "p"))["act"]
    x, policy = torch.randn(1, 5, 3, generator=noise(2)), load_policy(guide)
    outer = rescaled if rescale else partial(late, steps=2)
    make = policy.guide
    policy.guide = lambda *cells: (lambda at: lambda x: outer(at(x)))(make(*cells))
    for candidates in (1, 4):
        wanted = expected(policy, x, -2, 2, rho=2.0, candidates=candidates)
        same(act(x, candidates=candidates, noise=partial(torch.randn, generator=noise())), wanted)


def test_the_example_acts_as_a_policy_whose_weight_is_standardised_and_predicted_clean(chain, tmp_path):
    more = ("--set", "diffuse.weight_scale=standard", "--set", "diffuse.weight_form=data", "--recipe", chain.recipe)
    policy = swgctl("diffuse", "--from", chain.made("augment"), *more).path
    act = example(export(policy, tmp_path / "p"))["act"]
    x = torch.randn(1, 5, 3, generator=noise(2))
    for candidates in (1, 4):
        options = {"rho": 2.0, "candidates": candidates}
        drawn = noise()
        actual = act(x, noise=lambda shape, drawn=drawn: torch.randn(shape, generator=drawn), **options)
        same(actual, expected(load_policy(str(policy)), x, -2, 2, **options))


def test_a_behaviour_model_is_exported_without_a_choice_and_dps_is_not(chain, tmp_path):
    plain = swgctl("behaviour", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    act = example(export(plain, tmp_path / "p"))["act"]
    assert act(torch.zeros(3)).shape == (1, 1, 1)
    with pytest.raises(ValueError, match="nothing to rank"):
        act(torch.zeros(3), candidates=2)
    with pytest.raises(ValueError, match="nothing guides"):
        act(torch.zeros(3), rho=5)
    guide = swgctl("guide", "dps", "--from", plain, "--critic", chain.made("critic"), "--recipe", chain.recipe).path
    answer = swgctl("export", guide, "--policy", tmp_path / "q")
    assert answer.code == 3
    assert "asks its critic at every step" in answer.error


@pytest.mark.parametrize(("rho", "tolerance"), [(0.0, 1e-12), (20.0, 2e-7)])  # rho sigma_k is rounded to float32
def test_in_double_precision_they_are_one_computation(cheetah, tmp_path, rho, tolerance):
    found, policy = example(export(cheetah.policy, tmp_path / "p")), load_policy(str(cheetah.policy))
    found["p"].update({name: value.double() for name, value in found["p"].items()})
    policy.sampler.denoiser.double(), policy.ranking.critic.double()
    policy.sampler.bounds = tuple(bound.double() for bound in policy.sampler.bounds)
    x, drawn = torch.randn(3, 4, 17, generator=noise(2)).double(), torch.randn(5, 3, 4, 7, generator=noise(3)).double()
    draws, again = iter(drawn), iter(drawn)
    wanted, _ = propose(policy, x, rho, 1, lambda shape: next(draws))
    actual = found["act"](x, rho, 1, noise=lambda shape: next(again))
    torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)


def test_guidance_and_ranking_change_the_actions(cheetah, tmp_path):
    """Else the comparisons above would say nothing of them."""
    found = example(export(cheetah.policy, tmp_path / "p"))
    x, drawn = torch.randn(3, 4, 17, generator=noise(2)), torch.randn(5, 3, 16, 7, generator=noise(3))

    def act(rho, candidates):
        draws = iter(drawn)
        return found["act"](x, rho, candidates, noise=lambda shape: next(draws)[:, : shape[1]])

    assert (act(0.0, 1) - act(5.0, 1)).abs().max() > 1e-3
    ranked = act(0.0, 4)
    found["about"]["q_layers"] = []
    assert (act(0.0, 4) - ranked).abs().max() > 1e-3


@pytest.mark.parametrize("caller", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("rho", [0.0, 5.0])
def test_it_acts_where_gradients_are_off(cheetah, tmp_path, caller, rho):
    act, x = example(export(cheetah.policy, tmp_path / "p"))["act"], torch.randn(4, 17, generator=noise(2))
    wanted = act(x, rho, temperature=0.0)
    with caller():
        actual = act(x.clone(), rho, temperature=0.0)  # of inference mode itself
    assert torch.equal(actual, wanted)
    assert not wanted.requires_grad


def test_without_guidance_there_is_no_gradient(cheetah, tmp_path, monkeypatch):
    act = example(export(cheetah.policy, tmp_path / "p"))["act"]
    monkeypatch.setattr(torch.autograd, "grad", None)
    assert act(torch.zeros(4, 17), rho=0.0).isfinite().all()
    with pytest.raises(TypeError):
        act(torch.zeros(4, 17), rho=5.0)


def test_observations_of_any_kind(cheetah, tmp_path):
    """Arrays and lists, of double precision or with a gradient; one alone is a batch of one."""
    act, x = example(export(cheetah.policy, tmp_path / "p"))["act"], torch.randn(4, 17, generator=noise(2))
    wanted = act(x, 5.0, temperature=0.0)
    for given in (
        x.numpy(),
        x.double(),
        x.numpy().astype(float),
        x.tolist(),
        x.clone().requires_grad_(),
        x.expand(3, -1, -1),
    ):
        assert torch.equal(act(given, 5.0, temperature=0.0), wanted)
    for one in (x[1], x[1].numpy()):
        actual = act(one, 5.0, temperature=0.0)
        assert actual.shape == (3, 1, 6)
        same(actual, wanted[:, 1:2])


PROGRAM = """
import sys
try:
    import swgctl
except ImportError:
    print("no swgctl")
import act, torch
g = torch.Generator().manual_seed(5)
x = torch.linspace(-1, 1, 9).view(3, 3)
print(act.act(x, rho=3.0, noise=lambda shape: torch.randn(shape, generator=g)).flatten().tolist())
print(sorted(name.partition(".")[0] for name in sys.modules if name.startswith("swgctl")))
import runpy
runpy.run_path(act.__file__, run_name="__main__")
"""
HOOK = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "swgctl":
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
"""


def test_the_example_runs_where_this_package_is_not(chain, tmp_path):
    """In a process that cannot import it: the same actions, in Pendulum's units, and an episode."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(HOOK)
    place = export(chain.made("eval"), tmp_path / "p")
    env = os.environ | {"PYTHONPATH": f"{tmp_path / 'hook'}{os.pathsep}{place}"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, cwd="/", capture_output=True, text=True, check=True)
    absent, actions, modules, episode = done.stdout.splitlines()
    assert (absent, modules) == ("no swgctl", "[]")
    x = torch.linspace(-1, 1, 9).view(3, 3)
    wanted = load_policy(str(chain.made("diffuse"))).act(x, rho=3.0, generator=torch.Generator().manual_seed(5))
    same(torch.tensor(json.loads(actions)), 2 * wanted.flatten())
    assert -2000 < float(episode.removeprefix("return ")) < 0


def test_one_seed_of_several(cheetah, tmp_path):
    every, one = (
        example(export(cheetah.policy, tmp_path / n, *more)) for n, more in (("p", []), ("q", ["--seed", "3"]))
    )
    assert one["about"]["seeds"] == [3]
    x = torch.randn(4, 17, generator=noise(2))
    same(one["act"](x, 5.0, temperature=0.0)[0], every["act"](x, 5.0, temperature=0.0)[1])
    assert metadata(export(cheetah.policy, tmp_path / "r", "--seeds", "7,0"))["seeds"] == [0, 7]


@pytest.mark.parametrize("select", ["self", "critic"])
def test_an_evaluations_settings_are_kept(chain, select, tmp_path):
    """Unclipped, so that no two candidates have the greatest weight of the data."""
    settings = ["--set", f"eval.select={select}", "--set", "eval.clip=false", "--resample", "3", "--rho", "9"]
    evaluation = swgctl("eval", "--recipe", chain.recipe, *settings).path
    found = example(export(evaluation, tmp_path / "p"))
    assert (found["about"]["rho"], found["about"]["candidates"]) == (9, 3)
    policy = load_policy(str(chain.made("diffuse")))
    if select == "self":
        policy.ranking = Ranking()
        assert not any(name.startswith(("q_target", "v.")) for name in found["p"])
    x, drawn = torch.randn(1, 5, 3, generator=noise(2)), noise()
    policy.sampler.bounds = None
    wanted, _ = propose(policy, x, 9.0, 3, noise())
    same(found["act"](x, noise=lambda shape: torch.randn(shape, generator=drawn)), 2 * wanted)


def test_of_several_temperatures_the_one_that_its_candidates_need_is_kept(chain, tmp_path):
    for candidates, temperature in ((1, 0.0), (2, 0.5)):
        how = ("--temperature", "0,0.5", "--resample", f"1,{candidates}", "--rho", "2")
        evaluation = swgctl("eval", "--recipe", chain.recipe, *how).path
        about = example(export(evaluation, tmp_path / str(candidates), "--resample", candidates))["about"]
        assert (about["candidates"], about["temperature"]) == (candidates, temperature)


def test_another_critic_that_ranked_is_the_one_that_ranks(chain, tmp_path):
    other = chain.critic("--set", "critic.tau=0.9").path
    evaluation = swgctl("eval", "--recipe", chain.recipe, "--critic", other, "--resample", "3").path
    found = example(export(evaluation, tmp_path / "p"))
    assert found["about"]["lineage"]["ranking"]["key"][:16] == other.name
    x, drawn = torch.randn(1, 5, 3, generator=noise(2)), noise()
    policy = load_policy(str(chain.made("diffuse")), critic=str(other))
    actual = found["act"](x, 1.0, 3, noise=lambda shape: torch.randn(shape, generator=drawn))
    same(actual, expected(policy, x, -2, 2, rho=1.0, candidates=3))


@pytest.mark.parametrize(("weight", "setting"), [("quantile", "critic.loss=quantile"), ("expectile", "critic.tau=0.3")])
def test_a_weight_that_does_not_grow_with_q_does_not_rank(chain, weight, setting, tmp_path):
    policy = chain.run("--set", setting, "--weight", weight, "--until", "diffuse").path
    answer = swgctl("export", policy, "--policy", tmp_path / "p")
    assert metadata(answer.path)["q_layers"] == []
    assert f"this {weight} weight does not grow with Q" in answer.err


# -- what is inside ----------------------------------------------------------------------------------------------------


def test_what_an_export_holds(cheetah, tmp_path):
    place = export(cheetah.policy, tmp_path / "p")
    assert sorted(path.name for path in place.iterdir()) == ["act.py", "policy.safetensors"]
    about, p = metadata(place), example(place)["p"]
    assert (about["stage"], about["task"], about["seeds"], about["schema"]) == ("policy", "cheetah", SEEDS, 1)
    with h5py.File(cheetah.data) as file:
        observations = file["observations"][()].astype(float)
    torch.testing.assert_close(p["observation_mean"].double(), torch.from_numpy(observations.mean(0)))
    torch.testing.assert_close(p["observation_std"].double(), torch.from_numpy(observations.std(0)))
    assert p["action_low"].tolist() == [-1] * 6
    schedule = Schedule.vp(5)
    for name in ("alpha", "sigma", "step_alpha"):
        assert torch.equal(p[name], getattr(schedule, name))
    policy = load_policy(str(cheetah.policy))
    for name, value in policy.sampler.denoiser.state_dict().items():
        assert torch.equal(p[name], value)
    low, high = policy.sampler.bounds
    assert torch.equal(p["z_low"], low)
    assert torch.equal(p["z_high"], high)
    lineage = {line.split("/")[-3]: Path(line).name for line in swgctl("tree", cheetah.policy).lines}
    lineage["ranking"] = lineage["critic"]
    assert {stage: one["key"][:16] for stage, one in about["lineage"].items()} == lineage
    record = json.loads((cheetah.policy / "artifact.json").read_text())
    assert about["lineage"]["diffuse"]["digest"] == record["digest"]


def test_one_policy_one_content(cheetah, tmp_path):
    a, b = (export(cheetah.policy, tmp_path / name) for name in "ab")
    for name in ("act.py", "policy.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes()


@pytest.mark.parametrize(
    ("stage", "more", "guidance"),
    [
        ("eval", [], (1, 1)),  # its scales are 0 and 1
        ("diffuse", [], (1, 1)),  # the recipe's are 0, 1, 5 ... and its candidates 1 and 8
        ("diffuse", ["--rho", "4.5", "--resample", "8"], (4.5, 8)),
        ("eval", ["--rho", "0"], (0, 1)),
    ],
)
def test_what_the_example_takes_when_it_is_not_told(chain, stage, more, guidance, tmp_path):
    answer = swgctl("export", chain.made(stage), "--policy", tmp_path / "p", *more)
    about = metadata(answer.path)
    assert (about["rho"], about["candidates"]) == guidance
    assert f"rho = {guidance[0]:g} and M = {guidance[1]} " in answer.err


def test_a_d4rl_task_gets_the_papers_scale(chain, tmp_path):
    """The name of the task decides; its policy is another's here."""
    rewrite(chain.made("diffuse"), lambda r: r["task"].update(name="hopper-medium-v2", recipe="locomotion"))
    assert metadata(export(chain.made("diffuse"), tmp_path / "p"))["rho"] == 20


@pytest.mark.parametrize(
    ("environment", "named"),
    [("swgctl/Maze2dUMaze-v1", "swgctl.tasks.adapters.maze2d:swgctl/Maze2dUMaze-v1"), ("Pendulum-v1", "Pendulum-v1")],
)
def test_an_environment_is_named_with_what_registers_it(chain, environment, named, tmp_path):
    rewrite(chain.made("diffuse"), lambda r: r["task"].update(environment=environment))
    assert metadata(export(chain.made("diffuse"), tmp_path / "p"))["environment"] == named
    assert gymnasium.make(named).spec.id == environment
