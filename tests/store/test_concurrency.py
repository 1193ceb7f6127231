"""Many at once in one store: nobody takes another's input, and one key is built once."""

import ctypes
import errno
import fcntl
import functools
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from support.harness import CHAIN, keep_capabilities, lineage, published, shell, swgctl, write_pendulum

CHAINS = 8


def chain_of_one_shell(task: str, recipe: str, log: str) -> None:
    """What `sh -c 'swgctl critic ... && swgctl augment && swgctl diffuse && swgctl eval'` does, without the imports."""
    name, _, seeds = task.rpartition(":")
    first = ["critic", name, "--env", "Pendulum-v1", "--seeds", seeds]
    for args in (first, ["augment"], ["diffuse"], ["eval", "--json"]):
        child = os.fork()
        if not child:
            file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(file, 1)
            sys.argv = ["swgctl", *args, "--recipe", recipe]
            from swgctl.cli import main

            try:
                main()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(end.code or 0)
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(code)


@pytest.mark.slow
def test_eight_chains_side_by_side_keep_to_their_own(server, tmp_path, tiny, monkeypatch):
    """Each shell relies on `current/`, by its process: no scope is set, and no stage names its input."""
    tasks = [(f"task{i}", i // 2) for i in range(CHAINS)]
    logs = [tmp_path / f"{name}.log" for name, _ in tasks]
    shells = []
    for (name, seed), log in zip(tasks, logs, strict=True):
        data = write_pendulum(tmp_path / f"{name}.hdf5", seed=int(name[4:]))
        shell = server.Process(target=in_store, args=(str(tmp_path / "store"), f"{data}:{seed}", str(tiny), str(log)))
        shell.start()
        shells.append(shell)
    for shell in shells:
        shell.join(150)
    assert [shell.exitcode for shell in shells] == [0] * CHAINS
    for (name, seed), log in zip(tasks, logs, strict=True):
        evaluation = json.loads(log.read_text())
        assert (evaluation["task"], evaluation["seeds"]) == (name, [seed])
        assert lineage(swgctl("tree", "--json", evaluation["path"]).json) == {(name, seed)}
    assert len(swgctl("verify").lines) == 4 * CHAINS


@pytest.mark.slow
def test_eight_chains_of_real_shells(tmp_path, tiny):
    tasks = [(write_pendulum(tmp_path / f"task{i}.hdf5", seed=i), i // 2) for i in range(CHAINS)]
    chain = "swgctl critic $0 --env Pendulum-v1 --seeds $1 --recipe $2 && swgctl augment && "
    chain += "swgctl diffuse --recipe $2 && swgctl eval --recipe $2"
    words = " ".join(f"{data} {seed} {tiny}" for data, seed in tasks)
    answer = shell(f"echo {words} | xargs -n 3 -P {CHAINS} sh -c '{chain}'", SWGCTL_SCOPE="", timeout=500)
    assert len(answer.lines) == 4 * CHAINS
    found = [lineage(swgctl("tree", "--json", line).json) for line in answer.lines if "/eval/" in line]
    assert sorted(map(sorted, found)) == [[(data.stem, seed)] for data, seed in tasks]


def in_store(store: str, *args) -> None:
    os.environ["SWGCTL_STORE"] = store
    os.environ.pop("SWGCTL_SCOPE", None)
    chain_of_one_shell(*args)


# -- one key -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(built) -> list:
    """A critic that takes about a second."""
    return ["critic", built.data, "--env", "Pendulum-v1", "--recipe", built.recipe, "--steps", "600", "--json"]


def started(process, store: Path) -> None:
    process.wait_for(lambda: list(store.glob("work/*/metrics.jsonl")))
    assert process.running(), process.said()


def test_two_that_ask_for_one_key_share_one_build(command, start, tmp_path):
    answers = [p.answer() for p in [start(*command), start(*command)]]
    assert sorted(a.json["status"] for a in answers) == ["built", "cached"]
    assert len({a.json["digest"] for a in answers}) == 1
    (waited,) = [a for a in answers if a.json["status"] == "cached"]
    assert "waiting: process" in waited.err
    assert len(published(tmp_path / "store")) == 1


def test_no_wait_is_busy(command, start, tmp_path):
    first = start(*command)
    started(first, tmp_path / "store")
    swgctl(*command, "--no-wait").refused(5, "is building", str(first.pid))
    assert first.answer().json["status"] == "built"
    assert swgctl(*command, "--no-wait").json["status"] == "cached"


def test_the_lock_of_a_killed_process_is_free(command, start, tmp_path):
    first = start(*command)
    started(first, tmp_path / "store")
    first.send(signal.SIGKILL)
    assert first.answer().code == -signal.SIGKILL
    assert swgctl(*command, "--no-wait").json["status"] == "built"


def test_one_that_waits_can_be_stopped(command, start, tmp_path):
    first = start(*command)
    started(first, tmp_path / "store")
    second = start(*command)
    second.wait_for(lambda: "waiting" in second.said())
    second.send(signal.SIGTERM)
    second.answer().refused(75, "stopped by SIGTERM")
    assert first.answer().json["status"] == "built"


def without_locks() -> None:
    """A file system that knows no locks."""

    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = refuse


@pytest.mark.slow
def test_without_locks_both_build_and_one_is_kept(command, start, tmp_path):
    env = {"SWGCTL_CHECKPOINT_EVERY": "0.05"}
    answers = [p.answer() for p in [start(*command, env=env, setup=without_locks) for _ in range(3)]]
    assert len({a.json["digest"] for a in answers}) == 1
    assert len(published(tmp_path / "store")) == 1
    assert len(swgctl("verify").lines) == 1
    assert list((tmp_path / "store").glob("tmp/*")) == []


GROUP, USERS = 54_321, (54_322, 54_323)  # that nobody has


KEEPCAPS, READ_ALL = 8, 2  # of prctl(2) and capabilities(7): this Python may be root's alone to read


def become(user: int) -> None:
    """Another user of the group, whose umask lets the group write."""
    os.setgroups([GROUP])
    os.setgid(GROUP)
    ctypes.CDLL(None).prctl(KEEPCAPS, 1, 0, 0, 0)
    os.setuid(user)
    keep_capabilities(READ_ALL)
    os.umask(0o002)


@pytest.fixture
def shared(built):
    """A folder that a group shares, with the data and the recipe; pytest's own are one user's."""
    if os.geteuid():
        pytest.skip("another user's process is root's to start")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, -1, GROUP)
        folder.chmod(0o2775)
        for file in (built.data, built.recipe):
            shutil.copy(file, folder)
        yield folder


def test_two_users_of_a_group_share_a_store(shared, built, start):
    data, recipe, store = shared / built.data.name, shared / built.recipe.name, shared / "store"
    command = ["critic", data, "--env", "Pendulum-v1", "--recipe", recipe, "--steps", "600", "--json", "--store", store]
    env = {"SWGCTL_CACHE": str(shared / "cache")}
    users = [functools.partial(become, user) for user in USERS]
    answers = [process.answer() for process in [start(*command, env=env, setup=user) for user in users]]
    assert sorted(answer.json["status"] for answer in answers) == ["built", "cached"]
    for user in users:  # whoever has built it: one of the two replaces what the other has made
        augment = ["augment", "--force", "--from", answers[0].json["path"], "--json", "--store", store]
        assert start(*augment, env=env, setup=user).answer().json["status"] == "built"
    modes = {path: path.stat() for path in [store, *store.rglob("*")]}
    assert {state.st_gid for state in modes.values()} == {GROUP}
    assert all(state.st_mode & 0o060 == 0o060 for state in modes.values())
    assert len(swgctl("verify", "--store", store).lines) == 2


def test_a_store_that_its_reader_may_not_write_is_one_line(shared, built, start):
    store = shared / "store"
    shutil.copytree(built.store, store)
    for path in (store, *store.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    command = ["critic", shared / built.data.name, "--env", "Pendulum-v1", "--recipe", shared / built.recipe.name]
    where = {"env": {"SWGCTL_CACHE": str(shared / "cache")}, "setup": functools.partial(become, USERS[0])}
    answer = start(*command, "--steps", "7", "--store", store, **where).answer()
    answer.refused(1, f"cannot write to {store}: Permission denied")
    assert len(start("ls", "--store", store, **where).answer().lines) == len(CHAIN)


PLANTED = {  # what a neighbour could link to another's file -> the exit code
    "locks/KEY.lock": 3,
    "current/scope-test/critic": 0,
    "work/KEY/metrics.jsonl": 0,
    "work/KEY/record.json": 0,
    "work/KEY/checkpoint.safetensors": 4,
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_link_is_not_written_through(chain, tmp_path, monkeypatch, name):
    monkeypatch.setenv("SWGCTL_CHECKPOINT_EVERY", "0")
    key = chain.made("critic").name
    shutil.rmtree(chain.made("critic"))
    victim, link = tmp_path / "victim", chain.store / name.replace("KEY", key)
    victim.write_text("precious")
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(victim)
    answer = chain.critic()
    if PLANTED[name]:
        answer.refused(PLANTED[name], str(link))
    assert answer.code == PLANTED[name]
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("command", ["gc --dry-run", "augment --force", "pull REMOTE"])
def test_a_pipe_in_the_place_of_a_lock_answers_at_once(chain, tmp_path, command):
    swgctl("push", chain.made("augment"), tmp_path / "remote", "--only").lines  # noqa: B018 - it succeeds
    key = chain.made("augment").name
    if command.startswith("pull"):
        shutil.rmtree(chain.made("augment"))
    (chain.store / "locks").mkdir(exist_ok=True)
    (chain.store / "work" / key).mkdir(parents=True)
    for name in (f"{key}.lock", f"{key}.transfer.lock"):
        (chain.store / "locks" / name).unlink(missing_ok=True)
        os.mkfifo(chain.store / "locks" / name)
    answer = swgctl(*command.replace("REMOTE", str(tmp_path / "remote")).split())
    if command.startswith("augment"):
        answer.refused(3, f"{key}.lock", "not a file")
    else:
        assert answer.code == 0, answer.err


def test_force_beside_a_reader_never_leaves_a_hole(chain, start):
    """Whoever looks while an artifact is replaced finds a whole one."""
    args = ["critic", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--json"]
    process = start(*args, "--force")
    while process.running():
        assert len(swgctl("verify").lines) == 4
    assert process.answer().json["status"] == "built"
