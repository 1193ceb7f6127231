"""agent: from a task's data, from synthetic sets, and from sets that it guides itself while it trains."""

import json
import signal
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import published, swgctl
from support.interrupts import Signalled

from swgctl.errors import InputError
from swgctl.learners import agent as learners
from swgctl.learners.regeneration import Regenerating
from swgctl.policies.trajectories import TrajectorySampler
from swgctl.stages.agent import _experience
from swgctl.store import Artifact
from swgctl.tasks.windows import transitions_of

pytest_plugins = "support.synthetic"
pytestmark = pytest.mark.training

AGENTS = ("td3bc", "iql", "pgd-td3bc", "pgd-iql", "of-shift", "of-two")
REAL_ROWS = 400
LEVELS = 4  # of the walk, each of which is one step of the sampler


def tensors(artifact) -> dict[str, torch.Tensor]:
    return load_file(artifact.path / "agent.safetensors")


def rows_of(path, seed: int | None = None) -> np.ndarray:
    """Observations, actions, rewards of a file's rows (N, O + A + 1), or of those that belong to one seed."""
    with h5py.File(path) as file:
        rows = np.column_stack([file["observations"][()], file["actions"][()], file["rewards"][()]])
        return rows if seed is None else rows[file["infos/seed"][()] == seed]


@pytest.fixture
def batches(monkeypatch) -> list[torch.Tensor]:
    """Every minibatch (S, B, O + A + 1) that an agent of this process learns from."""
    seen: list[torch.Tensor] = []
    batch = learners.AgentLearner.batch

    def recording(self, drawn):
        taken = batch(self, drawn)
        seen.append(torch.cat([taken.raw, taken.actions, taken.rewards.unsqueeze(-1)], -1))
        return taken

    monkeypatch.setattr(learners.AgentLearner, "batch", recording)
    return seen


def member_rows(batches: list[torch.Tensor], member: int) -> np.ndarray:
    return torch.stack(batches)[:, member].numpy()


def among(rows: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Which of the rows (..., C) are rows of a table (N, C)."""
    known = {row.tobytes() for row in np.ascontiguousarray(table, np.float32)}
    flat = np.ascontiguousarray(rows, np.float32).reshape(-1, rows.shape[-1])
    return np.array([row.tobytes() in known for row in flat]).reshape(rows.shape[:-1])


# -- artifacts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_a_member_is_the_agent_of_its_seed_alone(name, made):
    together, alone = tensors(made(name)), tensors(made(name, str(made.alone)))
    assert together.keys() == alone.keys()
    for key, value in alone.items():
        torch.testing.assert_close(value, together[key][made.alone : made.alone + 1], rtol=5e-3, atol=5e-3, msg=key)
    weights = together["actor.net.layers.0.weight"]
    assert not torch.allclose(weights[0], weights[1], atol=1e-3)


@pytest.mark.parametrize("name", AGENTS)
def test_an_artifact_holds_the_actor_and_what_judges_it(name, made):
    artifact = made(name)
    prefixes = {key.partition(".")[0] for key in tensors(artifact)}
    assert prefixes == {"actor", "q", "q_target", "actor_target" if artifact.params["algo"] == "td3bc" else "v"}
    facts = artifact.meta["metrics"]["data"]
    assert (facts["rows"], facts["observation_dim"], facts["action_dim"]) == (REAL_ROWS, 3, 1)
    real = made("td3bc").meta["metrics"]["data"]
    assert {key: facts[key] for key in ("return_least", "return_best")} == {
        key: real[key] for key in ("return_least", "return_best")
    }


def test_observations_are_scaled_by_those_that_are_learnt_from(made):
    sets = [made(name).path / "data.hdf5" for name in ("unguided", "posterior")]
    actor = tensors(made("of-two"))
    for member, seed in enumerate(made("of-two").seeds):
        rows = np.concatenate([rows_of(path, seed) for path in sets])[:, :3].astype(np.float64)
        np.testing.assert_allclose(actor["actor.mean"][member], rows.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(actor["actor.std"][member], rows.std(0) + 1e-3, rtol=1e-4)
    regenerating, model = tensors(made("pgd-td3bc")), load_file(made("trajectories").path / "denoiser.safetensors")
    torch.testing.assert_close(regenerating["actor.mean"], model["mean"][:3].expand(made.members, -1))
    torch.testing.assert_close(regenerating["actor.std"], model["std"][:3].expand(made.members, -1) + 1e-3)


def test_an_evaluation_of_an_agent_has_one_cell_without_scale_or_candidates(made):
    evaluation = made("eval-pgd")
    (cell,) = json.loads((evaluation.path / "summary.json").read_text())["cells"]
    assert (cell["rho"], cell["candidates"], cell["seeds"]) == (None, None, made.members)
    assert evaluation.params.keys() == {"episodes", "seed", "environment", "horizon", "references"}
    assert {*evaluation.ancestors()} == {"eval", "agent", "trajectories"}


# -- what is learnt from -----------------------------------------------------------------------------------------------


def test_two_sets_are_a_mixture_of_each_members_own_rows(made, batches):
    sets = [made(name) for name in ("unguided", "posterior")]
    words = [word for one in sets for word in ("--from", one.path)]
    made.ask("agent", *words, "--force")
    for member, seed in enumerate(made("of-two").seeds):
        drawn = member_rows(batches, member)
        first, second = (among(drawn, rows_of(one.path / "data.hdf5", seed)) for one in sets)
        assert (first ^ second).all()
        assert 0.4 < first.mean() < 0.6


@pytest.mark.parametrize("source", ["shift", "trajectories"])
def test_some_rows_of_every_batch_are_the_tasks_own(source, made, batches):
    made.ask("agent", "--from", made(source).path, "--real", 8)
    assert len(batches) == 40
    for member in range(made.members):
        real = among(member_rows(batches, member), rows_of(made.data))
        assert real[:, -8:].all()
        assert not real[:, :-8].any()


def test_rewards_are_scaled_by_the_range_of_the_real_returns(made, batches):
    """The sums over windows have another range."""
    source = made("unguided")
    made.ask("agent", "--from", source.path, "--set", "agent.rewards=return_range", "--real", 8)
    facts = made("trajectories").meta["metrics"]["data"]
    scale = np.float32(1000 / (facts["return_best"] - facts["return_least"]))
    tables = rows_of(source.path / "data.hdf5", source.seeds[0]), rows_of(made.data)
    drawn = member_rows(batches, 0)
    for part, table in ((drawn[:, :-8], tables[0]), (drawn[:, -8:], tables[1])):
        table[:, -1] *= scale
        assert among(part, table).all()


def test_sets_that_imitate_returns_of_several_ranges_are_not_scaled_together():
    """A reward of 1 would be 1 in one set and 0.1 in the other."""

    def imitating(returns):
        window = (np.zeros((1, 2, 3, 2)), np.zeros((1, 2, 3, 1)), np.ones((1, 2, 3)))
        return transitions_of(*(np.float32(x) for x in window), np.zeros((1, 2, 3), bool), [0], returns)

    def rewards(*ranges):
        job = SimpleNamespace(seeds=[0], params={"rewards": "return_range"})
        return _experience([imitating(one) for one in ranges], job).table[0, :, 3]

    low, high = (0.0, 500.0, 1000.0), (0.0, 5000.0, 10_000.0)
    assert rewards(low, low).unique().tolist() == [1.0]
    assert rewards(high).unique().tolist() == pytest.approx([0.1])
    with pytest.raises(InputError, match="several ranges of returns"):
        rewards(low, high)


def test_sets_are_renewed_oldest_first_and_guided_once_there_is_an_agent(made, monkeypatch):
    sets, guided = [], []
    generate, draw = Regenerating._generate, TrajectorySampler.draw

    def generating(self, period, slot):
        sets.append((period, slot))
        return generate(self, period, slot)

    def drawing(self, count, settings, act, *more):
        guided.append(act is not None)
        return draw(self, count, settings, act, *more)

    monkeypatch.setattr(Regenerating, "_generate", generating)
    monkeypatch.setattr(TrajectorySampler, "draw", drawing)
    made.ask("agent", "--from", made("trajectories").path, "--epochs", 4, "--set", "agent.keep=2")
    assert sets == [(0, 0), (0, 1), (1, 1), (2, 0), (3, 1)]
    assert guided == [False, False, True, True, True]


def test_guidance_begins_with_the_second_set(made):
    words = ("agent", "--from", made("trajectories").path, "--epochs")
    for epochs, alike in ((1, True), (2, False)):
        unguided, guided = (Artifact(made.ask(*words, epochs, "--lambda", scale).path) for scale in (0, 1))
        assert unguided.key != guided.key
        files = [one.meta["files"]["agent.safetensors"]["sha256"] for one in (unguided, guided)]
        assert (files[0] == files[1]) == alike


# -- keys --------------------------------------------------------------------------------------------------------------

GENERATION = {"scale", "levels", "rule", "churn", "churn_min", "churn_max", "churn_noise", "trajectories"}
GUIDING = {"guidance", "ramp", "unit", "denoised"}
TD3BC, IQL = {"alpha", "policy_noise", "noise_clip", "critic_updates"}, {"tau", "beta", "advantage_clip"}


def test_a_key_has_what_is_read_and_no_other(made):
    of_task = {"task", "environment", "horizon"}
    shared = {"algo", "steps", "batch", "lr", "gamma", "target_rate", "hidden", "normalise", "rewards", "precision"}
    shared |= of_task
    renewal = GENERATION | {"epochs", "keep"}
    assert made("td3bc").params.keys() == shared | TD3BC | {"clip_actions"}
    assert made("iql").params.keys() == shared | IQL | {"clip_actions"}
    assert made("of-shift").params.keys() == shared | IQL | {"real"}
    assert made("pgd-td3bc").params.keys() == shared | TD3BC | renewal | GUIDING | {"real"}
    assert made("pgd-iql").params.keys() == shared | IQL | renewal | GUIDING | {"real", "clip_actions"}
    unguided = Artifact(made.ask("agent", "--from", made("trajectories").path, "--lambda", 0).path)
    assert unguided.params.keys() == shared | TD3BC | renewal | {"real"}


def test_the_real_data_is_a_source_where_it_is_read(made):
    sources = {name: made(name).meta["source"] for name in AGENTS}
    assert {name for name, source in sources.items() if source} == {"td3bc", "iql", "pgd-iql"}
    assert sources["pgd-iql"] == sources["td3bc"]


def test_sets_are_inputs_in_the_order_in_which_they_are_named(made):
    inputs = made("of-two").meta["inputs"]
    assert [(role, one["digest"]) for role, one in inputs.items()] == [
        ("synth", made("unguided").digest),
        ("synth.2", made("posterior").digest),
    ]


# -- interruptions -----------------------------------------------------------------------------------------------------

SAMPLER, STEP = "swgctl.diffusion.edm:step", "swgctl.learners.agent:TD3BCLearner.step"
FILL, SAVE = "swgctl.learners.agent:AgentLearner.fill", "swgctl.stages.agent:save_tensors"
OFTEN = {"SWGCTL_CHECKPOINT_EVERY": "0"}
MOMENTS = {  # 16 steps in four periods, of which each but the first renews one of two sets
    "sampling of the first set": (SAMPLER, 2),
    "sampling of the second set": (SAMPLER, LEVELS + 3),
    "training of the first period": (STEP, 3),
    "sampling of the first guided set": (SAMPLER, 2 * LEVELS + 2),
    "after the first guided set": (FILL, 3),
    "first step on a guided set": (STEP, 5),
    "training of the third period": (STEP, 11),
    "after the training": (SAVE, 1),
}


@pytest.fixture
def command(made) -> tuple:
    """Regenerates often."""
    more = ("--steps", 16, "--epochs", 4, "--set", "agent.keep=2", "--recipe", made.recipe, "--json")
    return ("agent", "--from", made("trajectories").path, *more)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_agent_ends_in_the_same_bytes(moment, command, start, undisturbed, tmp_path):
    whole = undisturbed(*command)
    killed = start(*command, env=OFTEN, setup=Signalled(*MOMENTS[moment])).answer()
    assert killed.code == -signal.SIGKILL, killed.err
    assert published(tmp_path / "store") == []
    again = start(*command, env=OFTEN).answer().json
    assert (again["digest"], again["status"]) == (whole, "resumed")
    assert list((tmp_path / "store" / "work").glob("*")) == []


OTHER = ("--algo", "iql", "--set", "agent.guidance=posterior", "--real", 8)


@pytest.mark.parametrize(
    ("more", "kills"),
    [
        pytest.param((), ((FILL, 1), (STEP, 6), (SAMPLER, 1), (STEP, 2), (SAVE, 1)), marks=pytest.mark.slow),
        (OTHER, ((SAMPLER, 2 * LEVELS + 2), ("swgctl.learners.agent:IQLLearner.step", 3))),
    ],
)
def test_an_agent_that_is_killed_again_and_again_ends_in_the_same_bytes(more, kills, command, start, undisturbed):
    """The counts start anew with each process."""
    command = (*command, *more)
    for function, call in kills:
        answer = start(*command, env=OFTEN, setup=Signalled(function, call)).answer()
        assert answer.code == -signal.SIGKILL, (function, call, answer.err)
    assert start(*command, env=OFTEN).answer().json["digest"] == undisturbed(*command)


@pytest.mark.parametrize("moment", ["sampling of the first guided set", "training of the third period"])
def test_a_stopped_agent_resumes(moment, command, start, undisturbed, tmp_path):
    answer = start(*command, setup=Signalled(*MOMENTS[moment], signal.SIGTERM)).answer()
    answer.refused(75, "stopped by SIGTERM")
    assert published(tmp_path / "store") == list((tmp_path / "store" / "tmp").glob("*")) == []
    again = start(*command).answer()
    assert "going on from step" in again.err
    assert (again.json["digest"], again.json["status"]) == (undisturbed(*command), "resumed")


def test_only_the_sets_in_use_are_kept_beside_a_checkpoint(command, start, tmp_path):
    assert start(*command, setup=Signalled(STEP, 14, signal.SIGTERM)).answer().code == 75
    (work,) = (tmp_path / "store" / "work").glob("*")
    assert sorted(path.name for path in work.glob("set-*")) == ["set-2-0.safetensors", "set-3-1.safetensors"]


@pytest.mark.parametrize("damage", [lambda raw: raw[:-100] + bytes(100), lambda raw: raw[:-100]])
def test_a_damaged_set_is_refused_and_not_learnt_from(damage, command, start, tmp_path):
    assert start(*command, setup=Signalled(STEP, 14, signal.SIGTERM)).answer().code == 75
    (work,) = (tmp_path / "store" / "work").glob("*")
    path = work / "set-3-1.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    answer = start(*command).answer()
    answer.refused(4, f"{path} is damaged")
    assert answer.helps == [f"rm -r {work}   # then start again"]
    assert published(tmp_path / "store") == []


@pytest.mark.slow
def test_eight_runs_side_by_side_end_in_the_same_bytes(made, start, tmp_path):
    """The whole chain of PGD by each: four in one store, and four that build everything themselves."""
    words = (*made.task, "--method", "pgd", "--set", "trajectories.steps=10", "--set", "agent.steps=10")
    stores = [*["store"] * 4, *(f"store-{i}" for i in range(4))]
    words = ("run", *words, "--recipe", made.recipe, "--json", "--store")
    answers = [one.answer() for one in [start(*words, tmp_path / store) for store in stores]]
    assert len({answer.json["digest"] for answer in answers}) == 1
    assert sorted(path.parts[-3] for path in published(tmp_path / "store")) == ["agent", "eval", "trajectories"]
    assert len(swgctl("verify").lines) == 3
    assert list((tmp_path / "store" / "tmp").glob("*")) == list((tmp_path / "store" / "work").glob("*")) == []
