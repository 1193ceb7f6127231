"""Copies of an environment: the same numbers in one process and in several, and nothing left of those."""

import contextlib
import gc
import math
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from support.harness import workers_of

from swgctl.errors import SwgError, UsageError
from swgctl.tasks import environments, fleet, limits, modules

pytestmark = pytest.mark.training  # of processes that step environments
SEEDS = [11, 3, 5, 8, 4, 9, 7]
DEEDS = "support.unruly:{}-v0".format


@pytest.fixture
def launch(monkeypatch):
    """launch(environment, processes, seeds) -> what `fleet.launch` does where $SWGCTL_WORKERS says so."""

    def launch(environment: str, processes: int, seeds: list[int] = SEEDS):
        modules.allow(environment)
        monkeypatch.setenv("SWGCTL_WORKERS", str(processes))
        return fleet.launch(environment, seeds, 1000)

    return launch


def play(copies, steps: int) -> list[np.ndarray]:
    """Everything that is known of the copies after each step, from the reset on."""
    random, seen = np.random.default_rng(0), []
    for _ in range(steps):
        seen.append(np.column_stack([copies.observations, copies.rewards, copies.ended]))
        copies.actions[:] = random.uniform(-1, 1, copies.actions.shape)
        copies.step()
    return seen


# -- the same numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        "HalfCheetah-v4",
        *(pytest.param(f"swgctl/{name}", marks=pytest.mark.slow) for name in ("Hopper-v4", "AntMazeMedium-v2")),
        pytest.param("swgctl/AdroitPen-v1", marks=pytest.mark.slow),
    ],
)
def test_which_process_has_a_copy_changes_no_bit(environment, launch):
    with launch(environment, 1) as alone:
        expected = play(alone, 40)
    assert len(np.unique(np.stack(expected).sum(2))) > 5 * len(SEEDS), "different copies, which move, are needed here"
    with launch(environment, 3) as copies:
        assert copies.processes == 3
        np.testing.assert_array_equal(play(copies, 40), expected)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_copy_is_the_environment_that_one_makes_by_hand(processes, launch):
    """Until it ends, and then it stays as it was."""
    with launch("InvertedPendulum-v4", processes) as copies:
        seen, ends = np.stack(play(copies, 60)), []
    for copy, seed in enumerate(SEEDS):
        world, random, ended = environments.make("InvertedPendulum-v4"), np.random.default_rng(0), False
        expected = [*world.reset(seed=seed)[0].astype(np.float32), 0, False]
        for step in range(60):
            np.testing.assert_array_equal(seen[step, copy], expected)
            action = np.float32(random.uniform(-1, 1, (len(SEEDS), 1)))[copy]
            if not ended:
                observation, reward, ended, _, _ = world.step(environments.rescale(action, -3, 3))
                expected = [*observation.astype(np.float32), reward, ended]
                ends.append(step)
    assert max(ends) < 59, "all should have ended before the last step"


def test_there_are_no_more_processes_than_copies(launch):
    with launch("Pendulum-v1", 9, [1, 2]) as copies:
        assert copies.processes == len(workers_of(os.getpid())) == 2


def test_an_environment_that_only_this_process_knows_stays_in_it(launch, capsys):
    import gymnasium

    gymnasium.register("OnlyHere-v0", "support.unruly:Unruly", max_episode_steps=10, kwargs={"deed": "raises"})
    with launch("OnlyHere-v0", 2, [1, 2]) as copies:
        assert copies.processes == 1
        np.testing.assert_array_equal(copies.observations, [[1, 0], [2, 0]])
    assert "OnlyHere-v0 in one process" in capsys.readouterr().err
    assert workers_of(os.getpid()) == []


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize(
    ("deed", "error"),
    [
        ("Raises", "ValueError: the robot fell off the table"),
        ("Exits", "SystemExit: 5"),
        ("FillsMemory", "MemoryError"),
    ],
)
def test_an_environment_that_fails_is_one_line(deed, error, processes, launch):
    with pytest.raises(SwgError) as raised, launch(DEEDS(deed), processes) as copies:
        play(copies, 3)
    assert str(raised.value) == f"environment {DEEDS(deed)} failed: {error}"
    assert raised.value.code == 1
    assert copies.observations[:, 1].tolist().count(3) < len(SEEDS), "it fails at the third step"
    assert copies.observations[:, 1].min() == 2
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("deed", "how"),
    [
        ("IsKilled", "was killed by SIGKILL"),
        ("Leaves", "ended with exit code 3"),
        ("Crashes", "was killed by SIGSEGV"),
    ],
)
def test_a_worker_that_dies_is_one_line_with_its_environment(deed, how, launch):
    with pytest.raises(SwgError) as raised, launch(DEEDS(deed), 3) as copies:
        play(copies, 3)
    assert str(raised.value) == f"a process that steps {DEEDS(deed)} {how}"
    assert raised.value.code == 1
    assert "SWGCTL_WORKERS=1" in raised.value.help
    assert workers_of(os.getpid()) == []


def test_a_worker_takes_no_interrupt_of_its_environment_for_the_users(launch, capfd):
    refusal = pytest.raises(SwgError, match="Interrupts-v0 failed: KeyboardInterrupt")
    with refusal, launch(DEEDS("Interrupts"), 2) as copies:
        play(copies, 3)
    assert "Traceback" not in capfd.readouterr().err


@contextlib.contextmanager
def limited(number: int, most: int):
    """Lower the soft limit of a resource within the block."""
    soft, hard = resource.getrlimit(number)
    resource.setrlimit(number, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(number, (soft, hard))


def test_without_descriptors_there_is_one_line(launch):
    most = len(os.listdir("/proc/self/fd")) + 12
    few = limited(resource.RLIMIT_NOFILE, most)
    with pytest.raises(SwgError) as raised, few, launch("Pendulum-v1", 40, list(range(40))):
        pass
    assert "Too many open files" in str(raised.value)
    assert (raised.value.code, raised.value.help) == (1, "SWGCTL_WORKERS=1")
    assert workers_of(os.getpid()) == []


def test_sixty_four_descriptors_are_enough_for_many_environments(launch):
    with limited(resource.RLIMIT_NOFILE, 64), launch("Pendulum-v1", 2, list(range(150))) as copies:
        assert np.isfinite(play(copies, 3)).all()


def test_a_worker_that_cannot_start_says_so_in_a_line(launch, monkeypatch, capfd):
    """As where memory is short: importing NumPy fails."""
    monkeypatch.setattr(fleet, "WORKER", fleet.WORKER.replace("from swgctl.tasks", "from swgctl.no_such_room"))
    refusal = pytest.raises(SwgError, match="a process that steps Pendulum-v1 ended with exit code 1")
    with refusal, launch("Pendulum-v1", 2):
        pass
    said = capfd.readouterr().err
    assert said.count("cannot start: ModuleNotFoundError") in (1, 2)
    assert "Traceback" not in said


def test_a_worker_that_hangs_is_killed_in_the_end(launch, monkeypatch):
    monkeypatch.setattr(fleet, "GRACE", 0.2)

    def stop(*_):
        raise KeyboardInterrupt

    def be_stopped(copies):
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        play(copies, 3)

    before = signal.signal(signal.SIGALRM, stop)
    try:
        with pytest.raises(KeyboardInterrupt), launch(DEEDS("Hangs"), 2) as copies:
            be_stopped(copies)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize(
    ("deed", "said"),
    [("Prints", ["how do you do"]), ("PrintsFromC", ["a buffer's", "a descriptor's", "the interpreter's"])],
)
def test_what_an_environment_prints_is_not_on_stdout(deed, said, processes, launch, capfd):
    with launch(DEEDS(deed), processes) as copies:
        play(copies, 3)
    print("a path", flush=True)
    out, err = capfd.readouterr()
    assert (out, sorted(err.splitlines())) == ("a path\n", said)


@pytest.mark.parametrize("processes", [1, 2])
def test_what_an_environment_warns_of_is_not_shown(processes, launch, capfd):
    with launch(DEEDS("Warns"), processes) as copies:
        play(copies, 2)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", ["0", "-1", "many", "2.5"])
def test_another_number_of_processes_is_refused(text, monkeypatch):
    monkeypatch.setenv("SWGCTL_WORKERS", text)
    with pytest.raises(UsageError, match=f"SWGCTL_WORKERS must be .*'{text}'"), fleet.launch("Pendulum-v1", [1], 10):
        pass


# -- what workers are --------------------------------------------------------------------------------------------------


def test_signals_to_all_processes_of_a_job_are_not_for_workers(launch):
    with launch("Pendulum-v1", 2) as copies:
        for pid in workers_of(os.getpid()):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                os.kill(pid, number)
        time.sleep(0.05)
        assert len(play(copies, 3)) == 3


def test_workers_have_no_pytorch(launch):
    with launch("HalfCheetah-v4", 2):
        libraries = [Path(f"/proc/{pid}/maps").read_text() for pid in workers_of(os.getpid())]
    assert len(libraries) == 2
    assert all("mujoco" in text and "torch" not in text for text in libraries)


def test_neither_processes_nor_memory_nor_files_are_left(launch):
    gc.collect()  # what exceptions of other tests still hold
    files = os.listdir("/proc/self/fd")
    with launch("Pendulum-v1", 2) as copies:
        assert "memfd:swgctl" in Path("/proc/self/maps").read_text()
        play(copies, 2)
    del copies
    assert workers_of(os.getpid()) == []
    assert "memfd:swgctl" not in Path("/proc/self/maps").read_text()
    assert os.listdir("/proc/self/fd") == files


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_process_that_started_them(number, start, chain, monkeypatch):
    """However a real evaluation ends."""
    monkeypatch.setenv("SWGCTL_WORKERS", "2")
    process = start("eval", "--from", chain.made("diffuse"), "--recipe", chain.recipe, "--episodes", "40", "--force")
    process.wait_for(lambda: "environments in 2 processes" in process.said())
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.send(number)
    if number == signal.SIGTERM:
        process.answer().refused(75, "stopped by SIGTERM")
    until = time.monotonic() + 10
    while any(b"fleet.work" in command(pid) for pid in workers):
        assert time.monotonic() < until
        time.sleep(0.02)


def command(pid: int) -> bytes:
    """Its command line: nothing where it has ended, even if no one has waited for it."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- how many ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copies", [100, 350, 3500])
def test_a_step_is_the_fastest_where_stepping_and_waking_take_as_long(copies):
    """The least of n c / W + W wake is at W = sqrt(n c / wake)."""
    best = math.sqrt(copies * 45e-6 / fleet.WAKE)
    assert fleet.fastest(copies, 10**6, 45e-6, 10**3) == pytest.approx(best, abs=1)
    assert fleet.fastest(copies, 10**6, 45e-6, 8) == 8


def test_workers_are_not_started_for_less_than_starting_takes():
    """What two processes save is half of the time, less the start and the messages."""
    steps, seconds, copies = 1000, 50e-6, 36
    assert steps * seconds * copies / 2 < fleet.START
    assert fleet.fastest(copies, steps, seconds, 2) == 1
    assert fleet.fastest(2 * copies, steps, seconds, 2) == 2


def test_the_number_is_chosen_by_what_a_step_costs(monkeypatch):
    monkeypatch.delenv("SWGCTL_WORKERS", raising=False)
    monkeypatch.setattr(limits, "cores", lambda: 2)
    with fleet.launch("Pendulum-v1", SEEDS, 200) as copies:
        assert copies.processes == 1
    with fleet.launch("Pendulum-v1", SEEDS, 10**6) as copies:
        assert copies.processes == 2


# -- memory ------------------------------------------------------------------------------------------------------------


def test_what_a_copy_holds_is_measured():
    modules.allow("support.unruly:Large-v0")
    assert fleet.copy_bytes("support.unruly:Large-v0") == pytest.approx(20e6, rel=0.1)


def test_a_quarter_of_the_memory_is_for_environments(monkeypatch):
    monkeypatch.setattr(fleet, "copy_bytes", lambda _: 21e6)
    for memory, expected in ((23e9, 273), (1e6, 1), (math.inf, 1 << 31)):
        monkeypatch.setattr(limits, "memory", lambda memory=memory: memory)
        assert fleet.capacity("Pendulum-v1") == expected
