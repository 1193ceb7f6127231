"""Networks, all with the seed axis."""

from swgctl.models.critic import Critic
from swgctl.models.denoiser import ARCHITECTURE, Denoiser
from swgctl.models.layers import reset

__all__ = ["ARCHITECTURE", "Critic", "Denoiser", "reset"]
