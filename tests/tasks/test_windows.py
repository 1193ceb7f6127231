"""Windows of the data by hand and by their definition, and the transitions of generated ones."""

import h5py
import numpy as np
import pytest

from swgctl.errors import InputError
from swgctl.tasks import layout, transitions
from swgctl.tasks.transitions import Transitions
from swgctl.tasks.windows import counts, starts, transitions_of


def data_of(rows: int, terminals: list[int], timeouts: list[int]) -> Transitions:
    """Data whose observations and rewards are the row numbers, with ends at the given rows."""
    number = np.arange(rows)
    flat = number.astype(np.float32)
    return Transitions(
        flat[:, None],
        np.zeros((rows, 1), np.float32),
        flat,
        flat[:, None],
        np.isin(number, terminals),
        np.isin(number, timeouts),
        np.ones(rows, bool),
    )


@pytest.fixture
def by_hand() -> Transitions:
    """Rows 0 to 5 end in a terminal, 6 to 12 in a timeout, 13 to 16 are unfinished."""
    return data_of(17, [5], [12])


@pytest.mark.parametrize(
    ("stride", "expected"), [(2, [0, 2, 6, 7, 13]), (1, [0, 1, 2, 6, 7, 8, 13]), (100, [0, 2, 6, 13])]
)
def test_starts_by_hand(by_hand, stride, expected):
    """Of the valid starts 0 1 2 6 7 8 9 13: 2 ends in the terminal, 9 in the timeout; 0, 6 and 13 begin episodes."""
    found = starts(by_hand, 4, stride)
    assert found.dtype == np.int64
    assert found.tolist() == expected


def brute_force(data: Transitions, length: int, stride: int) -> list[int]:
    """The published rules, window by window."""
    ends = data.terminals | data.timeouts
    valid = [i for i in range(len(data) - length + 1) if not ends[i : i + length - 1].any()]
    begins = [i for i in valid if i == 0 or ends[i - 1]]
    terminal = [i for i in valid if data.terminals[i + length - 1]]
    cut = {i for i in valid if data.timeouts[i + length - 1] and not data.terminals[i + length - 1]}
    return sorted({*valid[::stride], *begins, *terminal} - cut)


@pytest.mark.parametrize("length", [2, 3, 5, 16])
@pytest.mark.parametrize("stride", [1, 3, 8])
def test_starts_are_those_of_the_definition(length, stride):
    draw = np.random.default_rng(length)
    for _ in range(20):
        rows = int(draw.integers(60, 200))
        terminals, timeouts = (np.flatnonzero(draw.random(rows) < 0.02).tolist() for _ in range(2))
        data = data_of(rows, terminals, timeouts)
        expected = brute_force(data, length, stride)
        if expected:
            assert starts(data, length, stride).tolist() == expected
        else:
            with pytest.raises(InputError):
                starts(data, length, stride)


def test_a_row_that_is_terminal_when_the_clock_stops_ends_a_window():
    assert starts(data_of(8, [3, 7], [7]), 4, 1).tolist() == [0, 4]


def test_windows_longer_than_every_episode_are_refused(by_hand):
    """The episodes have 6, 7 and 4 rows; the 7th row of the second is a timeout."""
    assert starts(by_hand, 6, 1).tolist() == [0, 6]
    with pytest.raises(InputError, match=r"no window of 7 rows fits.* has 6$") as caught:
        starts(by_hand, 7, 1)
    assert caught.value.help == "--set trajectories.length=6"
    with pytest.raises(InputError) as caught:
        starts(data_of(3, [], [0, 1, 2]), 2, 1)
    assert "--set" not in caught.value.help
    with pytest.raises(InputError, match=r"has 3$"):
        starts(data_of(3, [], []), 4, 1)


@pytest.mark.parametrize("stride", [1, 2, 100])
def test_counts_are_of_windows_that_hold_a_row(by_hand, stride):
    first = starts(by_hand, 4, stride)
    expected = [sum(i <= row < i + 4 for i in first) for row in range(17)]
    assert counts(first, 4, 17).tolist() == expected
    assert counts(first, 4, 17).sum() == 4 * len(first)


@pytest.fixture
def generated() -> dict:
    """Two members' three windows of five rows; each number says its member, window and row."""
    member, window, row = np.meshgrid(range(2), range(3), range(5), indexing="ij")
    number = (100 * member + 10 * window + row).astype(np.float32)
    terminals = (number == 112) | (number == 3) | (number == 4)  # within a window, and the last two rows of one
    return {
        "observations": np.stack([number, -number], axis=-1),
        "actions": number[..., None] / 1000,
        "rewards": number + 0.5,
        "terminals": terminals,
    }


def test_transitions_of_generated_windows(generated):
    flat = transitions_of(**generated, seeds=[4, 7], returns=(1.0, 2.0, 3.0)).fields()
    first = [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    rows = np.array([*first, *(100 + n for n in first)], np.float32)
    np.testing.assert_array_equal(flat["observations"], np.stack([rows, -rows], axis=1))
    np.testing.assert_array_equal(flat["next_observations"][:, 0], rows + 1)
    np.testing.assert_array_equal(flat["actions"][:, 0], rows / np.float32(1000))
    np.testing.assert_array_equal(flat["rewards"], rows + 0.5)
    assert rows[flat["terminals"]].tolist() == [3, 112]
    assert rows[flat["timeouts"]].tolist() == [13, 23, 103, 113, 123]
    assert flat["infos/next_observation_valid"].all()
    assert flat["infos/seed"].tolist() == [4] * 12 + [7] * 12
    assert list(flat) == list(layout.SYNTHETIC)


def test_a_written_set_is_read_back(generated, tmp_path):
    flat = transitions_of(**generated, seeds=[4, 7], returns=(1.0, 2.0, 3.0)).fields()
    path = tmp_path / "data.hdf5"
    with h5py.File(path, "w") as file:
        writer = layout.Writer(file, layout.SYNTHETIC)
        for name, array in flat.items():
            writer.put(name, array)
    writer.check(path)
    data = transitions.read(path)
    for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts"):
        np.testing.assert_array_equal(getattr(data, name), flat[name], err_msg=name)
    assert data.known_next.all()
