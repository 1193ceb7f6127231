"""Benches of synthetic data: work by hand against a counter's, and the U-Net beside one of PyTorch's own layers."""

import json
import statistics
from functools import partial

import pytest
import torch
from support.harness import swgctl
from support.training import counted

from swgctl import bench, config
from swgctl.bench import cases, synthetic, work
from swgctl.bench.measure import measure, step_seconds
from swgctl.bench.peers.trajectories import PlainTraining, PlainUNet
from swgctl.config import SynthSettings, TrajectoriesSettings
from swgctl.diffusion import edm
from swgctl.models import UNet, reset
from swgctl.randomness import generator

CPU = torch.device("cpu")
SMALL = {"features": 16, "groups": 2, "batch": 4}
pytestmark = pytest.mark.training


# -- work --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("denoised", [True, False])
@pytest.mark.parametrize("guidance", synthetic.GUIDANCES)
def test_the_work_of_a_walk_is_what_a_counter_counts(guidance, denoised, monkeypatch):
    """So the denoiser is called as often as `calls` has it, which gives the time of a call."""
    monkeypatch.setattr(synthetic, "WINDOWS", 8)
    model, settings = TrajectoriesSettings(**SMALL), SynthSettings(denoised=denoised)
    case = synthetic.walk_case(model, settings, [32, 16], guidance, 2, CPU)
    assert counted(lambda: case.run(1)) == case.flop
    assert synthetic.calls(settings, guidance) == 2 + (guidance == "shift" and denoised)


def test_the_work_of_the_published_network():
    """Convolutions of 1,159 million multiplications a window at 1,024 channels, 4.62 at 64, and the level's layers:
    two of the embedding, one for each of five blocks, of 1 + 2 + 4 + 2 + 1 times as many outputs as inputs."""
    for features, millions in ((1024, 1159), (64, 4.62), (32, 1.18)):
        whole = work.walk_flop(TrajectoriesSettings(features=features, groups=2), [256], 1, 0) / 2
        assert whole - (0.25 + 1 + 10) * features**2 == pytest.approx(1e6 * millions, rel=4e-3)


# -- tables ------------------------------------------------------------------------------------------------------------


def rows(name: str, recipe, seeds: int = 2) -> list[dict]:
    answer = swgctl("bench", name, "--seeds", seeds, "--repeats", 1, "--recipe", recipe, "--json")
    return [json.loads(line) for line in answer.lines]


@pytest.fixture
def quick(monkeypatch):
    """Without the modes that compile."""
    monkeypatch.setattr(synthetic, "modes", lambda device: ["eager"])
    monkeypatch.setattr(synthetic, "WINDOWS", 8)
    monkeypatch.setattr(cases, "ROWS", 500)
    monkeypatch.setattr(synthetic, "measure", partial(measure, seconds=0.02))
    monkeypatch.setitem(measure.__globals__, "limit", lambda *_: 1e9)


def test_a_row_for_each_training(tiny, quick):
    one, both, plain = rows("trajectories", tiny)
    assert [row["seeds"] for row in (one, both, plain)] == [1, 2, 2]
    assert [row["mode"] for row in (one, both, plain)] == ["eager", "eager", "plain"]
    assert plain["times_plain"] == 1
    for row in (one, both, plain):
        assert row["times_plain"] == pytest.approx(row["seed_steps_per_s"] / plain["seed_steps_per_s"])
        assert row["recipe_s"] == pytest.approx(40 / row["steps_per_s"])
        assert row["batch"] == 8
    agents = rows("agent", tiny)
    assert [(row["algo"], row["seeds"]) for row in agents] == [("td3bc", 1), ("td3bc", 2), ("iql", 1), ("iql", 2)]
    for row in agents:
        assert row["recipe_s"] == pytest.approx(40 / row["steps_per_s"])


def test_a_row_for_each_guidance(tiny, quick):
    """A set of 12 trajectories for each of two members, of 4 levels with 2, 3 and 2 calls."""
    walks = rows("synth", tiny)
    assert [row["guidance"] for row in walks] == ["none", "shift", "posterior"]
    for row, calls in zip(walks, (2, 3, 2), strict=True):
        assert row["call_s"] * calls * row["levels"] * row["batch"] == pytest.approx(1 / row["seed_steps_per_s"])
        assert row["recipe_s"] == pytest.approx(row["call_s"] * calls * 4 * 12 * 2)


def test_a_table_for_people(tiny, quick):
    answer = swgctl("bench", "synth", "--seeds", 1, "--repeats", 1, "--recipe", tiny)
    assert answer.lines == []
    assert "us a call" in answer.err
    assert "recipe, s" in answer.err


def test_the_recipes_sizes_are_what_is_measured(monkeypatch):
    sizes = []
    monkeypatch.setitem(bench.TABLES, "synth", lambda resolved, *how: sizes.append(resolved) or iter([{"device": ""}]))
    for recipe in ([], ["--recipe", "pgd"]):
        swgctl("bench", "synth", "--json", *recipe)
    local, paper = sizes
    assert local.of(config.TRAJECTORIES).features == 64
    assert (paper.of(config.TRAJECTORIES).features, paper.of(config.TRAJECTORIES).steps) == (1024, 1_830_000)
    assert (paper.of(config.SYNTH).levels, paper.of(config.AGENT).steps) == (256, 1_000_000)


def test_bad_input(tmp_path):
    refusal = swgctl("bench", "critic", "--recipe", "pgd")
    refusal.refused(2, "--recipe", "trajectories, synth, agent")
    assert refusal.helps == ["swgctl bench trajectories synth agent --recipe pgd"]
    swgctl("bench", "synth", "--recipe", tmp_path / "none.yaml").refused(2, "none.yaml")
    swgctl("bench", "synths").refused(2, "no table 'synths' to measure", "did you mean 'synth'")


# -- beside PyTorch's own layers ---------------------------------------------------------------------------------------


def take(plain: PlainUNet, net: UNet, member: int) -> None:
    """The parameters of one member of a network."""
    theirs = [(plain.level_in, net.level_in), (plain.level_out, net.level_out), (plain.out, net.out)]
    for block, ours in zip([*plain.encoder, *plain.decoder], [*net.encoder, *net.decoder], strict=True):
        theirs.append((block.level, ours.level))
        for i, (conv, norm) in enumerate(zip(block.convs, block.norms, strict=True), 1):
            theirs += [(conv, getattr(ours, f"conv_{i}")), (norm, getattr(ours, f"norm_{i}"))]
    with torch.no_grad():
        for layer, ours in theirs:
            weight, bias = ours.weight[member], ours.bias[member]
            if isinstance(layer, torch.nn.Conv1d):
                weight = weight.unflatten(0, (ours.width, -1)).permute(2, 1, 0)
            elif isinstance(layer, torch.nn.Linear):
                weight = weight.T
            layer.weight.copy_(weight.reshape(layer.weight.shape))
            layer.bias.copy_(bias.flatten())


@pytest.mark.parametrize(("length", "blocks"), [(16, 3), (17, 3), (9, 2), (4, 1)])
def test_the_network_computes_what_one_of_pytorchs_layers_does(length, blocks):
    """Outputs, the loss and its gradient in a kernel, in double precision: two ways to one network."""
    net = UNet(2, 25, 16, blocks, 4).double()
    reset(net, [generator(seed, "test", 0) for seed in range(2)])
    noise = generator(0, "test/noise", 0)
    for parameter in net.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=noise)
    x, eps = (torch.randn(2, 3, length, 25, generator=noise).double() for _ in range(2))
    sigma = torch.rand(2, 3, generator=noise).double() + 0.1
    loss, _ = edm.loss(net, x, eps, sigma)
    loss.sum().backward()
    for member in range(2):
        plain = PlainUNet(25, 16, blocks, 4).double()
        take(plain, net, member)
        torch.testing.assert_close(plain(x[member], sigma[member]), net(x, sigma)[member], rtol=0, atol=1e-6)
        theirs, _ = edm.loss(plain, x[member], eps[member], sigma[member])
        theirs.backward()
        torch.testing.assert_close(theirs, loss[member], rtol=0, atol=1e-6)
        kernel = net.encoder[0].conv_1.weight.grad[member].unflatten(0, (3, -1)).permute(2, 1, 0)
        torch.testing.assert_close(plain.encoder[0].convs[0].weight.grad, kernel, rtol=1e-4, atol=1e-6)


def test_plain_training_descends_and_averages():
    settings = TrajectoriesSettings(**SMALL, ema_every=2, ema=0.5)
    training = PlainTraining(cases.windows(200), settings)
    first = training.net.out.bias.detach().clone()
    training.step()
    after = training.net.out.bias.detach().clone()
    assert not torch.equal(first, after)
    assert torch.equal(training.average.out.bias, first)
    training.step()
    torch.testing.assert_close(training.average.out.bias, (first + training.net.out.bias.detach()) / 2)


@pytest.mark.slow  # it measures, and wants the machine for itself
def test_training_is_faster_than_plain_pytorch():
    """Seed-steps/s at the local recipe's sizes, by turns: three seeds as one, and three networks one after another."""
    settings = config.resolve(None, synthetic.RECIPE).of(config.TRAJECTORIES)
    ours = cases.training_case("trajectories", settings, 3, "eager", settings.precision, CPU)
    plain = synthetic.plain_case(settings, 3, CPU)
    pairs = [tuple(3 / step_seconds(case, 4, CPU) for case in (ours, plain)) for _ in range(8)]
    del pairs[0]  # whatever the first steps do once
    print(*(f"{a:.1f} / {b:.1f} = {a / b:.2f}" for a, b in pairs), sep="\n")
    assert statistics.median(a / b for a, b in pairs) > 1.2
