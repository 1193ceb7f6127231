"""A signal at a chosen moment of a command in a process of its own."""

import importlib
import os
import signal
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Signalled:
    """Sends its own process a signal when it calls a function for the `call`-th time: a `setup` of `start`.

    function  "package.module:name" or "package.module:Class.name"
    """

    function: str
    call: int
    number: int = signal.SIGKILL

    def __call__(self) -> None:
        module, _, names = self.function.partition(":")
        owner: Any = importlib.import_module(module)
        *classes, name = names.split(".")
        for one in classes:
            owner = getattr(owner, one)
        function, calls = getattr(owner, name), []

        def counting(*args, **kwargs):
            calls.append(name)
            if len(calls) == self.call:
                os.kill(os.getpid(), self.number)
            return function(*args, **kwargs)

        setattr(owner, name, counting)
