"""Act with the agent in policy.safetensors beside this file.  Needs PyTorch and safetensors, and gymnasium to step.

`python act.py` plays one episode; from elsewhere, `import act` and call `act.act(observations)`.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open

with safe_open(Path(__file__).with_name("policy.safetensors"), "pt") as file:
    about, p = json.loads(file.metadata()["swg"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


@torch.no_grad()
def act(s):
    """Mean actions (S, E, A) in the environment's units at s (O,), (E, O) or (S, E, O), of S seeds."""
    mean, std, low, high = (p[name] for name in ("observation_mean", "observation_std", "action_low", "action_high"))
    s, sizes = torch.atleast_2d(torch.as_tensor(s)), tuple(mean.shape)
    if s.shape[-1] != sizes[1] or s.shape[:-2] not in ((), (1,), sizes[:1]):
        raise ValueError(f"observations must be (O,), (E, O) or (S, E, O) with (S, O) = {sizes}, not {tuple(s.shape)}")
    x = (s.to(mean) - mean.unsqueeze(1)) / std.unsqueeze(1)
    for i, layer in enumerate(about["layers"]):
        x = (x.relu() if i else x) @ p[f"{layer}.weight"] + p[f"{layer}.bias"]
    return (low + (x.tanh() + 1) / 2 * (high - low)).clamp(low, high)


if __name__ == "__main__":
    import gymnasium

    env = gymnasium.make(about["environment"])
    (s, _), total, ended = env.reset(seed=0), 0.0, False
    while not ended:
        s, reward, terminated, truncated, _ = env.step(act(s)[0, 0].numpy())  # of the first seed
        total, ended = total + float(reward), terminated or truncated
    print(f"return {total:.1f}")
