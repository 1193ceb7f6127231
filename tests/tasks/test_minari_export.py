"""Transitions as a Minari set: what comes back is what was written, and what cannot be kept is told."""

import os
import shutil
from dataclasses import replace

import gymnasium
import minari
import numpy as np
import pytest
from minari.dataset._storages.hdf5_storage import HDF5Storage
from support.minari_sets import MAZE, PENDULUM, SHUFFLED, Shuffled, contents

from swgctl.errors import InputError, Interrupted, SwgError, UsageError
from swgctl.tasks import environments, minari_data, minari_env, minari_export, transitions
from swgctl.tasks.task import Task

TASK = Task("pen.d", "Pendulum-v1", "file:/x", "none", "default", (-1200.0, -150.0), 200)


@pytest.fixture
def export(folder, said):
    """export(data) -> id"""
    return lambda data, id=None, task=TASK: minari_export.export(task, data, id, said.append)


def some(rows=40, actions=1, **changes):
    """Transitions of four episodes: a terminal, two timeouts of which the second's end is not known, an open end."""
    random = np.random.default_rng(0)
    seen = random.normal(size=(rows + 4, 3)).astype(np.float32)
    episode = np.repeat(np.arange(4), rows // 4)
    first = np.arange(rows) + episode  # one more observation for each episode
    ends = np.arange(rows) % (rows // 4) == rows // 4 - 1
    data = transitions.Transitions(
        observations=seen[first],
        actions=(random.uniform(-1, 1, (rows, actions)) * 10.0 ** -random.integers(0, 9, (rows, 1))).astype(np.float32),
        rewards=random.normal(size=rows).astype(np.float32),
        next_observations=seen[first + 1],
        terminals=ends & (episode == 0),
        timeouts=ends & ((episode == 1) | (episode == 2)),
        known_next=~(ends & (episode == 2)),
    )
    return replace(data, **changes)


def assert_same(found, data):
    """All of the data whose end is known."""
    for name in ("observations", "actions", "rewards", "next_observations", "terminals"):
        np.testing.assert_array_equal(getattr(found, name), getattr(data, name)[data.known_next], err_msg=name)


# ---- what comes back


def test_there_and_back_every_known_row_is_the_same(convert, export, said):
    data = some()
    id = export(data)
    assert id == "swgctl/pen-d-v0"
    assert said == ["the data set: 1 of 40 rows left out: their next observation is unknown"]
    back = minari_data.task_of(id, said.append)
    assert (back.references, back.horizon) == (TASK.references, 200)
    found = transitions.read(convert(id))
    assert_same(found, data)
    assert found.known_next.all()
    np.testing.assert_array_equal(np.flatnonzero(found.timeouts), [19, 28, 38])
    environments.check(minari_env.make(id, said.append), found)


def test_minari_reads_what_was_written(export):
    data = some()
    dataset = minari.load_dataset(export(data, "mine-v2"))
    assert (dataset.total_episodes, dataset.total_steps, dataset.id) == (4, 39, "mine-v2")
    assert dataset.env_spec.id == "Pendulum-v1"
    assert isinstance(dataset.recover_environment().unwrapped, type(gymnasium.make("Pendulum-v1").unwrapped))
    assert minari.get_normalized_score(dataset, np.array(-150.0)) == 1
    assert [len(episode) for episode in dataset] == [10, 10, 9, 10]
    first, second, *_ = dataset
    np.testing.assert_array_equal(second.observations, [*data.observations[10:20], data.next_observations[19]])
    np.testing.assert_array_equal(second.actions, 2 * data.actions[10:20])
    assert second.actions.dtype == np.float32
    assert dataset.action_space.contains(second.actions[0])
    np.testing.assert_array_equal(second.truncations, np.arange(10) == 9)
    assert not second.terminations.any()
    assert first.terminations[-1]
    assert not first.truncations.any()
    assert {PENDULUM, "mine-v2"} <= minari.list_local_datasets().keys()


def test_actions_survive_bounds_that_are_no_power_of_two(convert, export, said):
    still = np.zeros((40, 4), np.float32)
    data = some(actions=2, observations=still, next_observations=still)
    # The function that puts its keys in order cannot be written down.
    id = export(data, task=replace(TASK, environment=f"minari:{SHUFFLED}"))
    assert any("the set will name no environment" in line for line in said)
    assert minari.load_dataset(id).action_space == Shuffled.action_space
    assert_same(transitions.read(convert(id)), data)


def test_a_recorded_maze_comes_back_with_its_environment(convert, export, said):
    data = transitions.read(convert(MAZE))
    id = export(data, task=minari_data.task_of(MAZE, said.append))
    assert id == "swgctl/minari-test-maze-umaze-v1-v0"
    found = transitions.read(convert(id))
    assert_same(found, data)
    np.testing.assert_array_equal(found.timeouts, data.timeouts)
    ours, theirs = (minari_env.make(name, said.append) for name in (id, MAZE))
    np.testing.assert_array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    np.testing.assert_array_equal(ours.step(np.ones(2))[0], theirs.step(np.ones(2))[0])


def test_a_task_whose_environment_is_not_here_is_written_without(convert, export, said):
    data = some()
    id = export(data, task=replace(TASK, environment="Elsewhere-v7"))
    assert said[0].startswith("pen.d: the set will name no environment, since gymnasium has no environment 'Elsewhere")
    dataset = minari.load_dataset(id)
    assert dataset.env_spec is None
    assert dataset.storage.metadata["ref_max_score"] == -150.0
    assert_same(transitions.read(convert(id)), data)


# ---- what cannot be kept


def test_rows_that_do_not_follow_each_other_end_an_episode(convert, export, said):
    data = some()
    data.observations[5] += 1
    found = transitions.read(convert(export(data)))
    assert_same(found, data)
    assert found.timeouts[4]
    assert said[0] == "the data set: 1 episode(s) cut where the observations of two rows do not follow each other"


def test_terminal_observations_that_were_made_up_are_told(export, said):
    data = some()
    data.next_observations[9] = data.observations[9]
    export(data)
    assert "the data set: 1 terminal observation(s) unknown: the one before stands in" in said


def test_nothing_known_is_nothing_to_write(export, folder):
    before, never = contents(folder), np.zeros(4, bool)
    with pytest.raises(InputError, match="no row has a known next observation"):
        export(some(4, known_next=never, terminals=never, timeouts=~never))
    assert contents(folder) == before


# ---- what is not written


def test_an_id_that_exists_is_not_written_over(export, folder):
    before = contents(folder)
    with pytest.raises(InputError, match=f"the id {PENDULUM} is taken") as caught:
        export(some(), PENDULUM)
    assert caught.value.help.startswith(f"minari delete {PENDULUM} ")
    assert contents(folder) == before


def test_a_malformed_id_is_not_written(export):
    with pytest.raises(UsageError, match="is not an id of a Minari data set"):
        export(some(), "mine")


def test_of_two_at_once_one_wins(export, folder, monkeypatch):
    def other_first(whole, target, rename=os.rename):
        shutil.copytree(folder / PENDULUM, target)
        rename(whole, target)

    monkeypatch.setattr(os, "rename", other_first)
    with pytest.raises(InputError, match="is taken"):
        export(some(), "new/space/mine-v0")
    assert not list(folder.glob(".swgctl-*"))


@pytest.mark.parametrize(
    ("error", "told", "words"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (Interrupted("stopped by SIGTERM"), Interrupted, "SIGTERM"),
        (OSError(28, "No space left"), SwgError, "No space left"),
    ],
)
def test_an_export_that_fails_leaves_nothing(export, folder, monkeypatch, error, told, words):
    def fails(self, episodes, update=HDF5Storage.update_episodes):
        update(self, [next(iter(episodes))])
        raise error

    before = contents(folder)
    monkeypatch.setattr(HDF5Storage, "update_episodes", fails)
    with pytest.raises(told, match=words):
        export(some(), "new/mine-v0")
    assert contents(folder) == before
