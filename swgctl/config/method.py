"""The table of methods: a guidance, what reports call it, and the stages that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from swgctl import plugins

UNGUIDED = "behaviour model"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    label      what reports call a guided policy; resampled: one that chooses among several candidates
    guidance   "module:function": from the scales rho (B, 1), and the options by name, to a `diffusion.Guidance`
    options    the settings of `eval` that it takes
    statistics what it counts, for each candidate, as attributes (..., B) beside `calls`: columns of episodes.csv
    scale      the letter of the guidance's scale
    stages     the chain that `swgctl run` builds; the last one is the evaluation
    """

    name: str
    label: str
    resampled: str
    guidance: str
    options: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    scale: str = "rho"
    stages: tuple[str, ...] = ("critic", "augment", "diffuse", "eval")

    def policy(self, cell: Mapping[str, float]) -> str:
        """What reports call the policy of a cell."""
        several = cell["candidates"] > 1
        if cell["rho"] == 0:
            return UNGUIDED + (", resampled" if several else "")
        return self.resampled if several else self.label


SWG = Method("swg", "SWG", "SWG-R", "swgctl.diffusion.guidance:self_weighted", ("w_min",), ("clamped",))

SHIPPED = {row.name: row for row in (SWG,)}


@cache
def methods() -> dict[str, Method]:
    """All methods by name, those of plugins after the shipped ones."""
    return plugins.extend(SHIPPED, plugins.METHODS, Method)
