"""The scripts for a GPU, at tiny sizes on the CPU: they work at the first try."""

import json
import subprocess
import sys

import pytest
import torch

from swgctl.bench import gpu
from swgctl.bench.cases import SETTINGS
from swgctl.errors import Interrupted


def script(tmp_path, *words):
    """The script's exit code, the objects on its stdout, and its stderr."""
    command = [sys.executable, "-m", "swgctl.bench.gpu", *words, "--device", "cpu", "--folder", tmp_path / "bench"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.slow  # eight processes that import PyTorch
def test_the_check_measures_every_case_and_resumes_what_was_killed(tmp_path):
    code, rows, said = script(tmp_path)
    assert code == 0, said
    *rates, resumed = rows
    assert [(row["what"], row["seeds"]) for row in rates] == [(what, n) for what in SETTINGS for n in (1, 2)]
    assert all(row["steps_per_s"] > 0 for row in rates)
    assert resumed["killed"] == 2
    assert resumed["codes"] == [0, 0]
    assert resumed["equal"] == {"critic": True, "diffuse": True}
    assert "tests marked cuda: exit 0" in said
    assert "the same bytes" in said


@pytest.mark.slow
def test_the_protocol_ends_with_its_wall_time_and_is_there_at_the_second_call(tmp_path):
    code, (row,), said = script(tmp_path, "protocol")
    assert code == 0, said
    assert row["minutes"].keys() == {"critic", "augment", "diffuse", "eval"}
    assert all(minutes > 0 for minutes in row["minutes"].values())
    assert "wall time: " in said.splitlines()[-1]
    code, (again,), said = script(tmp_path, "protocol")
    assert code == 0
    assert again["minutes"] == row["minutes"]
    assert again["wall_minutes"] < row["wall_minutes"]


def test_a_process_ends_with_the_one_that_waits_for_it():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    wait, waits = child.wait, iter([Interrupted("stopped")])

    def interrupted():
        for error in waits:
            raise error
        return wait()

    child.wait = interrupted
    with pytest.raises(Interrupted):
        gpu.ended(child)
    assert child.poll() == -15


def test_there_is_a_prediction_for_each_case_and_it_is_said_to_be_arithmetic(capsys):
    sizes = gpu.Sizes()
    cases = {(what, mode, n) for what in SETTINGS for mode in sizes.modes for n in (1, sizes.seeds)}
    assert cases == gpu.STEPS_PER_S.keys()
    assert {case[:2] for case in cases} == gpu.KERNELS.keys()
    measured = {"steps_per_s": 3000.0, "kernels": 100, "device": "a card"}
    case = {"what": "critic", "mode": "graph", "precision": "tf32", "seeds": 5}
    wanted = {"steps_per_s": 4020, "kernels": 97}
    gpu.print_rates([case | measured | {"arithmetic": wanted}, case | {"error": "no Triton", "device": "a card"}])
    table = capsys.readouterr().err
    for word in ("arithmetic", "3,000", "4020", "75%", "97", "does not compile"):
        assert word in table


def test_the_sizes_are_the_papers():
    sizes = gpu.Sizes()
    assert (sizes.seeds, sizes.steps) == (5, (1_000_000, 1_000_000))
    assert len(sizes.cells["rho"]) * len(sizes.cells["resample"]) == 35


def test_a_stage_that_was_stopped_counts_the_steps_before(tmp_path):
    folder = tmp_path / "protocol/objects/critic/task/0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 1, "train_s": 40.0}\n{"step": 2, "train_s": 100.0}\n')
    record = {"key": "0123456789abcdef" + "0" * 48, "wall_s": 70.0}
    assert gpu._seconds(record, tmp_path) == 100
    assert gpu._seconds(record | {"wall_s": 130.0}, tmp_path) == 130


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_names_the_tiny_mode(tmp_path, capsys):
    assert gpu.main(["--folder", str(tmp_path / "bench")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "error: no device 'cuda' here" in said.err
    assert "help: --device cpu" in said.err
    assert not (tmp_path / "bench").exists()
