"""The toy experiments of section 6.1 and appendix B.1: 2-D densities, an energy on each, distances of samples."""

from swgctl.toys.densities import DENSITIES, Density, EnergyWeights
from swgctl.toys.experiment import Frame, Walk, compare, draw_all

__all__ = [
    "DENSITIES",
    "Density",
    "EnergyWeights",
    "Frame",
    "Walk",
    "compare",
    "draw_all",
]
