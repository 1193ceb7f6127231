"""Trajectory models, dynamics models, synthetic sets and agents of one data file, each built when it is first asked
for.  A pytest plugin: `pytest_plugins = "support.synthetic"`.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.harness import swgctl, write_pendulum
from swgctl.store import Artifact

SEEDS = "0-2"

DATA = object()  # the data file and its environment
WORDS: dict[str, tuple] = {  # the command of each artifact; "@name": another one's path
    "trajectories": ("trajectories", DATA),
    "dynamics": ("dynamics", DATA),
    "td3bc": ("agent", DATA, "--algo", "td3bc"),
    "iql": ("agent", DATA, "--algo", "iql"),
    "unguided": ("synth", "--from", "@trajectories", "--lambda", 0),
    "shift": ("synth", "--from", "@trajectories", "--agent", "@td3bc"),
    "posterior": ("synth", "--from", "@trajectories", "--agent", "@iql", "--guidance", "posterior"),
    "rolled": ("synth", "--from", "@dynamics", "--agent", "@iql"),
    "pgd-td3bc": ("agent", "--from", "@trajectories", "--algo", "td3bc"),
    "pgd-iql": (
        *("agent", "--from", "@trajectories", "--algo", "iql", "--epochs", 4),
        *("--set", "agent.keep=2", "--set", "agent.guidance=posterior", "--real", 8),
    ),
    "of-shift": ("agent", "--from", "@shift", "--algo", "iql"),
    "of-two": ("agent", "--from", "@unguided", "--from", "@posterior"),
    "critic": ("critic", "--from", "@shift"),
    "augment": ("augment", "--from", "@critic"),
    "diffuse": ("diffuse", "--from", "@augment"),
    "eval": ("eval", "--from", "@diffuse", "--rho", 1),
    "eval-pgd": ("eval", "--from", "@pgd-td3bc"),
}


@dataclass
class Synthetic:
    """Artifacts by name in a store that is shared by all tests: what a test builds on them goes into its own."""

    folder: Path
    recipe: Path
    members: int = 3
    alone: int = 1  # the member that is compared with a build of its seed alone
    built: dict[tuple[str, str], Artifact] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        """400 rows in four episodes, two of which have ended in a terminal row."""
        path = self.folder / "pendulum.hdf5"
        if not path.exists():
            write_pendulum(path, terminals=np.isin(np.arange(400), (199, 349)))
        return path

    @property
    def task(self) -> tuple:
        return self.data, "--env", "Pendulum-v1"

    def ask(self, *words):
        """A command in this process."""
        return swgctl(*words, "--recipe", self.recipe)

    def __call__(self, name: str, seeds: str = SEEDS) -> Artifact:
        if (name, seeds) not in self.built:
            stage, *words = WORDS[name]
            more = [part for word in words for part in self._word(word, seeds)]
            answer = self.ask(stage, *more, "--store", self.folder / "store")
            self.built[name, seeds] = Artifact(answer.path)
        return self.built[name, seeds]

    def _word(self, word: Any, seeds: str) -> tuple:
        if word is DATA:
            return (*self.task, "--seeds", seeds)
        return (self(word[1:], seeds).path,) if str(word).startswith("@") else (word,)


@pytest.fixture(scope="session")
def made(built, tmp_path_factory) -> Synthetic:
    """made(name, seeds) -> an artifact of WORDS."""
    return Synthetic(tmp_path_factory.mktemp("synthetic"), built.recipe)


@pytest.fixture(scope="session")
def digests() -> dict[tuple, str]:
    return {}


@pytest.fixture
def undisturbed(start, tmp_path, digests):
    """undisturbed(*command) -> the digest that it has in a process that is left alone, in a store of its own."""

    def digest(*command) -> str:
        if command not in digests:
            digests[command] = start(*command, "--store", tmp_path / "whole").answer().json["digest"]
        return digests[command]

    return digest
