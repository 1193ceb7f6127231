"""Networks, each with a seed axis."""

from swgctl.models.actor import Actor
from swgctl.models.critic import Critic
from swgctl.models.denoiser import Denoiser
from swgctl.models.energy import Energy
from swgctl.models.ensemble import Ensemble
from swgctl.models.layers import reset
from swgctl.models.toy import TOY_ARCHITECTURE, ToyDenoiser, ToyGuide
from swgctl.models.unet import UNet

__all__ = [
    "TOY_ARCHITECTURE",
    "Actor",
    "Critic",
    "Denoiser",
    "Energy",
    "Ensemble",
    "ToyDenoiser",
    "ToyGuide",
    "UNet",
    "reset",
]
