"""Networks, each with a seed axis."""

from swgctl.models.critic import Critic
from swgctl.models.denoiser import Denoiser
from swgctl.models.energy import Energy
from swgctl.models.layers import reset
from swgctl.models.toy import TOY_ARCHITECTURE, ToyDenoiser, ToyGuide

__all__ = ["TOY_ARCHITECTURE", "Critic", "Denoiser", "Energy", "ToyDenoiser", "ToyGuide", "reset"]
