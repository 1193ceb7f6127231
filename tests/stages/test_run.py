"""Running stages: what is refused before any data is located or built."""

import subprocess
import sys

import pytest
from support.harness import swgctl

from swgctl.errors import UsageError
from swgctl.stages import run_all, run_stage
from swgctl.stages.run import check_execution
from swgctl.training.execution import pick_device, pick_mode

START = {
    "run": lambda **how: run_all("demo", flags={}, **how),
    "critic": lambda **how: run_stage("critic", "demo", **how),
}


def refusal(call, *args, **how) -> tuple:
    with pytest.raises(UsageError) as caught:
        call(*args, **how)
    return str(caught.value), caught.value.help, caught.value.code


@pytest.mark.parametrize("command", START)
def test_an_unknown_device_is_refused_before_any_data_is_made(command, tmp_path):
    swgctl(command, "demo", "--device", "gpu").refused(2, "no device 'gpu'")
    assert refusal(START[command], device="gpu") == refusal(pick_device, "gpu")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("command", START)
@pytest.mark.parametrize(("mode", "device"), [("fast", "auto"), ("fast", "cpu"), ("graph", "cpu")])
def test_a_mode_that_the_device_lacks_is_refused_before_any_data_is_made(command, mode, device, tmp_path):
    assert refusal(START[command], mode=mode, device=device) == refusal(pick_mode, mode, device)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("mode", ["auto", "eager", "graph", "compiled"])
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:1"])
def test_whether_there_is_a_cuda_device_is_found_when_it_is_needed(device, mode):
    check_execution(device, mode)


def test_usual_names_cost_no_import_of_torch():
    script = (
        "import sys; from swgctl.stages.run import check_execution\n"
        "for device in ('auto', 'cpu', 'cuda', 'cuda:0'):\n"
        "    for mode in ('auto', 'eager', 'compiled'):\n"
        "        check_execution(device, mode)\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
