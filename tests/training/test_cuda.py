"""What only a GPU can show of training, products and roll-outs; each takes seconds."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import islice

import gymnasium
import pytest
import torch
from support.policies import policy_of

from swgctl.bench import gpu
from swgctl.bench.cases import SETTINGS, learner
from swgctl.diffusion import Schedule
from swgctl.evaluation.rollout import roll_out
from swgctl.models import Denoiser, batched, reset
from swgctl.randomness import generator
from swgctl.tasks import Task
from swgctl.training import draws
from swgctl.training.execution import PRECISIONS, Replay, capture, card, effective, products

pytestmark = pytest.mark.cuda

CUDA = torch.device("cuda", max(torch.cuda.device_count(), 1) - 1)
SEEDS = [0, 3]

gymnasium.register("SwingingPendulum-v1", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=25)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("what", SETTINGS)
def test_a_captured_step_is_the_step_to_the_bit_at_the_papers_sizes(what, precision):
    """Where cuBLAS chooses by size, small ones prove nothing."""
    plain, captured = (learner(SETTINGS[what](), SEEDS, CUDA, 10_000) for _ in range(2))
    step = Replay(captured.step, captured.state, partial(capture, device=CUDA))
    with products(precision, "compiled"):  # bf16 is rounded then alone
        for drawn in islice(draws(plain, what, SEEDS, CUDA), 8):
            plain.step(drawn)
            step(drawn)
    state = captured.state()
    assert all(torch.equal(value, state[name]) for name, value in plain.state().items())


@pytest.mark.parametrize("mode", ["graph", "compiled"])
def test_a_run_that_was_killed_ends_in_the_same_bytes_in_another_process(mode, tmp_path):
    row = gpu.resume(replace(gpu.TINY, resumed=(20_000, 20_000), every=0.2), tmp_path, "cuda", mode)
    assert row["codes"] == [0, 0]
    assert row["killed"] == 2
    assert row["equal"] == {"critic": True, "diffuse": True}
    record = gpu.records(tmp_path / f"{mode}-cut")["critic"]["made"]
    assert record["mode"] == mode
    assert record["precision"] == effective("bf16", "cuda", mode)
    assert record["card"] == card("cuda")


def test_factors_are_rounded_inside_a_capture():
    """The error against double precision grows from fp32 to TF32 to bf16, and is eager's."""
    x, y = (torch.randn(2, 512, 512, generator=torch.Generator().manual_seed(i)).to(CUDA) for i in (0, 1))
    exact, errors = x.double() @ y.double(), {}
    for precision in PRECISIONS:
        with products(precision, "compiled"):
            step = Replay(lambda at: {"z": batched.bmm(at["x"], at["y"])}, dict, partial(capture, device=CUDA))
            z = step({"x": x, "y": y})["z"]
            assert torch.equal(z, batched.bmm(x, y))
            errors[precision] = ((z - exact).abs().max() / exact.max()).item()
    assert errors["fp32"] < 1e-5
    for precision, bits in (("tf32", 10), ("bf16", 7)):
        assert effective(precision, str(CUDA), "compiled") in ("fp32", precision), "or the card has no such products"
        assert errors[precision] < 2.0**-bits
    if torch.cuda.is_bf16_supported(including_emulation=False):
        assert effective("bf16", str(CUDA), "compiled") == "bf16"
        assert effective("bf16", str(CUDA)) == "tf32"
        assert errors["fp32"] < errors["tf32"] < errors["bf16"]


class Abroad:
    """A policy on the GPU that takes observations and noise of the CPU, and answers there."""

    def __init__(self, policy):
        self.policy, self.device = policy, torch.device("cpu")

    def __getattr__(self, name):
        return getattr(self.policy, name)

    def prepare(self, cells):
        propose = self.policy.prepare(cells)

        def answer(observations, noise):
            actions, shares = propose(observations.to(CUDA), lambda shape: noise(shape).to(CUDA))
            return actions.cpu(), {name: value.cpu() for name, value in shares.items()}

        return answer


def test_a_roll_out_is_the_cpus_where_the_noise_is():
    denoiser = Denoiser(len(SEEDS), 3, 2, 5, width=16)
    reset(denoiser, [generator(seed, "denoiser", 0) for seed in SEEDS])
    denoiser.requires_grad_(False)
    free = torch.tensor([[-2.0, 2.0]]).expand(len(SEEDS), 2)
    here = policy_of(SEEDS, 1, denoiser, free, Schedule.vp(5))
    task = Task("test", "SwingingPendulum-v1", "file:test", "none", "default", references=None, horizon=25)
    cells = [{"rho": rho, "candidates": m, "temperature": 1.0} for m in (1, 3) for rho in (0.0, 2.0)]
    expected = roll_out(here, task, cells, 2, 0)
    bounds = tuple(bound.to(CUDA) for bound in here.sampler.bounds)
    sampler = replace(here.sampler, denoiser=denoiser.to(CUDA), bounds=bounds)
    there = replace(here, sampler=sampler, device=CUDA, record=partial(capture, device=CUDA))
    for one, other in zip(expected, roll_out(Abroad(there), task, cells, 2, 0), strict=True):
        assert other["length"] == one["length"]
        assert other["return"] == pytest.approx(one["return"], rel=1e-2)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one GPU")
def test_a_card_by_number_leaves_the_others_alone():
    script = f"""
import torch
from itertools import islice
from swgctl.bench.cases import SETTINGS, learner
from swgctl.training import draws
from swgctl.training.execution import pick_device, runner
device = torch.device(pick_device("{CUDA}"))
one = learner(SETTINGS["critic"](), [0], device, 1000)
step = runner(one.step, one.state, "graph", device)
for drawn in islice(draws(one, "critic", [0], device), 4):
    step(drawn)
torch.cuda.synchronize()
assert torch.cuda.memory_reserved(device) > 0
assert torch.cuda.memory_reserved(0) == 0
"""
    subprocess.run([sys.executable, "-c", script], check=True)
