"""Acts with the policy in policy.safetensors beside this file.  Needs PyTorch and safetensors, and gymnasium to step.

`python act.py` plays one episode; from elsewhere, `import act` and call `act.act(observations)`.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import safe_open

with safe_open(Path(__file__).with_name("policy.safetensors"), "pt") as file:
    about, p = json.loads(file.metadata()["swg"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def mlp(x, *layers, activation=F.silu):
    for i, layer in enumerate(layers):
        x = (activation(x) if i else x) @ p[f"{layer}.weight"] + p[f"{layer}.bias"]
    return x


def block(h, name):
    x = F.layer_norm(h, h.shape[-1:], eps=1e-6) * p[f"{name}.norm.weight"] + p[f"{name}.norm.bias"]
    return h + mlp(x, f"{name}.up", f"{name}.down")


def denoise(z, k, s):
    """The noise in z = [action, weight] (S, B, A + 1) of step k, at observations s (S, B, O) of S seeds."""
    phase = 2 * torch.pi * k * p["fourier.frequency"]
    step = mlp(torch.cat([phase.cos(), phase.sin()], -1), "step_in", "step_out")
    x = torch.cat([z, s, step.expand(-1, z.shape[1], -1)], -1)
    h = of_weight = mlp(x, "entry")
    for i in range(about["blocks"]):
        h = block(h, f"blocks.{i}")
        of_weight = h if i + 1 == about["weight_block"] else of_weight
    if "weight_entry.weight" in p:  # a sub-network for the weight alone
        of_weight = mlp(x, "weight_entry")
        for i in range(about["weight_block"]):
            of_weight = block(of_weight, f"weight_blocks.{i}")
    out = mlp(F.silu(h), "action_out")
    return torch.cat([out, mlp(of_weight, "weight_in", "weight_out")], -1) if about["weight_block"] else out


def act(s, rho=about["rho"], candidates=about["candidates"], temperature=about["temperature"], noise=torch.randn):
    """Actions (S, E, A) in the environment's units for observations (E, O) or (S, E, O): guided DDPM, best of M."""
    s = s.expand(len(about["seeds"]), -1, -1).repeat_interleave(candidates, 1)
    z = temperature * noise((*s.shape[:2], p["z_low"].shape[-1]))
    for k in reversed(range(about["K"])):
        alpha, sigma, step_alpha = (p[name][k].item() for name in ("alpha", "sigma", "step_alpha"))
        eps = denoise(z.requires_grad_(), k, s)
        log_w = ((z[..., -1] - sigma * eps[..., -1]) / alpha).clamp(min=about["w_min"]).log()
        eps, z = (eps - rho * sigma * torch.autograd.grad(log_w.sum(), z)[0]).detach(), z.detach()
        z0 = ((z - sigma * eps) / alpha).clamp(p["z_low"], p["z_high"])
        z = (z - (1 - step_alpha) / sigma**2 * (z - alpha * z0)) / step_alpha**0.5
        z = z + temperature * (1 - step_alpha) ** 0.5 * noise(z.shape) if k else z
    a, rank = z[..., :-1].clamp(-1, 1), z[..., -1]  # without a critic, by the model's own weight
    if about["q_layers"]:  # w grows with Q - V, and all candidates of a state have the same V
        rank = mlp(torch.cat([s, a], -1).unsqueeze(1), *about["q_layers"], activation=F.relu).amin(1).squeeze(-1)
    best = rank.unflatten(1, (-1, candidates)).argmax(-1, keepdim=True).unsqueeze(-1)
    a = a.unflatten(1, (-1, candidates)).take_along_dim(best, 2).squeeze(2)
    return p["action_low"] + (a + 1) / 2 * (p["action_high"] - p["action_low"])


if __name__ == "__main__":
    import gymnasium

    env = gymnasium.make(about["environment"])
    (s, _), total, ended = env.reset(seed=0), 0.0, False
    while not ended:
        action = act(torch.as_tensor(s, dtype=torch.float32).unsqueeze(0))[0, 0]  # of the first seed
        s, reward, terminated, truncated, _ = env.step(action.numpy())
        total, ended = total + reward, terminated or truncated
    print(f"return {total:.1f}")
