"""HDF5 files that are not only their own, or larger than they can be: refused before another file is opened."""

import contextlib
import os
import shutil

import h5py
import numpy as np
import pytest
from support.harness import swgctl, write_pendulum
from support.minari_sets import PENDULUM

from swgctl.errors import CorruptError, InputError
from swgctl.tasks import hdf5, minari_data, transitions

ROWS = 400


def external_link(file, other):
    file["rewards"] = h5py.ExternalLink(other, "rewards")


def soft_link_to_an_external_one(file, other):
    file["elsewhere"] = h5py.ExternalLink(other, "/")
    file["rewards"] = h5py.SoftLink("/elsewhere/rewards")


def links_in_a_circle(file, other):
    file["rewards"], file["again"] = h5py.SoftLink("/again"), h5py.SoftLink("/rewards")


def virtual(file, other):
    layout = h5py.VirtualLayout((ROWS,), "f4")
    layout[:] = h5py.VirtualSource(other, "rewards", (ROWS,))
    file.create_virtual_dataset("rewards", layout)


def stored_elsewhere(file, other):
    file.create_dataset("rewards", (ROWS,), "f4", external=[(other, 0, 4 * ROWS)])


def many_rows(file, other):
    file.create_dataset("rewards", (2**62,), "f4", chunks=(1024,))


def a_trillion_rows(file, other):
    file.create_dataset("rewards", (10**12,), "f4", chunks=(1024,))


def wide(file, other):
    """Of a gigabyte in itself, and a table of terabytes beside the observations of other rows."""
    del file["observations"]
    file["observations"] = np.zeros((8, 20_000), "f4")
    file.create_dataset("rewards", (2**28,), "u1", chunks=(1024,))


DEEDS = {
    external_link: "is a link to another file",
    soft_link_to_an_external_one: "is a link to another file",
    links_in_a_circle: "is one of too many links",
    virtual: "is a virtual data set",
    stored_elsewhere: "is stored in another file",
    many_rows: "more than a file of",
    a_trillion_rows: "more than a file of",
    wide: "and this machine has",
}


@pytest.fixture
def hostile(tmp_path):
    """hostile(deed, other) -> a file whose rewards are what `deed` makes them, `other` being another file's name."""

    def write(deed, other="other.hdf5"):
        write_pendulum(tmp_path / "other.hdf5")
        path = write_pendulum(tmp_path / "hostile.hdf5", rewards=None)
        with h5py.File(path, "a") as file:
            deed(file, other)
        return path

    return write


@pytest.mark.parametrize(("deed", "words"), DEEDS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_arrays_of_other_files_or_beyond_the_file_are_refused(hostile, deed, words):
    path = hostile(deed)
    swgctl("critic", path, "--env", "Pendulum-v1").refused(3, str(path), words)
    assert words in transitions.survey(path)["problems"][0]


@pytest.mark.parametrize("deed", [external_link, soft_link_to_an_external_one, virtual, stored_elsewhere])
def test_the_other_file_is_never_opened(hostile, tmp_path, deed):
    """Opening a pipe would wait for ever."""
    path = hostile(deed, str(tmp_path / "pipe"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError):
        transitions.read(path)


def test_links_within_the_file_are_followed(tmp_path):
    path = write_pendulum(tmp_path / "data.hdf5", rewards=None, **{"infos/own": np.arange(ROWS, dtype="f4")})
    with h5py.File(path, "a") as file:
        file["rewards"] = h5py.SoftLink("/infos/own")
    np.testing.assert_array_equal(transitions.read(path).rewards, np.arange(ROWS))


@pytest.mark.parametrize("path", ["none", "observations/none", ".", "..", "infos/..", "dangling"])
def test_a_path_to_nothing_is_none(tmp_path, path):
    with h5py.File(write_pendulum(tmp_path / "data.hdf5"), "a") as file:
        file["dangling"] = h5py.SoftLink("/nothing")
        assert hdf5.member(file, path) is None


def test_arrays_that_were_never_written_are_as_large_as_they_say(tmp_path):
    """They take no space in the file, and are its fill value."""
    path = write_pendulum(tmp_path / "data.hdf5", terminals=None)
    with h5py.File(path, "a") as file:
        file.create_dataset("terminals", (ROWS,), bool)
    assert not transitions.read(path).terminals.any()


# -- Minari's own files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (external_link, "rewards is a link"),
        (virtual, "rewards takes its values from other files"),
        (stored_elsewhere, "rewards takes its values from other files"),
        (many_rows, "more than a file of"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_minari_set_is_held_to_the_same(folder, tmp_path, said, deed, words):
    with h5py.File(folder / PENDULUM / "data" / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
        deed(file["episode_1"], "other.hdf5")
    with pytest.raises(InputError, match=words):
        minari_data.build(PENDULUM, tmp_path / "converted", said.append)
    assert not list((tmp_path / "converted").glob("*.hdf5"))


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_any_flipped_byte_gives_data_or_one_error(tmp_path):
    whole = write_pendulum(tmp_path / "whole.hdf5")
    content, random = whole.read_bytes(), np.random.default_rng(0)
    for _ in range(2_000):
        damaged = bytearray(content)
        for place in random.integers(len(content) if random.random() < 0.5 else 4_096, size=random.integers(1, 9)):
            damaged[place] = random.integers(256)
        path = tmp_path / "damaged.hdf5"
        path.write_bytes(damaged)
        for look in (transitions.read, transitions.survey):
            with contextlib.suppress(InputError, CorruptError):
                look(path)


def test_a_copy_of_a_sound_file_is_sound(tmp_path, folder):
    path = shutil.copyfile(folder / PENDULUM / "data" / "main_data.hdf5", tmp_path / "copy.hdf5")
    assert hdf5.problem(path) is None
