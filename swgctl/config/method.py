"""The table of methods: a guidance, its names in reports, and the stages that it needs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from swgctl import plugins
from swgctl.console import shown
from swgctl.errors import InputError, nearest

UNGUIDED = "behaviour model"
LINEAR = "linear log w, Gaussian data"  # then the energies of MSE, DPS and AEPO differ by a constant from the exact one


@dataclass(frozen=True)
class Method:
    """A row of the table.

    label      a guided policy's name in reports; resampled: its name if it chooses among several candidates
    guidance   "module:function": maps the scales rho (B, 1), what it `takes` and the options by name to a
               `diffusion.Guidance`, which has to be a `diffusion.Counting` if it has statistics; "": never guided
    takes      an argument of the guidance that a `guide` artifact gives it: "energy", E(z (S, B, C), k) -> (S, B) of
               its network; "log_weight", log w(z_0 (S, B, C)) -> (S, B) of its critic; "line", the intercept and slope
               of its calibration; "": none
    options    settings of `eval` that the guidance takes
    statistics counts for each candidate, attributes (..., B) of the guidance beside `calls`: columns of episodes.csv
    scale      letter of the guidance's scale
    stages     the chain that `swgctl run` builds; the last one is the evaluation
    exact      when its samples, at the optimum of what it learns, have the target's density, at rho = 1 and temperature
               1; at others no guidance's have q w^rho. "yes", "no" or a condition; "": unknown
    asks       the actions at which it asks the critic: "data", "candidates" or "posterior mean"; "": unknown
    """

    name: str
    label: str
    resampled: str
    guidance: str
    takes: str = ""
    options: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    scale: str = "rho"
    stages: tuple[str, ...] = ("critic", "augment", "diffuse", "eval")
    exact: str = ""
    asks: str = ""

    def policy(self, cell: Mapping[str, float]) -> str:
        """Name of a cell's policy in reports."""
        several = cell["candidates"] > 1
        if cell["rho"] == 0:
            return f"{UNGUIDED}, resampled" if several else UNGUIDED
        return self.resampled if several else self.label


GUIDED = ("critic", "behaviour", "guide", "eval")


def _learnt(name: str, label: str, exact: str, asks: str = "data", stages: tuple[str, ...] = GUIDED) -> Method:
    """A method that learns the energy of its guidance."""
    guidance = "swgctl.diffusion.guidance:energy_guided"
    return Method(name, label, f"{label}, resampled", guidance, "energy", stages=stages, exact=exact, asks=asks)


SWG = Method(
    "swg",
    "SWG",
    "SWG-R",
    "swgctl.diffusion.guidance:self_weighted",
    options=("w_min",),
    statistics=("clamped",),
    exact="yes",
    asks="data",
)
# Its weight is the least-squares estimate of w by what the policy predicts at each step (`diffusion.calibration`).
CALIBRATED = replace(
    SWG,
    name="calibrated",
    label="SWG, calibrated",
    resampled="SWG-R, calibrated",
    takes="line",
    stages=("critic", "augment", "diffuse", "guide", "eval"),
)
RESAMPLE = Method(
    "resample", UNGUIDED, f"{UNGUIDED}, resampled", "", stages=GUIDED, exact="as M grows", asks="candidates"
)
MSE = _learnt("mse", "Diffuser (MSE)", LINEAR)
EMSE = _learnt("emse", "EMSE", "yes")
CEP = _learnt("cep", "QGPO", "many candidates", "candidates", ("critic", "behaviour", "candidates", "guide", "eval"))
DDICE = _learnt("ddice", "D-DICE", "yes")
AEPO = _learnt("aepo", "AEPO", LINEAR)
DPS = Method(
    "dps",
    "DPS",
    "DPS, resampled",
    "swgctl.diffusion.guidance:posterior_guided",
    "log_weight",
    stages=GUIDED,
    exact=LINEAR,
    asks="posterior mean",
)
# The trajectories are guided, not the policy: an agent acts by itself.
PGD = Method("pgd", "PGD", "PGD", "", scale="lambda", stages=("trajectories", "agent", "eval"))

SHIPPED = {row.name: row for row in (SWG, CALIBRATED, RESAMPLE, MSE, DPS, EMSE, CEP, DDICE, AEPO, PGD)}


@cache
def methods() -> dict[str, Method]:
    """All methods by name, plugins' after the shipped ones."""
    return plugins.extend(SHIPPED, plugins.METHODS, Method)


def method_named(name: str) -> Method:
    """The method that a record names.  Raises InputError where it is of a plugin that is not installed."""
    if name not in methods():
        raise InputError(f"the method '{shown(name)}' is not installed{nearest(name, methods())}", "pip list")
    return methods()[name]
