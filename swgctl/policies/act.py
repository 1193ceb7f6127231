"""Act with the policy in policy.safetensors beside this file.  Needs PyTorch and safetensors, and gymnasium to step.

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


def features(x, depth, net=""):  # a residual network's activations: after its entry, then after each block
    h = [mlp(x, f"{net}entry")]
    for name in (f"{net}blocks.{i}" for i in range(depth)):
        x = F.layer_norm(h[-1], h[-1].shape[-1:], eps=1e-6) * p[f"{name}.norm.weight"] + p[f"{name}.norm.bias"]
        h.append(h[-1] + mlp(x, f"{name}.up", f"{name}.down"))
    return h


def conditioned(z, k, s, net=""):
    """The input of a network: z (S, B, C), observations s (S, B, O) of S seeds, and the embedding of step k."""
    phase = 2 * torch.pi * k * p[f"{net}fourier.frequency"]
    step = mlp(torch.cat([phase.cos(), phase.sin()], -1), f"{net}step_in", f"{net}step_out")
    return torch.cat([z, s, step.expand(-1, z.shape[1], -1)], -1)


def denoise(z, k, s):
    """Noise in z (S, B, C) at step k: the action's, and the weight's if the model has one."""
    x = conditioned(z, k, s)
    h, at = features(x, about["blocks"]), about["weight_block"]
    of_weight = features(x, at, "weight_") if "weight_entry.weight" in p else h  # a sub-network of its own, or shared
    out = mlp(F.silu(h[-1]), "action_out")
    if not at:
        return out
    w = mlp(of_weight[at], "weight_in", "weight_out")
    if about["weight_form"] == "data":  # the head predicts the clean channel, of which its noise follows
        w = (z[..., -1:] - p["alpha"][k].item() * w) / p["sigma"][k].item()
    return torch.cat([out, w], -1)


@torch.inference_mode(False)  # guidance needs a gradient even where the caller disables them
@torch.enable_grad()
def act(s, rho=about["rho"], candidates=about["candidates"], temperature=about["temperature"], noise=torch.randn):
    """Actions (S, E, A) in the environment's units at s (O,), (E, O) or (S, E, O): guided DDPM, best of M."""
    if not (0 <= rho < float("inf") and 0 <= temperature < float("inf") and candidates >= 1):
        raise ValueError(f"not a scale, a temperature and a number of candidates: {rho}, {temperature}, {candidates}")
    if rho and not (about["joint"] or about["energy_layers"]):
        raise ValueError("nothing guides this policy: leave rho at 0")
    if candidates > 1 and not (about["q_layers"] or about["joint"]):
        raise ValueError("without a critic or a weight there is nothing to rank candidates by")
    if candidates > 1 and not temperature:
        raise ValueError("temperature 0 makes all candidates equal: give a temperature, such as 0.5")
    s, sizes = torch.atleast_2d(torch.as_tensor(s)), (len(about["seeds"]), *p["observation_mean"].shape)
    if s.shape[-1] != sizes[1] or s.shape[:-2] not in ((), (1,), sizes[:1]):
        raise ValueError(f"observations must be (O,), (E, O) or (S, E, O) with (S, O) = {sizes}, not {tuple(s.shape)}")
    s = s.to(p["z_low"]).detach().expand(sizes[0], -1, -1).repeat_interleave(candidates, 1)
    z = temperature * noise((*s.shape[:2], p["z_low"].shape[-1]))
    for k in reversed(range(about["K"])):
        alpha, sigma, step_alpha = (p[name][k].item() for name in ("alpha", "sigma", "step_alpha"))
        eps = denoise(z.requires_grad_(bool(rho)), k, s)
        if rho and k < about["kmax"]:
            if about["energy_layers"]:  # a guide's energy, else the logarithm of the weight that the model predicts
                log_w = mlp(conditioned(z, k, s, "energy."), *about["energy_layers"])
            else:
                w_hat = (z[..., -1] - sigma * eps[..., -1]) / alpha
                line = p["intercept"][:, k : k + 1], p["slope"][:, k : k + 1]  # 0 and 1 for a raw channel
                log_w = (line[0] + line[1] * w_hat).clamp(min=about["w_min"]).log()
            guided, z = (eps - rho * sigma * torch.autograd.grad(log_w.sum(), z)[0]).detach(), z.detach()
            if about["rescale"]:
                guided = F.normalize(guided, dim=-1) * eps.detach().norm(dim=-1, keepdim=True)
            eps = guided
        z0 = ((z - sigma * eps) / alpha).clamp(p["z_low"], p["z_high"])
        z = (z - (1 - step_alpha) / sigma**2 * (z - alpha * z0)) / step_alpha**0.5
        z = z + temperature * (1 - step_alpha) ** 0.5 * noise(z.shape) if k else z
    a, rank = z[..., : len(p["action_low"])].clamp(-1, 1), z[..., -1]  # without a critic, the model's own weight
    if about["q_layers"]:  # w grows with Q - V, and V is the same for all candidates of a state
        rank = mlp(torch.cat([s, a], -1).unsqueeze(1), *about["q_layers"], activation=F.relu).amin(1).squeeze(-1)
    best = rank.unflatten(1, (-1, candidates)).argmax(-1, keepdim=True).unsqueeze(-1)
    a = a.unflatten(1, (-1, candidates)).take_along_dim(best, 2).squeeze(2)
    low, high = p["action_low"], p["action_high"]
    return (low + (a + 1) / 2 * (high - low)).clamp(low, high)


if __name__ == "__main__":
    import gymnasium

    env = gymnasium.make(about["environment"])
    (s, _), total, ended = env.reset(seed=0), 0.0, False
    while not ended:
        s, reward, terminated, truncated, _ = env.step(act(s)[0, 0].numpy())  # of the first seed
        total, ended = total + reward, terminated or truncated
    print(f"return {total:.1f}")
