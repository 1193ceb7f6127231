"""Agents as policies, from learner to file to action."""

from types import SimpleNamespace

import pytest
import torch
from support.records import Bare

from swgctl.config import AgentSettings
from swgctl.files import save_tensors
from swgctl.learners.agent import LEARNERS, Experience
from swgctl.learners.rows import Rows
from swgctl.policies.agent import Agent, load_agent
from swgctl.randomness import generator

SEEDS, E, O, A = [0, 3, 7], 4, 3, 2  # noqa: E741 - the shapes' names


def learner_of(algo: str, seeds=SEEDS):
    table = torch.randn(1, 50, 2 * O + A + 2, generator=generator(0, "table", 0))
    statistics = torch.full((O,), 0.5), torch.full((O,), 2.0)
    settings = AgentSettings(algo=algo, hidden=[16, 8], batch=8)
    data = Experience(table, Rows(torch.arange(50)))
    return LEARNERS[algo](data, statistics, settings, seeds, torch.device("cpu"))


def artifact_of(learner, seeds, path) -> Bare:
    """What `load_agent` reads of an artifact."""
    save_tensors(path / "agent.safetensors", learner.tensors(), "agent", SimpleNamespace(name="toy"), seeds)
    return Bare(
        seeds=seeds,
        params=learner.settings.model_dump(),
        meta={"metrics": {"data": {"observation_dim": O, "action_dim": A}}},
        file=path.joinpath,
    )


def observations(members=3) -> torch.Tensor:
    return torch.randn(members, E, O, generator=generator(0, "observations", 0))


@pytest.mark.parametrize("algo", LEARNERS)
def test_a_loaded_agent_acts_as_the_learners_actor(algo, tmp_path):
    learner, x = learner_of(algo), observations()
    agent = load_agent(artifact_of(learner, SEEDS, tmp_path), "cpu")
    with torch.no_grad():
        expected = learner.actor.act(x)
    for loaded, live in zip(agent.act(x), expected, strict=True):
        assert torch.equal(loaded, live)
    actions, statistics = agent.prepare([{}] * E)(x, torch.randn)
    assert torch.equal(actions, expected[0])
    assert statistics == {}
    assert not actions.requires_grad
    assert (agent.seeds, agent.action_dim, agent.device.type) == (SEEDS, A, "cpu")
    assert (agent.noise_shape, agent.statistics) == ((0,), ())


def test_an_agent_of_one_seed_acts_for_every_member():
    agent, x = Agent([0], learner_of("iql", [0]).actor), observations()
    mean, sd = agent.act(x)
    for s in range(3):
        torch.testing.assert_close(mean[s], agent.act(x[s : s + 1])[0][0])
    assert sd.expand_as(mean).shape == (3, E, A)
