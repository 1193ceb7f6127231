"""An agent that learns from trajectories which it guides itself, drawn anew while it trains (PGD, arXiv 2404.06356,
Algorithm 1)."""

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from swgctl import signals
from swgctl.config import AgentSettings
from swgctl.console import progress, quoted, say
from swgctl.errors import CorruptError
from swgctl.files import read_signed, write_signed
from swgctl.learners.agent import AgentLearner
from swgctl.policies.trajectories import TrajectorySampler, check_finite
from swgctl.randomness import generator
from swgctl.training.execution import products

Packed = Callable[[Tensor], Tensor]  # windows (S, W, L, D), z-scored -> transitions (S, W (L - 1), 2 O + A + 2)


class Regenerating:
    """An agent's learner whose table holds the last `settings.keep` sets of synthetic data.

    A run has `settings.epochs` periods.  Before the first, every slot of the table is filled by an unguided set; before
    each later one, the oldest slot by a set that the agent guides as it then is.
    """

    def __init__(
        self,
        learner: AgentLearner,
        sampler: TrajectorySampler,
        packed: Packed,
        settings: AgentSettings,
        seeds: list[int],
        device: torch.device,
        mode: str,
    ):
        """packed  turns windows into rows of the table; mode: see `TrajectorySampler.draw`"""
        self.learner, self.sampler, self.packed = learner, sampler, packed
        self.settings, self.seeds, self.device, self.mode = settings, seeds, device, mode
        self.chunk, self.period = learner.chunk, settings.steps // settings.epochs
        self.draw, self.step, self.state = learner.draw, learner.step, learner.state
        self.loaded: dict[int, int] = {}  # slot -> the period whose set it holds

    def refresh(self, step: int, work: Path) -> None:
        """See `training.loop.Refreshed`.  A set is work/set-PERIOD-SLOT.safetensors, removed when it is replaced.

        Raises CorruptError where a set is gone or damaged, since the agent that guided it is gone as well.
        """
        number, inside = divmod(step, self.period)
        for slot in range(self.settings.keep):
            # the last period, up to this one, whose set went into the slot; 0: that of the beginning
            period = max((p for p in range(1, number + 1) if p % self.settings.keep == slot), default=0)
            if self.loaded.get(slot) != period:
                path = _path(work, period, slot)
                if not path.exists():
                    if period and (inside or period < number):
                        raise CorruptError(f"{path} is gone", f"rm -r {quoted(work)}   # then start again")
                    rows = self._generate(period, slot).cpu()
                    write_signed(path, {"rows": rows}, {"period": period, "slot": slot})
                self._fill(path, slot, f"rm -r {quoted(work)}   # then start again")
                self.loaded[slot] = period
            # a later one is of another process, which without locks may be ahead
            for earlier in range(period):
                _path(work, earlier, slot).unlink(missing_ok=True)

    def _fill(self, path: Path, slot: int, help: str) -> None:
        """Put the set of a file into a slot.  Raises CorruptError for a damaged file."""
        try:
            self.learner.fill(read_signed(path)[0]["rows"].to(self.device), slot)
        except FileNotFoundError:  # on a file system without locks, another process has just replaced it
            raise
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise CorruptError(f"{path} is damaged: {error}", help) from None

    def _generate(self, period: int, slot: int) -> Tensor:
        """The rows (S, n, 2 O + A + 2) of a new set, guided by the agent unless it is of the beginning.

        Raises SwgError where the agent has guided the walk to what is not finite.
        """
        s = self.settings
        act = self.learner.actor.act if period and s.scale > 0 else None
        say(f"agent: drawing {s.trajectories:,} trajectories a seed, {'guided' if act else 'unguided'}")

        def sources(stream: str, index: int) -> list[torch.Generator]:
            return [generator(seed, f"agent/synth/{period}-{slot}/{stream}", index, self.device) for seed in self.seeds]

        with signals.deferred(), progress("agent", s.trajectories, "trajectories") as bar, products(s.precision):
            drawn = self.sampler.draw(s.trajectories, s, act, sources, self.mode, bar.update)
        return self.packed(check_finite(drawn, "agent"))


def _path(work: Path, period: int, slot: int) -> Path:
    return work / f"set-{period}-{slot}.safetensors"
