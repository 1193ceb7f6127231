"""Adam with its state as named tensors from the start, so that checkpoints need no pickle; running averages."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

STATE = "step", "exp_avg", "exp_avg_sq"  # PyTorch's names: number of steps, and averages of gradient and its square


class Adam(torch.optim.Adam):
    """Fused Adam with the paper's defaults: betas 0.9 and 0.999, eps 1e-8.

    lr      the learning rate
    decay   "cosine": the rate falls along half a cosine that would reach 0 after the last of `steps`, and whose first
            part a linear warm-up multiplies; "warmup_cosine": the cosine begins where the warm-up ends
    warmup  share of the steps in which the warm-up rises to 1
    start   its value at the first step, which changes nothing where that is 0
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        decay: str = "none",
        steps: int = 0,
        *,
        eps: float = 1e-8,
        warmup: float = 1 / 16,
        start: float = 0.0,
    ):
        parameters = list(parameters)
        # A changing rate is a tensor, which a captured step reads anew each time.
        self.rate = torch.full((), lr, device=parameters[0].device) if decay != "none" else lr
        self.peak, self.steps, self.warmup, self.start = lr, steps, warmup, start
        self.held = warmup if decay == "warmup_cosine" else 0.0  # share of the steps before the cosine begins
        super().__init__(parameters, lr=self.rate, eps=eps, fused=True)
        group = self.param_groups[0]
        group["capturable"] = group["params"][0].is_cuda  # keeps the step count on the device, for CUDA graphs
        for p in parameters:
            values = torch.zeros((), device=p.device), torch.zeros_like(p), torch.zeros_like(p)
            self.state[p] = dict(zip(STATE, values, strict=True))

    @property
    def done(self) -> Tensor:
        """Number of steps taken, ()."""
        return self.state[self.param_groups[0]["params"][0]]["step"]

    def descend(self, loss: Tensor) -> None:
        """Take one step down the gradient of a scalar."""
        if isinstance(self.rate, Tensor):
            share = self.done / self.steps
            rise = self.start + (1 - self.start) * (share / self.warmup).clamp(max=1)
            fall = ((share - self.held) / (1 - self.held)).clamp(min=0)
            self.rate.copy_(self.peak * rise * 0.5 * (1 + torch.cos(math.pi * fall)))
        parameters = self.param_groups[0]["params"]
        gradients = torch.autograd.grad(loss, parameters)
        if torch.compiler.is_compiling():
            self._elementwise(gradients)
        else:
            for p, gradient in zip(parameters, gradients, strict=True):
                p.grad = gradient.contiguous()  # PyTorch's kernel reads it in the parameter's order
            self.step()
            for p in parameters:
                p.grad = None  # or it would be kept through the next backward pass

    @torch.no_grad()
    def _elementwise(self, gradients: tuple[Tensor, ...]) -> None:
        """`step` as operations that Inductor fuses into one kernel, with those of the average that follows.

        On an H100 PyTorch's fused one took 29 % of a compiled step of the critic: a block of it takes 65,536 numbers,
        so that small networks keep a tenth of the card busy.
        """
        group = self.param_groups[0]
        parameters, (beta1, beta2) = group["params"], group["betas"]
        steps, first, second = ([self.state[p][name] for p in parameters] for name in STATE)
        torch._foreach_add_(steps, 1)
        torch._foreach_lerp_(first, gradients, 1 - beta1)
        torch._foreach_mul_(second, beta2)
        torch._foreach_addcmul_(second, gradients, gradients, 1 - beta2)
        of_first, of_second = (-torch.expm1(math.log(beta) * self.done) for beta in (beta1, beta2))  # 1 - beta^steps
        size, correction = self.rate / of_first, of_second.sqrt()
        scale = torch._foreach_div(torch._foreach_sqrt(second), [correction] * len(second))
        torch._foreach_add_(scale, group["eps"])
        change = torch._foreach_mul(torch._foreach_div(first, scale), [size] * len(first))
        torch._foreach_sub_(parameters, change)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """Live state by name."""
        return {
            f"{prefix}.{i}.{name}": tensor
            for i, p in enumerate(self.param_groups[0]["params"])
            for name, tensor in self.state[p].items()
        }


@torch.no_grad()
def average_(averages: list[Tensor], parameters: list[Tensor], rate: float | Tensor) -> None:
    """average <- (1 - rate) average + rate parameter, in place: a target's soft update (SWG, Algorithm 3, last line)
    and the running average of a denoiser."""
    torch._foreach_lerp_(averages, parameters, rate if isinstance(rate, float) else [rate] * len(averages))
