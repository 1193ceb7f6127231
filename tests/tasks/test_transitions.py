"""Reading D4RL files: each rule and each refusal on a small file, and real files where they are at hand."""

import os
import re
from dataclasses import replace

import gymnasium
import h5py
import numpy as np
import pytest
from support.harness import real

from swgctl.errors import CorruptError, InputError, UsageError
from swgctl.tasks import environments, get, transitions
from swgctl.tasks.transitions import read

N = 8


@pytest.fixture
def write(tmp_path):
    """Writes a file of 8 rows, O = 2 and A = 1, with `changes`: another array, or None to leave one out."""

    def write(**changes):
        step = np.arange(N)
        arrays = {
            "observations": np.stack([step, -step], axis=1).astype(np.float32),
            "actions": np.linspace(-1, 1, N, dtype=np.float32)[:, None],
            "rewards": step.astype(np.float32),
            "terminals": step == 2,
            "timeouts": step == 5,
        }
        arrays |= {name.replace("infos_", "infos/"): array for name, array in changes.items()}
        path = tmp_path / "data.hdf5"
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                if array is not None:
                    file[name] = array
        return path

    return write


def refusal(path, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert caught.value.code == 3
    assert str(path) in str(caught.value)
    assert caught.value.help
    return caught.value


def test_next_observations_are_made_within_episodes_only(write):
    data = read(write())
    first = data.next_observations[:, 0]
    # The terminal row 2, the timeout 5 and the last row keep their own observation.
    np.testing.assert_array_equal(first, [1, 2, 2, 4, 5, 5, 7, 7])
    np.testing.assert_array_equal(data.known_next, [1, 1, 1, 1, 1, 0, 1, 0])


def test_stored_next_observations_are_kept_and_unknown_at_a_timeout(write):
    following = np.full((N, 2), 0.5, np.float32)
    data = read(write(next_observations=following))
    np.testing.assert_array_equal(data.next_observations, following)
    np.testing.assert_array_equal(data.known_next, [1, 1, 1, 1, 1, 0, 1, 1])


def test_a_timeout_that_is_terminal_is_known(write):
    flags = np.arange(N) == 3
    for following in (None, np.zeros((N, 2))):
        assert read(write(next_observations=following, terminals=flags, timeouts=flags)).known_next[3]


def test_the_file_says_which_next_observations_hold(write):
    valid = ~np.isin(np.arange(N), [2, 4])
    data = read(write(next_observations=np.zeros((N, 2)), infos_next_observation_valid=valid))
    # Row 2 is terminal; at the timeout in row 5 the file vouches for what follows.
    np.testing.assert_array_equal(data.known_next, [1, 1, 1, 1, 0, 1, 1, 1])


def test_a_file_that_never_says_what_followed_is_refused(write):
    nowhere = np.zeros(N, bool)
    never = write(next_observations=np.zeros((N, 2)), infos_next_observation_valid=nowhere, terminals=nowhere)
    assert "no row has a known next observation" in str(refusal(never))


def test_the_horizon_stands_in_for_missing_timeouts(write):
    path = write(timeouts=None)
    np.testing.assert_array_equal(np.flatnonzero(read(path, horizon=2).timeouts), [1, 4, 6])
    np.testing.assert_array_equal(np.flatnonzero(read(path, horizon=3).timeouts), [5])
    assert not read(path).timeouts.any()
    np.testing.assert_array_equal(read(path).episodes(), [[0, 3], [3, 8]])
    np.testing.assert_array_equal(read(path, horizon=3).known_next, [1, 1, 1, 1, 1, 0, 1, 0])


def test_episodes_and_returns(write):
    data = read(write())
    assert len(data) == N
    np.testing.assert_array_equal(data.episodes(), [[0, 3], [3, 6], [6, 8]])
    np.testing.assert_array_equal(data.episode_returns(), [3, 12, 13])
    np.testing.assert_array_equal(np.flatnonzero(data.terminals), [2])  # `episodes` changes no flag


def test_reward_transforms(write):
    data = read(write())
    np.testing.assert_array_equal(data.transformed_rewards("none"), data.rewards)
    np.testing.assert_array_equal(data.transformed_rewards("minus_one"), data.rewards - 1)
    scaled = data.transformed_rewards("return_range")
    np.testing.assert_allclose(scaled, data.rewards * 100, rtol=1e-6)  # 1000 / (13 - 3)
    assert scaled.dtype == np.float32
    with pytest.raises(UsageError, match="did you mean 'return_range'"):
        data.transformed_rewards("returns_range")


def test_returns_without_a_range_cannot_scale_rewards(write):
    data = read(write(rewards=np.zeros(N)))
    with pytest.raises(InputError, match=r"data\.hdf5: .*3 episode\(s\), all of return 0"):
        data.transformed_rewards("return_range")


def test_types_become_float32_and_bool(write):
    data = read(
        write(
            observations=np.zeros((N, 2), np.float64),
            actions=np.zeros((N, 1), np.int64),
            rewards=np.ones((N, 1), bool),  # a column, as some D4RL files have it
            terminals=np.zeros((N, 1), np.float32),
            timeouts=np.zeros(N, np.uint8),
        )
    )
    for name in ("observations", "actions", "rewards", "next_observations"):
        assert getattr(data, name).dtype == np.float32
    for name in ("terminals", "timeouts", "known_next"):
        assert getattr(data, name).dtype == bool
    assert data.rewards.shape == data.terminals.shape == (N,)


@pytest.mark.parametrize("following", [None, np.full((N, 2), 0.5)])
def test_packed_rows_hold_whole_transitions_in_the_memory_of_the_data(write, following):
    data = read(write(next_observations=following))
    copies = [getattr(data, name).copy() for name in ("observations", "actions", "next_observations")]
    rows = data.packed("minus_one")
    expected = [*copies[:2], data.rewards[:, None] - 1, data.terminals[:, None], copies[2]]
    np.testing.assert_array_equal(rows, np.concatenate(expected, axis=1))
    assert (rows.dtype, rows.flags.c_contiguous) == (np.float32, True)
    for name, copy in zip(("observations", "actions", "next_observations"), copies, strict=True):
        assert np.shares_memory(rows, getattr(data, name))
        np.testing.assert_array_equal(getattr(data, name), copy)
    np.testing.assert_array_equal(replace(data, table=None).packed("minus_one"), rows)


@pytest.mark.parametrize("chunks", [None, (3, 1)])
@pytest.mark.parametrize("following", [None, np.arange(2 * N).reshape(N, 2)])
def test_blocks_are_no_part_of_what_is_read(write, monkeypatch, chunks, following):
    path = write(next_observations=following, observations=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("observations", data=np.random.default_rng(0).normal(size=(N, 2)), chunks=chunks)
    whole = read(path)
    for block in (1, 2, 5, N):
        monkeypatch.setattr(transitions, "BLOCK", block)
        found = read(path)
        for name in ("observations", "actions", "next_observations", "known_next"):
            np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))


def test_actions_outside_are_refused_or_clipped(write):
    actions = np.zeros((N, 1), np.float32)
    actions[[1, 6], 0] = 1.5, -3.25
    path = write(actions=actions)
    error = refusal(path)
    assert "25.00% of actions leave [-1, 1], by up to |a| = 3.25" in str(error)
    assert error.help == "add --clip-actions"
    np.testing.assert_array_equal(read(path, clip_actions=True).actions[[0, 1, 6], 0], [0, 1, -1])


def test_rounding_is_clipped_silently(write):
    assert np.abs(read(write(actions=np.full((N, 1), 1 + 5e-7))).actions).max() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rewards": None}, "rewards is missing"),
        ({"actions": None, "action": np.zeros((N, 1))}, "actions is missing (did you mean 'action'?)"),
        ({"rewards": np.zeros(N - 1)}, "rows differ: observations 8, actions 8, rewards 7, terminals 8"),
        ({"observations": np.zeros(N)}, "observations has shape (8,), not (rows, dimensions)"),
        ({"rewards": np.zeros((N, 2))}, "rewards has shape (8, 2), not (rows,)"),
        ({"observations": np.zeros((0, 2))}, "observations is empty: shape (0, 2)"),
        ({"terminals": ["no"] * N}, "terminals holds object, not numbers"),
        ({"next_observations": np.zeros((N, 3))}, "observations have 2 dimensions, next_observations 3"),
    ],
)
def test_unsuitable_data_is_named(write, changes, message):
    error = refusal(write(**changes))
    assert message in str(error)
    assert "D4RL's layout" in error.help


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"observations": np.where(np.arange(2 * N) % 5 == 4, np.nan, 0).reshape(N, 2)},
            "observations has 3 NaN or infinite value(s), the first in row 2",
        ),
        ({"rewards": np.array([0, np.inf] * 4)}, "rewards has 4 NaN or infinite value(s), the first in row 1"),
    ],
)
def test_values_that_are_not_finite_are_named(write, changes, message):
    error = refusal(write(**changes))
    assert message in str(error)
    assert "layout" not in error.help


def test_a_group_is_not_an_array(write, tmp_path):
    path = write(rewards=None)
    with h5py.File(path, "a") as file:
        file.create_group("rewards")
    assert "rewards has shape None" in str(refusal(path))


def test_all_problems_come_at_once(write):
    bad = np.array([[0], [np.nan], [9], [0]])
    error = refusal(write(rewards=None, terminals=np.zeros((N, 3)), actions=bad))
    for problem in (
        "rewards is missing",
        "terminals has shape",
        "actions has 1 NaN",
        "rows differ",
        "|a| = 9",
    ):
        assert problem in str(error)
    assert "\n" not in str(error)
    assert error.help.endswith("add --clip-actions")


def test_a_missing_file(tmp_path):
    assert "no such file" in str(refusal(tmp_path / "none.hdf5"))


@pytest.mark.parametrize("share", [0.9, 0.5, 0.01])
def test_a_truncated_file_is_corrupt(write, share):
    path = write(observations=np.zeros((N, 500)))
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(CorruptError, match=re.escape(str(path))) as caught:
        read(path)
    assert caught.value.code == 4


def test_another_format_is_corrupt(tmp_path):
    path = tmp_path / "data.hdf5"
    path.write_bytes(b"<html>Forbidden</html>")
    with pytest.raises(CorruptError, match="not a whole HDF5 file"):
        read(path)


def test_damage_inside_a_compressed_chunk_is_corrupt(tmp_path, write):
    path = write(observations=None)
    with h5py.File(path, "a") as file:
        rows = np.random.default_rng(0).normal(size=(N, 200)).astype(np.float32)
        stored = file.create_dataset("observations", data=rows, chunks=(N, 200), compression="gzip")
        middle = stored.id.get_chunk_info(0).byte_offset + stored.id.get_storage_size() // 2
    with open(path, "r+b") as file:
        file.seek(middle)
        file.write(b"\xff" * 64)
    with pytest.raises(CorruptError):
        read(path)


def test_environments_are_made_quietly(recwarn):
    env = environments.make("HalfCheetah-v4")
    assert env.spec.id == "HalfCheetah-v4"
    assert not [warning for warning in recwarn if "out of date" in str(warning.message)]
    env.close()


def test_an_environment_that_cannot_be_made_is_a_usage_error():
    with pytest.raises(UsageError, match="did you mean"):
        environments.make("Hoper-v4")
    gymnasium.register("Broken-v0", entry_point="no_such_module:Broken")
    try:
        with pytest.raises(UsageError, match="Broken-v0 cannot be made: No module named 'no_such_module'"):
            environments.make("Broken-v0")
    finally:
        del gymnasium.registry["Broken-v0"]


def test_actions_are_rescaled_to_the_bounds():
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 10.0])
    np.testing.assert_allclose(
        environments.rescale(np.array([[-1, -1], [0, 0], [1, 0.5]]), low, high), [[-2, 0], [0, 5], [2, 7.5]]
    )


def test_data_and_environment_must_agree(write):
    pendulum = environments.make("Pendulum-v1")
    environments.check(pendulum, read(write(observations=np.zeros((N, 3)))))
    with pytest.raises(InputError, match=r"observations have 2 dimensions, those of Pendulum-v1 3"):
        environments.check(pendulum, read(write()))
    with pytest.raises(InputError, match=r"actions have 4 dimensions, those of Pendulum-v1 1"):
        environments.check(pendulum, read(write(observations=np.zeros((N, 3)), actions=np.zeros((N, 4)))))
    with pytest.raises(InputError, match=r"CartPole-v1: Discrete\(2\) is not a space of vectors"):
        environments.check(environments.make("CartPole-v1"), read(write(observations=np.zeros((N, 4)))))


def test_actions_without_bounds_are_refused(write):
    env = environments.make("Pendulum-v1")
    for space in (gymnasium.spaces.Box(-np.inf, np.inf, (1,)), gymnasium.spaces.Box(0, 5, (1,), np.int64)):
        env.action_space = space
        with pytest.raises(InputError, match=r"Pendulum-v1: its actions, .* have no bounds"):
            environments.check(env, read(write(observations=np.zeros((N, 3)))))


def test_rescaled_actions_stay_within_bounds():
    """Here -3 + 2 * 3.2 / 2 is 0.20000005 in float32."""
    low, high = np.float32([-3]), np.float32([0.2])
    assert low + 2 * (high - low) / 2 > high
    np.testing.assert_array_equal(environments.rescale(np.float32([[-1], [1]]), low, high), [low, high])


@pytest.mark.parametrize(
    ("name", "rows", "episodes", "widths", "returns", "known"),
    [
        ("pendulum-replay-d3rlpy-v1.1.0", 99_500, 500, (3, 1), (-180, -1778, -1), 99_000),
        ("pendulum-medium-sac-rllib", 10_000, 50, (3, 1), (-524, -1261, -1), 10_000),
        ("adroit-door-human-dapg", 6_729, 25, (39, 28), (794, 230, 1496), 6_704),
        ("cs285-expert-halfcheetah-v4", 2_000, 2, (17, 6), (4035, None, None), 2_000),
        ("cs285-expert-hopper-v4", 2_000, 2, (11, 3), (3718, None, None), 2_000),
        ("cs285-expert-walker2d-v4", 2_000, 2, (17, 6), (5383, None, None), 2_000),
    ],
)
def test_real_data(name, rows, episodes, widths, returns, known):
    path = real(name)
    if name.startswith("cs285"):
        assert "--clip-actions" in refusal(path).help
    data = read(path, clip_actions=True)
    assert len(data) == rows
    assert len(data.episodes()) == episodes
    assert (data.observations.shape[1], data.actions.shape[1]) == widths
    found = data.episode_returns()
    for value, expected in zip((found.mean(), found.min(), found.max()), returns, strict=True):
        assert expected is None or value == pytest.approx(expected, abs=0.6)
    assert data.known_next.sum() == known


@pytest.mark.parametrize("robot", ["halfcheetah", "hopper", "walker2d"])
def test_one_step_of_the_environment_is_the_recorded_one(robot):
    """Put the robot where the recording says it was, act, and see it get where the recording says it got."""
    data = read(real(f"cs285-expert-{robot}-v4"), clip_actions=True)
    world = environments.make(get(f"{robot}-expert-v2").environment).unwrapped
    world.reset(seed=0)
    # Hopper and Walker2d show speeds clipped to 10: where one is, the state is not known.
    speeds = np.abs(data.observations[:, world.model.nq - 1 :]).max(axis=1)
    rows = np.flatnonzero(data.known_next & ((speeds < 10) | (robot == "halfcheetah")))
    off = np.empty(len(rows))
    for i, row in enumerate(rows):
        state = data.observations[row].astype(np.float64)  # without the way that was made, which is not observed
        world.set_state(np.concatenate([[0.0], state[: world.model.nq - 1]]), state[world.model.nq - 1 :])
        reached, *_ = world.step(data.actions[row].astype(np.float64))
        off[i] = np.abs(reached - data.next_observations[row]).max()
    assert len(rows) > 200
    assert np.quantile(off, 0.9) < 1e-5
