"""PyTorch's Adam, with its state as named tensors from the start, so that a checkpoint needs no pickle."""

from collections.abc import Iterable

import torch
from torch import Tensor


class Adam(torch.optim.Adam):
    """Fused Adam with the paper's defaults: betas 0.9 and 0.999, eps 1e-8, a constant learning rate unless told."""

    def __init__(self, parameters: Iterable[Tensor], lr: float):
        super().__init__(parameters, lr=lr, fused=True)
        for p in self.param_groups[0]["params"]:
            self.state[p] = {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }

    def descend(self, loss: Tensor, lr: float | None = None) -> None:
        """One step down the gradient of a scalar; `lr`: with another rate, from this step on."""
        if lr is not None:
            self.param_groups[0]["lr"] = lr
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
