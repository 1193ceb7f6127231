"""Bytes on disk: JSON read and written quickly, and HDF5 written where a disk may fill up."""

import errno
import io
import json
import os
import resource
import subprocess
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from swgctl.errors import CorruptError, Interrupted
from swgctl.files import (
    is_component,
    line,
    new_hdf5,
    parse,
    read_header,
    read_regular,
    read_tensors,
    sha256,
    write_tensors,
    write_text,
)

VALUES = [
    {"a": [1, -2.5, 1e-7, 1e300, 5e-324, 0.1 + 0.2, -0.0, 10**30], "b": {"c": None, "d": [True, False, ""]}},
    {"é": '\u2028 \U0001f600 " \\ \n \x00'},
    {"path": "/data/\udcff.hdf5"},  # a name that is no UTF-8, as Python has it
]


@pytest.mark.parametrize("value", VALUES)
def test_a_line_of_json_is_what_pythons_own_reads(value):
    text = line(value)
    assert text.isascii()
    assert "\n" not in text
    assert json.loads(text) == value


@pytest.mark.parametrize("value", VALUES)
def test_parse_reads_what_pythons_own_wrote(value):
    for options in ({}, {"indent": 1}, {"ensure_ascii": False}):
        text = json.dumps(value, **options).encode(errors="surrogatepass")
        assert parse(text) == json.loads(text) == value


BROKEN = [b"", b"{", b'{"a": 1} {}', b"\xff\xfe", b'{"a": 01}', b"[" * 100_000, '{"a": 1}'.encode("utf-16")]


@pytest.mark.parametrize("text", BROKEN)
def test_damaged_json_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011 - of either reader
        parse(text)


# -- text --------------------------------------------------------------------------------------------------------------


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    for target in ("old.txt", "new.txt"):
        (tmp_path / "old.txt").write_text("old")
        link = tmp_path / f"to-{target}"
        link.symlink_to(target)
        write_text(link, "text")
        assert link.is_symlink()
        assert (tmp_path / target).read_text() == "text"


def test_a_pipe_is_written_into(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE, text=True) as reader:
        write_text(tmp_path / "pipe", "text")
        assert reader.communicate(timeout=30)[0] == "text"
    assert (tmp_path / "pipe").is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


# -- regular files -----------------------------------------------------------------------------------------------------


def test_only_a_regular_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        for read in (sha256, lambda path: read_regular(path, 10)):
            with pytest.raises(OSError, match="not a regular file"):
                read(path)


def test_a_file_is_read_up_to_a_size(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 10)
    assert read_regular(tmp_path / "file", 10) == b"x" * 10
    with pytest.raises(OSError, match="longer than 9 bytes"):
        read_regular(tmp_path / "file", 9)


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_tensors_follow_the_umask_as_other_files_do(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "a.safetensors", {"a": torch.ones(3)}, {"step": 1})
        (tmp_path / "b").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "b").stat().st_mode
    assert read_tensors(tmp_path / "a.safetensors")[1] == {"step": 1}


@pytest.mark.parametrize("name", ["demo", "a.b-c_d", "_x", "20000", "x" * 255])
def test_a_component_of_a_path(name):
    assert is_component(name)


@pytest.mark.parametrize("name", ["", ".", "..", ".x", "-x", "a/b", "a b", "a\n", "x\x00", "é", "x" * 256, 3, None])
def test_what_is_no_component_of_a_path(name):
    assert not is_component(name)


# -- HDF5 --------------------------------------------------------------------------------------------------------------

ARRAYS = {
    "observations": np.arange(30_000, dtype=np.float32).reshape(-1, 3),
    "terminals": np.arange(10_000) % 7 == 0,
    "infos/q": np.ones((2, 10_000), np.float32),
}


def write(path) -> None:
    with new_hdf5(path) as file:
        file.attrs["swg"] = "about"
        for name, array in ARRAYS.items():
            dataset = file.create_dataset(name, array.shape, array.dtype)
            for start in range(0, len(array), 999):
                dataset[start : start + 999] = array[start : start + 999]
            dataset.attrs["units"] = "1"


def test_an_hdf5_file_in_blocks_has_the_bytes_of_one_written_at_once(tmp_path):
    write(tmp_path / "blocks.hdf5")
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.attrs["swg"] = "about"
        for name, array in ARRAYS.items():
            file.create_dataset(name, data=array).attrs["units"] = "1"
    assert (tmp_path / "blocks.hdf5").read_bytes() == image.getvalue()


@pytest.mark.parametrize("share", [0, 0.001, 0.01, 0.3, 0.5, 0.9, 1])
def test_wherever_the_disk_fills_up_it_is_an_error_of_the_system(tmp_path, share):
    """Up to the last byte but one; with all of them, it is none."""
    write(tmp_path / "whole.hdf5")
    size = (tmp_path / "whole.hdf5").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int((size - 1) * share), limits[1]))
    try:
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number follows
            write(tmp_path / "cut.hdf5")
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        write(tmp_path / "fits.hdf5")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.errno == errno.EFBIG
    assert (tmp_path / "fits.hdf5").read_bytes() == (tmp_path / "whole.hdf5").read_bytes()


def test_what_stops_the_writing_comes_through(tmp_path):
    def stopped() -> None:
        with new_hdf5(tmp_path / "data.hdf5") as file:
            file["rewards"] = np.ones(1000)
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        stopped()


@pytest.mark.parametrize("tensor", [{}, {"dtype": 5}, {"shape": 3}, {"dtype": None}, {"data_offsets": [0]}], ids=str)
def test_a_header_of_another_form_is_damage(tensor, tmp_path):
    whole = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"a": whole | tensor if tensor else {}}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CorruptError, match="not a whole safetensors file"):
        read_header(path)
