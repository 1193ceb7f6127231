"""The table of published checksums."""

import re

from swgctl.tasks import published, registry


def test_every_row_is_the_file_of_a_task_but_for_full_replay():
    paths = {task.source.removeprefix("d4rl:") for task, _ in registry.table().values()}
    files = {path: row for path, row in published.table().items() if not path.startswith("ogbench/")}
    assert len(files) == 52
    assert {path.rpartition("_full_")[2] for path in files.keys() - paths} == {"replay-v2.hdf5"}
    for row in files.values():
        assert re.fullmatch("[0-9a-f]{64}", row.sha256)
        assert 500_000 < row.size < 700_000_000
    assert len({row.sha256 for row in files.values()}) == 52
    assert {row.source for row in files.values()} == {"tfds", "copy", "server and copy", "record"}


def test_numbers_that_two_places_state():
    """https://github.com/tensorflow/datasets, d4rl_mujoco_walker2d and d4rl_antmaze: checksums.tsv."""
    walker = published.of("gym_mujoco_v2/walker2d_medium-v2.hdf5")
    assert (walker.size, walker.sha256[:8]) == (232_254_996, "cf00f43a")
    name = "Ant_maze_big-maze_noisy_multistart_True_multigoal_True_sparse.hdf5"
    ant = published.of(f"ant_maze_new/{name}")
    assert (ant.size, ant.sha256[:8], ant.copied) == (231_095_454, "b77764ca", False)


def test_nothing_was_published_for_maze2d_and_some_of_relocate():
    without = [task.name for task, _ in registry.table().values() if task.source.startswith("d4rl:")]
    without = [name for name in without if published.of(registry.named(name).source.removeprefix("d4rl:")) is None]
    assert all(name.startswith(("maze2d-", "relocate-")) for name in without)
    assert "relocate-cloned-v1" not in without
    assert len(without) == 11
