"""The table of methods: a guidance, its names in reports, and the stages that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from swgctl import plugins

UNGUIDED = "behaviour model"


@dataclass(frozen=True)
class Method:
    """A row of the table.

    label      a guided policy's name in reports; resampled: its name if it chooses among several candidates
    guidance   "module:function": maps the scales rho (B, 1), and the options by name, to a `diffusion.Guidance`, which
               has to be a `diffusion.Counting` if it has statistics
    options    settings of `eval` that the guidance takes
    statistics counts for each candidate, attributes (..., B) of the guidance beside `calls`: columns of episodes.csv
    scale      letter of the guidance's scale
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
        """Name of a cell's policy in reports."""
        several = cell["candidates"] > 1
        if cell["rho"] == 0:
            return f"{UNGUIDED}, resampled" if several else UNGUIDED
        return self.resampled if several else self.label


SWG = Method("swg", "SWG", "SWG-R", "swgctl.diffusion.guidance:self_weighted", ("w_min",), ("clamped",))

SHIPPED = {row.name: row for row in (SWG,)}


@cache
def methods() -> dict[str, Method]:
    """All methods by name, plugins' after the shipped ones."""
    return plugins.extend(SHIPPED, plugins.METHODS, Method)
