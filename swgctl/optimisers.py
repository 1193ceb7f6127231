"""PyTorch's Adam, with its state as named tensors from the start, so that a checkpoint needs no pickle."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Adam(torch.optim.Adam):
    """Fused Adam with the paper's defaults: betas 0.9 and 0.999, eps 1e-8; a rate that changes is a tensor ()."""

    def __init__(self, parameters: Iterable[Tensor], lr: float | Tensor):
        super().__init__(parameters, lr=lr, fused=True)
        own = self.param_groups[0]
        own["capturable"] = own["params"][0].is_cuda  # its count of steps is on the device, so a graph may hold it
        for p in own["params"]:
            self.state[p] = {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }

    def descend(self, loss: Tensor) -> None:
        """One step down the gradient of a scalar."""
        self.zero_grad()
        loss.backward()
        self.step()

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The live state, by name."""
        return {
            f"{prefix}.{i}.{name}": tensor
            for i, p in enumerate(self.param_groups[0]["params"])
            for name, tensor in self.state[p].items()
        }
