"""Finished and running artifacts in TensorBoard, read back by its own reader, and event by event."""

import importlib.util
import json
import struct
import threading
import time
from pathlib import Path

import pytest
from support.harness import swgctl
from support.trackers import SEEDS, Training, board, events, record, rows, scalars

from swgctl.errors import BusyError, InputError, Interrupted, SwgError
from swgctl.trackers import follow, named
from swgctl.trackers.subject import announced, find, of

pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install 'swgctl[tensorboard]'")


def send(tmp_path, *subjects, **how) -> None:
    follow.send(subjects, named([f"tensorboard:{tmp_path / 'runs'}"]), every=0.01, **how)


def texts(folder: Path) -> dict[str, str]:
    return {
        value.tag: value.tensor.string_val[0].decode()
        for event in events(folder)
        for value in event.summary.value
        if value.tag.endswith("/text_summary")
    }


def check_points(tmp_path, what, steps: int) -> None:
    """Every row of both seeds is there, once."""
    for s, seed in enumerate(SEEDS):
        points = scalars(board(tmp_path, what, seed))
        expected = rows(steps)
        for name in ("loss", "q"):
            assert points[f"critic/{name}"] == pytest.approx({row["step"]: row[name][s] for row in expected}, rel=1e-6)
        assert points["critic/steps_per_s"] == pytest.approx({row["step"]: 5.0 for row in expected}, rel=1e-6)


# -- finished ----------------------------------------------------------------------------------------------------------


def test_every_seed_is_a_run_with_all_points_and_the_ending(finished, tmp_path):
    artifact = finished(50)
    send(tmp_path, of(artifact))
    check_points(tmp_path, artifact, 50)
    for s, seed in enumerate(SEEDS):
        points = scalars(board(tmp_path, artifact, seed))
        assert points["critic/final/loss"] == {51: 0.25}
        assert points["critic/final/holdout"] == {51: [0.5, 0.75][s]}
        report = texts(board(tmp_path, artifact, seed))["report/text_summary"]
        assert f"key `{artifact.key}`, digest `{artifact.digest}`" in report
        assert "| lr | 0.0003 |" in report


def test_times_are_those_of_the_training(finished, tmp_path):
    """The last row was measured when the artifact was made, the others by train_s before it."""
    artifact = finished(50)
    send(tmp_path, of(artifact))
    clock = {event.step: event.wall_time for event in events(board(tmp_path, artifact, 0)) if event.step}
    made = 1767323045.0  # 2026-01-02T03:04:05Z
    assert clock == {**{k: pytest.approx(made - (50 - k) / 5) for k in range(10, 51, 10)}, 51: pytest.approx(made)}


def test_parameters_and_lineage_are_the_configuration_and_paths_stay_here(finished, tmp_path):
    critic = finished(20)
    augment = finished(20, stage="augment", inputs={"critic": critic}, weight="linex")
    denoiser = finished(20, stage="diffuse", inputs={"augment": augment}, K=15)
    send(tmp_path, of(denoiser))
    text = texts(board(tmp_path, denoiser, 3))["configuration/text_summary"]
    config = json.loads(text.removeprefix("```json\n").removesuffix("\n```"))
    assert (config["stage"], config["seed"], config["seeds"], config["key"]) == ("diffuse", 3, SEEDS, denoiser.key)
    assert config["params"] == denoiser.params
    assert list(config["lineage"]) == ["augment", "augment/critic"]
    for role, parent in (("augment", augment), ("augment/critic", critic)):
        assert config["lineage"][role]["digest"] == parent.digest
        assert config["lineage"][role]["params"] == parent.params
    raw = b"".join(path.read_bytes() for path in board(tmp_path, denoiser, 3).iterdir())
    assert not any(word in raw for word in (b"private", str(tmp_path).encode()))


def test_what_was_sent_is_not_sent_again(finished, tmp_path):
    artifact = finished(50)
    send(tmp_path, of(artifact))
    before = {path: path.read_bytes() for path in (tmp_path / "runs").rglob("events*")}
    send(tmp_path, of(artifact))
    assert {path: path.read_bytes() for path in (tmp_path / "runs").rglob("events*")} == before


def test_the_figure_is_a_png(finished, tmp_path):
    artifact = finished(50)
    send(tmp_path, of(artifact))
    (image,) = [v.image for e in events(board(tmp_path, artifact, 0)) for v in e.summary.value if v.HasField("image")]
    assert image.encoded_image_string.startswith(b"\x89PNG\r\n")
    assert (image.width, image.height) == struct.unpack(">II", image.encoded_image_string[16:24])


def test_an_evaluation_has_each_seeds_scores_by_cell(store, tmp_path):
    made = {"at": "2026-01-02T03:04:05Z", "device": "cpu"}
    policy, _ = store.build(record("behaviour"), lambda *_: {"metrics": {}, "made": made})
    values = {(0, 0.0): [10.0, 20.0], (0, 5.0): [30.0], (3, 0.0): [1.0, 2.0], (3, 5.0): [4.0]}
    text = "seed,rho,candidates,temperature,episode,return,length,score\n" + "".join(
        f"{seed},{rho},8,1.0,{i},{value},1000,{value / 10}\n"
        for (seed, rho), returns in values.items()
        for i, value in enumerate(returns)
    )
    cells = [
        {"rho": rho, "candidates": 8, "temperature": 1.0, "seeds": 2, "episodes": 2, "interval_over": "seeds"}
        | {"return_mean": 1.5, "return_ci95": [1.0, 2.0], "score_mean": 15.04, "score_ci95": [10.0, 20.0]}
        for rho in (0.0, 5.0)
    ]

    def make(directory, work):
        (directory / "episodes.csv").write_text(text)
        return {"metrics": {"cells": cells}, "made": made}

    evaluation, _ = store.build(record("eval", {"behaviour": policy}), make)
    send(tmp_path, of(evaluation))
    for seed in SEEDS:
        points = scalars(board(tmp_path, evaluation, seed))
        for rho in (0, 5):
            returns = values[seed, rho]
            mean = sum(returns) / len(returns)
            assert points[f"eval/return/rho_{rho}_candidates_8_temperature_1"] == {1: pytest.approx(mean)}
            assert points[f"eval/score/rho_{rho}_candidates_8_temperature_1"] == {1: pytest.approx(mean / 10, rel=1e-6)}
        report = texts(board(tmp_path, evaluation, seed))["report/text_summary"]
        assert "| 5 | 8 | 1 | 1.50 | [1.00, 2.00] | 15.0 | [10.0, 20.0] |" in report


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
def test_tensorboards_own_reader_sees_the_same(finished, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    artifact = finished(50)
    send(tmp_path, of(artifact))
    for seed in SEEDS:
        reader = EventAccumulator(str(board(tmp_path, artifact, seed)), {"scalars": 0, "images": 0, "tensors": 0})
        reader.Reload()
        tags = reader.Tags()
        assert {tag: {e.step: e.value for e in reader.Scalars(tag)} for tag in tags["scalars"]} == scalars(
            board(tmp_path, artifact, seed)
        )
        assert tags["images"] == ["figures/training"]
        assert {"configuration/text_summary", "report/text_summary"} <= {*tags["tensors"]}
        (report,) = reader.Tensors("report/text_summary")
        assert artifact.digest in tensor_util.make_ndarray(report.tensor_proto)[0].decode()


# -- running -----------------------------------------------------------------------------------------------------------


class Follower:
    """`log --follow` in a thread."""

    def __init__(self, tmp_path, *subjects):
        self.error: SwgError | None = None
        self._thread = threading.Thread(target=self._run, args=(tmp_path, subjects))
        self._thread.start()

    def _run(self, tmp_path, subjects) -> None:
        try:
            send(tmp_path, *subjects, follow=True)
        except SwgError as error:
            self.error = error

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()


def eventually(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def has(tmp_path, what, step: int) -> bool:
    return all(
        board(tmp_path, what, seed).is_dir() and step in scalars(board(tmp_path, what, seed)).get("critic/q", {})
        for seed in SEEDS
    )


def test_a_running_artifact_is_followed_to_its_end(store, train, tmp_path):
    training = train()
    training.measure(20)
    follower = Follower(tmp_path, find(store, training.record["key"][:6]))
    eventually(lambda: has(tmp_path, training.record, 20))
    training.measure(40)
    eventually(lambda: has(tmp_path, training.record, 40))
    artifact = training.finish(60)
    follower.join()
    assert follower.error is None
    check_points(tmp_path, artifact, 60)
    assert scalars(board(tmp_path, artifact, 0))["critic/final/loss"] == {61: 0.25}


def test_a_run_that_goes_on_from_its_checkpoint_has_no_double_points(store, train, tmp_path):
    first = train()
    first.measure(40)
    follower = Follower(tmp_path, find(store, first.record["key"]))
    eventually(lambda: has(tmp_path, first.record, 40))
    first.die()
    follower.join()
    assert isinstance(follower.error, Interrupted)
    assert follower.error.code == 75
    second = Training(store, first.record)
    second.measure(20)  # the checkpoint was of step 20
    follower = Follower(tmp_path, find(store, first.record["key"]))
    second.measure(30)
    artifact = second.finish(60)
    follower.join()
    assert follower.error is None
    check_points(tmp_path, artifact, 60)


def test_a_reader_that_was_killed_while_it_wrote_loses_and_doubles_nothing(store, finished, train, tmp_path):
    training = train()
    training.measure(30)
    send(tmp_path, find(store, training.record["key"]))
    for seed in SEEDS:
        (path,) = board(tmp_path, training.record, seed).iterdir()
        path.write_bytes(path.read_bytes()[:-7])  # in the middle of the last row
        assert set(scalars(path.parent)["critic/q"]) == {10, 20}
    artifact = training.finish(50)
    send(tmp_path, of(artifact))
    check_points(tmp_path, artifact, 50)
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(board(tmp_path, artifact, 0)), {"scalars": 0})
    reader.Reload()
    assert [event.step for event in reader.Scalars("critic/q")] == [10, 20, 30, 40, 50]


def test_an_unfinished_artifact_without_follow_is_sent_as_far_as_it_is(store, train, tmp_path):
    training = train()
    training.measure(30)
    answer = swgctl("log", training.record["key"][:8], "--to", f"tensorboard:{tmp_path / 'runs'}")
    assert answer.path == training.work
    check_points(tmp_path, training.record, 30)
    training.die()
    assert find(store, str(training.work)).key == training.record["key"]
    assert swgctl("log", training.work, "--to", f"tensorboard:{tmp_path / 'runs'}").path == training.work


def test_of_two_readers_one_sends(store, train, tmp_path):
    training = train()
    training.measure(20)
    follower = Follower(tmp_path, find(store, training.record["key"]))
    eventually(lambda: has(tmp_path, training.record, 20))
    with pytest.raises(BusyError):
        send(tmp_path, find(store, training.record["key"]))
    artifact = training.finish(40)
    follower.join()
    check_points(tmp_path, artifact, 40)


@pytest.mark.parametrize(("checkpoint", "left"), [(False, []), (True, ["checkpoint.safetensors", "record.json"])])
def test_a_record_beside_no_checkpoint_goes_with_its_run(checkpoint, left, tmp_path):
    work = tmp_path / "work"

    def fail():
        with announced(record(), work):
            assert json.loads((work / "record.json").read_text()) == record()
            if checkpoint:
                (work / "checkpoint.safetensors").touch()
            raise ValueError("bad data")

    with pytest.raises(ValueError, match="bad data"):
        fail()
    assert sorted(path.name for path in work.glob("*")) == left


# -- the command -------------------------------------------------------------------------------------------------------


def test_several_artifacts_are_named_by_standard_input(finished, tmp_path):
    one, two = finished(20), finished(30, lr=0.1)
    names = f"{one.id}\n{two.path}\n"
    answer = swgctl("log", "-", "--to", f"tensorboard:{tmp_path / 'runs'}", stdin=names)
    assert answer.lines == [str(one.path), str(two.path)]
    check_points(tmp_path, one, 20)
    check_points(tmp_path, two, 30)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["zz", "--to", "tensorboard:runs"], 3, ["no artifact 'zz'"]),
        (["", "--to", "tensorboard:runs"], 3, ["an empty REF"]),
        (["zz"], 2, ["--to names no tracker"]),
        (["zz", "--to", "mlflow:x"], 2, ["no tracker 'mlflow'"]),
    ],
)
def test_bad_input_is_one_line(args, code, words):
    swgctl("log", *args).refused(code, *words)


def test_a_damaged_artifact_is_refused(finished, tmp_path):
    artifact = finished(20)
    (artifact.path / "artifact.json").write_text("{")
    swgctl("log", artifact.path, "--to", f"tensorboard:{tmp_path / 'runs'}").refused(4, "artifact.json")


def test_a_damaged_record_of_a_run_is_refused(store, train):
    training = train()
    training.measure(20)
    (training.work / "record.json").write_text('{"key": 5}')
    with pytest.raises(InputError, match=r"record\.json cannot be read"):
        find(store, training.record["key"])


def test_a_damaged_record_of_another_run_is_not_read(store, train, finished):
    training, artifact = train(), finished(20)
    training.measure(20)
    (training.work / "record.json").write_text("{")
    assert training.record["key"][:6] != artifact.key[:6]
    assert find(artifact.store, artifact.key).artifact == artifact


def test_damaged_rows_are_refused(finished, tmp_path):
    artifact = finished(20)
    (artifact.path / "metrics.jsonl").write_text("[1]\n")
    swgctl("log", artifact.id, "--to", f"tensorboard:{tmp_path / 'runs'}").refused(4, "metrics.jsonl")


def test_a_tracker_that_fails_does_not_stop_another(store, train, tmp_path, capfd):
    training = train()
    training.measure(20)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "hopper").touch()  # where a directory should be
    to = named([f"tensorboard:{tmp_path / 'bad'},tensorboard:{tmp_path / 'runs'}"])
    errors = []

    def run():
        try:
            follow.send([find(store, training.record["key"])], to, follow=True, every=0.01)
        except SwgError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: has(tmp_path, training.record, 20))
    artifact = training.finish(40)
    thread.join(60)
    check_points(tmp_path, artifact, 40)
    (error,) = errors
    assert str(error).startswith(f"tensorboard:{tmp_path / 'bad'}: ")
    assert capfd.readouterr().err.count("warning: log: tensorboard:") == 1


def test_a_directory_that_cannot_be_written_is_one_error(finished, tmp_path):
    artifact = finished(20)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "hopper").touch()
    swgctl("log", artifact.id, "--to", f"tensorboard:{tmp_path / 'runs'}").refused(1, "tensorboard:", "hopper")


def test_logging_changes_no_artifact(finished, tmp_path):
    artifact = finished(20)
    before = {path: path.stat().st_mtime_ns for path in artifact.path.iterdir()}
    send(tmp_path, of(artifact))
    assert {path: path.stat().st_mtime_ns for path in artifact.path.iterdir()} == before
    artifact.check_all()
