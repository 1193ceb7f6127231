"""Networks, each with a seed axis."""

from swgctl.models.critic import Critic
from swgctl.models.denoiser import ARCHITECTURE, Denoiser
from swgctl.models.layers import reset
from swgctl.models.toy import TOY_ARCHITECTURE, ToyDenoiser

__all__ = ["ARCHITECTURE", "TOY_ARCHITECTURE", "Critic", "Denoiser", "ToyDenoiser", "reset"]
