"""A checkpoint whose metadata somebody else wrote, and signed: it is damaged, whatever they are."""

import os

import pytest
import torch

from swgctl import files
from swgctl.errors import CorruptError, InputError, Interrupted, UsageError
from swgctl.files import canonical, read_tensors, write_tensors
from swgctl.training import loop, train

SEEDS, STEPS = [3, 4], 40


class Sum:
    """Two members' sums of normal numbers."""

    chunk = 8

    def __init__(self, stop: bool = False):
        self.total, self.stop, self.taken = torch.zeros(2), stop, 0

    def draw(self, streams):
        return {"x": torch.stack([torch.randn(self.chunk, generator=g) for g in streams("x")], 1)}

    def step(self, drawn):
        self.total += drawn["x"]
        self.taken += 1
        if self.stop and self.taken == 13:
            os.kill(os.getpid(), 15)
        return {"loss": self.total**2}

    def state(self):
        return {"total": self.total}


def run(learner, work):
    return train(learner, name="sum", seeds=SEEDS, steps=STEPS, work=work, device=torch.device("cpu"))


@pytest.fixture
def checkpoint(tmp_path):
    """The checkpoint of a run that was stopped at step 13."""
    with pytest.raises(Interrupted):
        run(Sum(stop=True), tmp_path)
    return tmp_path / "checkpoint.safetensors"


@pytest.mark.parametrize(("begun", "then"), [("A100, 108", "A100, 108"), (None, "unknown")])
def test_a_checkpoint_of_another_gpu_is_refused_since_its_draws_would_be_others(begun, then, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "card", lambda device: begun)
    with pytest.raises(Interrupted):
        run(Sum(stop=True), tmp_path)
    monkeypatch.setattr(loop, "card", lambda device: "H100, 132")
    with pytest.raises(InputError, match=rf"begun on another GPU \({then}\) than H100, 132") as caught:
        run(Sum(), tmp_path)
    assert caught.value.help == f"rm -r {tmp_path}   # to start over here"
    monkeypatch.setattr(loop, "card", lambda device: begun)
    resumed, whole = Sum(), Sum()
    run(resumed, tmp_path)
    run(whole, tmp_path / "whole")
    assert torch.equal(resumed.total, whole.total)


def test_a_checkpoint_of_products_of_another_precision_is_refused(checkpoint, tmp_path, monkeypatch):
    before = loop.arithmetic("fp32", "cpu", "eager")
    monkeypatch.setattr(loop, "arithmetic", lambda precision, device, mode: "bf16")
    with pytest.raises(InputError, match=f"products are {before}, and here they are bf16") as caught:
        run(Sum(), tmp_path)
    assert caught.value.help == f"rm -r {tmp_path}   # to start over here"
    monkeypatch.undo()
    assert len(run(Sum(), tmp_path)) == len(run(Sum(), tmp_path / "whole"))


def sign(path, meta) -> None:
    """Write the checkpoint's tensors with other metadata, and their checksum where they can have one."""
    tensors, _ = read_tensors(path)
    if isinstance(meta, dict):
        meta = meta | {"sha256": files._checksum(tensors, meta)}
    write_tensors(path, tensors, meta)


def test_a_checkpoint_that_was_signed_again_is_taken(checkpoint, tmp_path):
    _, meta = read_tensors(checkpoint)
    del meta["sha256"]
    sign(checkpoint, meta)
    learner, plain = Sum(), Sum()
    rows = run(learner, tmp_path)
    assert rows[-1]["step"] == STEPS
    run(plain, tmp_path / "plain")
    assert torch.equal(learner.total, plain.total)


@pytest.mark.parametrize(
    "change",
    [
        lambda meta: 5,
        lambda meta: [],
        lambda meta: {},
        lambda meta: meta | {"step": "13"},
        lambda meta: meta | {"step": -1},
        lambda meta: meta | {"step": STEPS + 1},
        lambda meta: meta | {"step": True},
        lambda meta: meta | {"counted": 10**30},
        lambda meta: meta | {"rows": 5},
        lambda meta: meta | {"rows": [5]},
        lambda meta: meta | {"rows": [{"step": 1}]},
        lambda meta: meta | {"rows": [{"step": 1, "train_s": 0.0, "loss": [1.0]}]},
        lambda meta: meta | {"sums": 5},
        lambda meta: meta | {"sums": {"loss": 5}, "counted": 1},
        lambda meta: meta | {"sums": {"loss": ["a", "b"]}, "counted": 1},
        lambda meta: meta | {"sums": {"loss": [[1.0], [1.0]]}, "counted": 1},
        lambda meta: meta | {"sums": {}, "counted": 1},
    ],
)
def test_metadata_of_another_shape_are_damage(checkpoint, tmp_path, change):
    _, meta = read_tensors(checkpoint)
    del meta["sha256"]
    sign(checkpoint, change(meta))
    learner = Sum()
    with pytest.raises(CorruptError, match="checkpoint") as caught:
        run(learner, tmp_path)
    assert caught.value.help == f"rm -r {tmp_path}   # then start again"
    assert not learner.total.any()


def test_metadata_that_are_nested_deeply_are_damage(checkpoint, tmp_path):
    raw = checkpoint.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = canonical({"__metadata__": {"swg": "[" * 100_000}}).encode()
    checkpoint.write_bytes(len(header).to_bytes(8, "little") + header + raw[8 + size :])
    with pytest.raises(CorruptError):
        run(Sum(), tmp_path)


def test_a_pipe_is_no_checkpoint(checkpoint, tmp_path):
    checkpoint.unlink()
    os.mkfifo(checkpoint)
    with pytest.raises(CorruptError, match="not a regular file"):
        run(Sum(), tmp_path)


def test_a_checkpoint_that_may_not_be_read_is_another_users(checkpoint, tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(loop, "read_signed", refused)
    with pytest.raises(InputError, match="Permission denied") as caught:
        run(Sum(), tmp_path)
    assert caught.value.help.startswith(f"chmod a+r {checkpoint}")


@pytest.mark.parametrize("text", ["often", "nan", "inf", "-1", "1e9", "\x1b[31m"])
def test_the_seconds_between_checkpoints_are_a_number_within_a_day(text, tmp_path, monkeypatch):
    monkeypatch.setenv("SWGCTL_CHECKPOINT_EVERY", text)
    with pytest.raises(UsageError, match="SWGCTL_CHECKPOINT_EVERY must be a number of seconds from 0 to 86,400"):
        run(Sum(), tmp_path)
