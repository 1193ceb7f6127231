"""The world of the tests: a store and a cache of their own, and a chain of artifacts built once."""

import multiprocessing
import shutil
import signal
from pathlib import Path

import pytest
from support.harness import Chain, Process, write_pendulum

from swgctl.config import stages
from swgctl.tasks import d4rl, ogbench

TINY = """\
critic: {steps: 60, hidden: [16], batch: 32}
diffuse: {steps: 40, width: 16, batch: 32, K: 3}
behaviour: {steps: 40, width: 16, batch: 32, K: 3}
candidates: {M: 4, rows: 50}
guide: {steps: 40, batch: 32, states: 8, hidden: [16], moments: 256}
trajectories: {length: 8, stride: 1, features: 16, blocks: 2, groups: 2, batch: 8, steps: 40, precision: fp32}
dynamics: {steps: 40, members: 3, elites: 2, hidden: [16], batch: 32}
synth: {levels: 4, trajectories: 12, length: 8}
agent: {steps: 40, epochs: 2, hidden: [16], batch: 32, levels: 4, trajectories: 12}
eval: {rho: [0, 1], resample: [1], temperature: 1, episodes: 1}
"""


TRAINING = {"built", "chain", "tiny", "start", "mixture", "demo", "rolled_out"}  # fixtures


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(items) -> None:
    """Mark what trains or rolls out by a fixture; skip what needs a GPU where there is none."""
    for item in items:
        if TRAINING & {*item.fixturenames}:
            item.add_marker("training")
    needing = [item for item in items if item.get_closest_marker("cuda")]
    if needing and not _has_cuda():
        for item in needing:
            item.add_marker(pytest.mark.skip(reason="there is no GPU"))


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


@pytest.fixture(scope="session", autouse=True)
def signals() -> None:
    """Heeded, although nohup and a script's & leave some of them ignored, which every process here would inherit."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session")
def server():
    """Starts processes that have PyTorch imported already."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        # torch.optim imports torch._dynamo on its first step
        context.set_forkserver_preload(
            ["torch._dynamo", "support.harness", *(f"swgctl.stages.{stage}" for stage in stages())]
        )
        context.Process(target=int).start()  # starts the server
        return context


@pytest.fixture
def start(server, tmp_path):
    """start(*args, env={}, setup=None) -> Process; `setup` is called in it first."""
    started = []

    def start(*args, env: dict | None = None, setup=None) -> Process:
        folder = tmp_path / "processes" / str(len(started))
        folder.mkdir(parents=True)
        started.append(Process(server, folder, args, env or {}, setup))
        return started[-1]

    yield start
    for process in started:
        process.send(9)


@pytest.fixture(autouse=True)
def world(tmp_path, monkeypatch) -> None:
    """Nothing outside of the test's own folder is read or written."""
    ours = ("SWGCTL_DATA", "SWGCTL_D4RL_URL", "SWGCTL_DEBUG", "SWGCTL_CHECKPOINT_EVERY", "SWGCTL_LOG", "SWGCTL_WORKERS")
    for name in (*ours, "SWGCTL_OGBENCH_URL", "SWGCTL_OGBENCH_ROWS", "MINARI_REMOTE", "HF_ENDPOINT", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SERVER", "COPY"):  # the real ones are asked by nobody
        for benchmark in (d4rl, ogbench):
            monkeypatch.setattr(benchmark, name, "http://127.0.0.1:9")
    monkeypatch.setenv("SWGCTL_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("SWGCTL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    monkeypatch.setenv("SWGCTL_SCOPE", "test")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Chain:
    """Not to be written to: `chain` is a copy that may."""
    folder = tmp_path_factory.mktemp("built")
    recipe = folder / "tiny.yaml"
    recipe.write_text(TINY)
    chain = Chain(folder / "store", write_pendulum(folder / "pendulum.hdf5"), recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWGCTL_SCOPE", "built")
        _ = chain.run("--store", chain.store).path
    return chain


@pytest.fixture
def chain(built, tmp_path) -> Chain:
    """The four artifacts in a store of the test's own, made by another shell."""
    shutil.copytree(built.store, tmp_path / "store", ignore=shutil.ignore_patterns("current", "locks"))
    return Chain(tmp_path / "store", built.data, built.recipe)


@pytest.fixture
def tiny(built) -> Path:
    """A recipe that trains in a moment."""
    return built.recipe


@pytest.fixture
def pendulum(tmp_path):
    """pendulum(name, seed, **changes) writes a data file; see `write_pendulum`."""
    return lambda name="pendulum", seed=0, **changes: write_pendulum(tmp_path / f"{name}.hdf5", seed, **changes)
