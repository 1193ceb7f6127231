"""An exported agent: two files that act as `load_agent` does, without this package."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from support.exports import export
from support.harness import flip, swgctl

from swgctl.policies import export as exporting
from swgctl.policies.agent import load_agent
from swgctl.randomness import generator
from swgctl.store import Artifact, Store

pytestmark = pytest.mark.training
SEEDS = [0, 3, 7]


@pytest.fixture(scope="module", params=["td3bc", "iql"])
def agent(request, built, tmp_path_factory) -> Artifact:
    """An agent of three seeds that learnt from the data of Pendulum, whose actions are in [-2, 2]."""
    store = tmp_path_factory.mktemp("agents")
    how = ("--algo", request.param, "--seeds", "0,3,7", "--recipe", built.recipe, "--store", store)
    return Store(store).resolve(str(swgctl("agent", built.data, "--env", "Pendulum-v1", *how).path))


def example(directory: Path) -> dict:
    return runpy.run_path(str(directory / "act.py"))


def observations(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, 3, generator=generator(1, "observations", 0))


def same(actual: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual, wanted, rtol=0, atol=tolerance)


def test_the_example_acts_as_the_agent(agent, tmp_path):
    act, x = example(export(agent.path, tmp_path / "p"))["act"], observations(3, 5)
    actual = act(x)
    same(actual, 2 * load_agent(agent, "cpu").actor(x))
    assert actual.std((1, 2)).min() > 0.01
    assert actual.abs().max() <= 2


def test_in_double_precision_they_are_one_computation(agent, tmp_path):
    content, actor = example(export(agent.path, tmp_path / "p")), load_agent(agent, "cpu").actor.double()
    content["p"].update({name: value.double() for name, value in content["p"].items()})
    x = observations(3, 5).double()
    same(content["act"](x), 2 * actor(x), 1e-14)


def test_its_tensors_give_the_actions_by_hand(agent, tmp_path):
    """tanh of two layers at (s - mean) / std, in NumPy, for one member."""
    content = example(export(agent.path, tmp_path / "p", "--seed", "3"))
    assert content["about"]["seeds"] == [3]
    p, s = {name: value.numpy() for name, value in content["p"].items()}, observations(4).numpy()
    x = (s - p["observation_mean"][0]) / p["observation_std"][0]
    x = np.maximum(x @ p["layers.0.weight"][0] + p["layers.0.bias"][0], 0)
    x = np.tanh(x @ p["layers.1.weight"][0] + p["layers.1.bias"][0])
    same(content["act"](s)[0], torch.from_numpy(2 * x))
    same(torch.from_numpy(2 * x), 2 * load_agent(agent, "cpu").actor(torch.from_numpy(s).expand(3, -1, -1))[1])


def test_observations_of_any_kind(agent, tmp_path):
    """Arrays and lists, of double precision or with a gradient; one alone is a batch of one."""
    act, x = example(export(agent.path, tmp_path / "p"))["act"], observations(4)
    wanted = act(x)
    kinds = (x.numpy(), x.double(), x.numpy().astype(float), x.tolist(), x.clone().requires_grad_())
    for given in (*kinds, x.expand(3, -1, -1)):
        assert torch.equal(act(given), wanted)
        assert not act(given).requires_grad
    one = act(x[1])
    assert one.shape == (3, 1, 1)
    same(one, wanted[:, 1:2])
    for shape in ((), (2,), (3, 4), (2, 4, 3)):
        with pytest.raises(ValueError, match=r"\(S, O\) = \(3, 3\), not"):
            act(torch.zeros(shape))
    assert act(torch.zeros(0, 3)).shape == (3, 0, 1)


PROGRAM = """
import sys
sys.modules["swgctl"] = None  # its import raises ImportError
import act, torch, runpy
print(act.act(torch.linspace(-1, 1, 9).view(3, 3)).flatten().tolist())
print(sorted(name for name in sys.modules if name.startswith("swgctl.")))
runpy.run_path(act.__file__, run_name="__main__")
"""


def test_the_example_runs_where_this_package_is_not(agent, tmp_path):
    """In a process that cannot import it: the same actions, and an episode."""
    place = export(agent.path, tmp_path / "p")
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=place, capture_output=True, text=True, check=True)
    actions, modules, episode = done.stdout.splitlines()
    assert modules == "[]"
    x = torch.linspace(-1, 1, 9).view(1, 3, 3).expand(3, -1, -1)
    same(torch.tensor(json.loads(actions)), 2 * load_agent(agent, "cpu").actor(x).flatten())
    assert -2000 < float(episode.removeprefix("return ")) < 0


def test_what_an_export_holds(agent, tmp_path):
    place = export(agent.path, tmp_path / "p")
    assert sorted(path.name for path in place.iterdir()) == ["act.py", "policy.safetensors"]
    with safe_open(place / "policy.safetensors", "pt") as file:
        about, shapes = json.loads(file.metadata()["swg"]), {n: file.get_slice(n).get_shape() for n in file.keys()}  # noqa: SIM118
    assert (about["stage"], about["kind"], about["algo"]) == ("policy", "agent", agent.params["algo"])
    assert (about["seeds"], about["environment"], about["layers"]) == (SEEDS, "Pendulum-v1", ["layers.0", "layers.1"])
    assert about["lineage"] == {"agent": {"key": agent.key, "digest": agent.digest}}
    assert about["data"] == [agent.meta["source"]["sha256"]]
    assert shapes == {
        "layers.0.weight": [3, 3, 16],
        "layers.0.bias": [3, 1, 16],
        "layers.1.weight": [3, 16, 1],
        "layers.1.bias": [3, 1, 1],
        "observation_mean": [3, 3],
        "observation_std": [3, 3],
        "action_low": [1],
        "action_high": [1],
    }


def test_every_kind_of_policy_has_its_template():
    for name in exporting.TEMPLATES.values():
        assert Path(exporting.__file__).with_name(name).is_file()


def test_what_an_agent_cannot_be_asked(agent, tmp_path):
    for flag in ("--rho", "--resample"):
        refusal = swgctl("export", agent.path, "--policy", tmp_path / "p", flag, "2")
        refusal.refused(2, "one action", agent.id)
        assert refusal.helps == [f"swgctl export {agent.id} --policy {tmp_path / 'p'}   # without --rho and --resample"]
    swgctl("export", agent.path, "--policy", tmp_path / "p", "--seed", "4").refused(2, "seeds 0,3,7, not 4")
    assert not (tmp_path / "p").exists()


def test_an_evaluation_and_data_without_a_policy(chain, tmp_path):
    """Of an agent that learnt from synthetic data, by its evaluation; a model and a set are no policies."""
    model = swgctl("trajectories", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    synth = swgctl("synth", "--lambda", "0", "--recipe", chain.recipe).path
    for ref, noun in ((model, "a trajectory model"), (synth, "a synthetic data set")):
        refusal = swgctl("export", ref, "--policy", tmp_path / "p")
        refusal.refused(3, noun, "no policy", "an agent learns one")
        assert refusal.helps == [f"swgctl agent --from {ref.name}"]
    agent = swgctl("agent", "--from", synth, "--recipe", chain.recipe).path
    evaluation = swgctl("eval", "--from", agent, "--recipe", chain.recipe).path
    places = [export(ref, tmp_path / ref.name) for ref in (agent, evaluation)]
    for name in ("act.py", "policy.safetensors"):
        assert len({(place / name).read_bytes() for place in places}) == 1
    about = example(places[0])["about"]
    assert set(about["lineage"]) == {"agent", "synth", "trajectories"}
    record = json.loads((model / "artifact.json").read_text())
    assert about["data"] == [record["source"]["sha256"]]
    flip(agent / "agent.safetensors")
    swgctl("export", evaluation, "--policy", tmp_path / "q").refused(4, "agent.safetensors", "damaged")
    dynamics = swgctl("dynamics", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe).path
    refusal = swgctl("export", dynamics, "--policy", tmp_path / "q")
    refusal.refused(3, "a dynamics model", "no policy")
    assert refusal.helps == [f"swgctl synth --from {dynamics.name} --agent REF"]
    assert not (tmp_path / "q").exists()
