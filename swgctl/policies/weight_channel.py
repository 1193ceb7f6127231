"""The weight's channel of z = [action, weight], as a joint denoiser was trained on it."""

import torch
from torch import Tensor

from swgctl.policies.loading import LogWeight, load_critic, weigher
from swgctl.policies.sampler import Sampler
from swgctl.store import Artifact
from swgctl.weights import channel


class WeightChannel:
    """The channel z_w = (w - offset) / factor of a joint denoiser, w being the weight of the data that it learnt from.

    log_weight      log w(s, a) by that data's critic
    offset, factor  (S, 1)
    """

    def __init__(self, denoiser: Artifact, sampler: Sampler, weights: Tensor, device: str):
        """weights (S, N) of the data, whose scale is taken where the denoiser has not saved its channel's."""
        augmented = denoiser.parent("augment")
        self.log_weight = LogWeight(load_critic(augmented.parent("critic"), device), weigher(augmented.params))
        self.device = device
        if sampler.channel is None:
            self.offset, self.factor = channel(denoiser.params["weight_scale"], weights)
        else:
            self.offset, self.factor = sampler.channel.to(weights).split(1, 1)

    def of(self, weights: Tensor) -> Tensor:
        """(S, N) for weights (S, N)."""
        return (weights - self.offset) / self.factor

    @torch.no_grad()
    def at(self, observations: Tensor, actions: Tensor) -> Tensor:
        """(S, B) for actions (S, B, A) at observations (S, B, O), on the device of the actions."""
        log_w = self.log_weight(observations.to(self.device), actions.to(self.device))
        return self.of(log_w.exp().to(actions))

    def fill(self, z: Tensor, observations: Tensor, block: int = 4096) -> None:
        """Set the channel of candidates z (S, N, M, C) at observations (N, O)."""
        members, count, several, _ = z.shape
        for start in range(0, count, block):
            part = z[:, start : start + block]
            x = observations[start : start + block].repeat_interleave(several, 0)
            z_w = self.at(x.expand(members, -1, -1), part[..., :-1].flatten(1, 2))
            part[..., -1] = z_w.unflatten(1, part.shape[1:3])
