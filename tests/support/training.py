"""What every learner has to keep in the training loop, and data whose values are known."""

import itertools
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from support.learners import CPU
from swgctl.errors import Interrupted
from swgctl.models import batched
from swgctl.tasks.transitions import Transitions
from swgctl.training import train

Make = Callable[[list[int]], object]  # seeds -> a new learner


def fit(learner, name: str, work: Path, seeds: list[int], steps: int, **options) -> list[dict]:
    return train(learner, name=name, seeds=seeds, steps=steps, work=work, device=CPU, **options)


def check_members(make: Make, name: str, seeds: list[int], work: Path) -> None:
    """Six steps of all seeds, and of each alone, agree: parameters, averages, targets, Adam's moments and losses."""
    together = make(seeds)
    rows = fit(together, name, work / "all", seeds, 6)
    for s, seed in enumerate(seeds):
        alone = make([seed])
        own = fit(alone, name, work / str(seed), [seed], 6)
        for key, value in alone.state().items():
            both = together.state()[key]
            torch.testing.assert_close(value, both if both.dim() == 0 else both[s : s + 1], rtol=1e-4, atol=1e-5)
        for mine, ours in zip(own, rows, strict=True):
            for key in mine.keys() - {"step", "train_s"}:
                assert mine[key][0] == pytest.approx(ours[key][s], rel=1e-4, abs=1e-5)


def counted(work: Callable[[], object]) -> int:
    """Floating-point operations of a call's products, by PyTorch's counter, which knows those of the library alone."""
    with pytest.MonkeyPatch.context() as patch, FlopCounterMode(display=False) as counter:
        patch.setattr(batched, "_slim", lambda x, y: False)
        work()
    return counter.get_total_flops()


def everything(learner) -> dict:
    """What it says that it learns, and every tensor of every network that it has, said or not."""
    networks = {name: x for name, x in vars(learner).items() if isinstance(x, torch.nn.Module)}
    return learner.state() | {f"{n}/{key}": value for n, x in networks.items() for key, value in x.state_dict().items()}


def check_resume(make: Make, name: str, seeds: list[int], work: Path, at: int, steps: int = 25) -> None:
    """A run that is stopped after step `at` and started again is bit for bit an uninterrupted one."""
    whole, cut, resumed = (make(seeds) for _ in range(3))
    fit(whole, name, work / "whole", seeds, steps)
    step, count = cut.step, itertools.count(1)

    def stopping(drawn):
        if next(count) == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(drawn)

    cut.step = stopping
    with pytest.raises(Interrupted):
        fit(cut, name, work / "cut", seeds, steps)
    fit(resumed, name, work / "cut", seeds, steps)
    for key, value in everything(whole).items():
        assert torch.equal(everything(resumed)[key], value), key


def chain(length: int = 4) -> Transitions:
    """One-hot states; +1 steps right, -1 stays; stepping right out of the last state ends the episode with reward 1."""
    state = np.repeat(np.arange(length), 2)
    right = np.tile([True, False], length)
    one_hot = np.eye(length, dtype=np.float32)
    out = right & (state == length - 1)
    return Transitions(
        observations=one_hot[state],
        actions=np.where(right, 1, -1).astype(np.float32)[:, None],
        rewards=out.astype(np.float32),
        next_observations=one_hot[np.where(right & ~out, state + 1, state)],
        terminals=out,
        timeouts=np.zeros(2 * length, bool),
        known_next=np.ones(2 * length, bool),
    )
