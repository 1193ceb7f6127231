"""Generation of trajectories: batches, members and replays are what each is alone; policies guide as they are."""

import os
import signal
from functools import partial

import pytest
import torch
from safetensors.torch import save_file
from support.records import Bare

from swgctl import signals
from swgctl.config.synthetic import Generation
from swgctl.diffusion import Channels, edm, policy_posterior, policy_shift
from swgctl.errors import Interrupted, SwgError
from swgctl.models import Actor, reset
from swgctl.models.unet import UNet
from swgctl.policies import trajectories
from swgctl.policies.trajectories import TrajectorySampler, check_finite, load_trajectories
from swgctl.randomness import generator
from swgctl.training.execution import Replay, capture

SEEDS, O, A, L = [0, 3, 7], 3, 2, 8  # noqa: E741 - the shapes' names
CPU = torch.device("cpu")
CUDA = torch.device("cuda", max(torch.cuda.device_count(), 1) - 1)

UNGUIDED = Generation(scale=0, levels=4)
SHIFT = Generation(scale=2, levels=4)
POSTERIOR = Generation(scale=2, levels=4, guidance="posterior")


def channels() -> Channels:
    g = torch.Generator().manual_seed(0)
    return Channels(O, A, torch.randn(O + A + 2, generator=g), 0.5 + torch.rand(O + A + 2, generator=g))


def sampler(seeds, device=CPU) -> TrajectorySampler:
    """Random networks, whose members depend on their seed alone."""
    network = UNet(len(seeds), O + A + 2, features=8, blocks=2, groups=2).requires_grad_(False)
    reset(network, [generator(seed, "trajectories", 0) for seed in seeds])
    return TrajectorySampler(network.to(device), channels().to(device), L)


def actor(seeds, device=CPU) -> Actor:
    net = Actor(len(seeds), O, A, [8], gaussian=True)
    reset(net, [generator(seed, "actor", 0) for seed in seeds])
    return net.to(device)


def streams(seeds, device=CPU):
    return lambda stream, index: [generator(seed, f"synth/{stream}", index, device) for seed in seeds]


def recorder(function):
    """A graph on a CPU: trials that change the state, then a replay that calls the function with what is in place."""
    for _ in range(4):
        function()
    return function


@pytest.fixture(autouse=True)
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(trajectories, "BATCH", 4)


# -- what is drawn -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [UNGUIDED, SHIFT, POSTERIOR], ids=lambda s: f"{s.guidance}-{s.scale}")
def test_a_draw_is_the_walk_of_each_batch(settings):
    """Two ways: `draw`, and `edm.sample` with the same noise; six windows are two batches of three."""
    model, policy = sampler(SEEDS), actor(SEEDS)
    drawn = model.draw(6, settings, policy.act, streams(SEEDS))
    assert drawn.shape == (3, 6, L, O + A + 2)
    denoise, shift = partial(edm.denoised, model.network), None
    if settings is POSTERIOR:
        denoise = policy_posterior(denoise, policy.act, model.channels, 2.0)
    if settings is SHIFT:
        shift = policy_shift(policy.act, model.channels, 2.0)
    for batch in range(2):
        sources = streams(SEEDS)("noise", batch)

        def noise(shape, sources=sources):
            return torch.stack([torch.randn(shape[1:], generator=g) for g in sources])

        expected = edm.sample(denoise, (3, 3, L, O + A + 2), edm.Walk(4), noise, shift)
        torch.testing.assert_close(drawn[:, 3 * batch : 3 * batch + 3], expected, rtol=1e-4, atol=1e-4)


def test_every_setting_of_the_walk_and_of_the_guidance_is_read():
    model, policy = sampler(SEEDS), actor(SEEDS)

    def draw(**changes):
        settings = Generation(scale=2, levels=6, **changes)
        return model.draw(2, settings, policy.act, streams(SEEDS))

    usual = draw()
    other = {"guidance": "posterior", "ramp": 1.0, "unit": False, "denoised": False, "rule": "published", "churn": 2.0}
    for name, value in (other | {"churn_min": 5.0, "churn_max": 5.0, "churn_noise": 1.1}).items():
        assert not torch.equal(draw(**{name: value}), usual), name


@pytest.mark.parametrize("settings", [SHIFT, POSTERIOR], ids=lambda s: s.guidance)
def test_without_a_policy_or_a_scale_nothing_guides(settings):
    model, policy = sampler(SEEDS), actor(SEEDS)
    plain = model.draw(3, settings, None, streams(SEEDS))
    unscaled = settings.model_copy(update={"scale": 0.0})
    assert torch.equal(model.draw(3, unscaled, policy.act, streams(SEEDS)), plain)
    assert not torch.equal(model.draw(3, settings, policy.act, streams(SEEDS)), plain)


def test_a_policy_that_has_learnt_since_guides_anew():
    model, policy = sampler(SEEDS), actor(SEEDS)
    before = model.draw(3, SHIFT, policy.act, streams(SEEDS))
    assert torch.equal(model.draw(3, SHIFT, policy.act, streams(SEEDS)), before)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.5
    assert not torch.equal(model.draw(3, SHIFT, policy.act, streams(SEEDS)), before)


@pytest.mark.parametrize("settings", [UNGUIDED, SHIFT, POSTERIOR], ids=lambda s: f"{s.guidance}-{s.scale}")
def test_a_member_draws_what_it_does_alone(settings):
    together = sampler(SEEDS).draw(5, settings, actor(SEEDS).act, streams(SEEDS))
    for s, seed in enumerate(SEEDS):
        alone = sampler([seed]).draw(5, settings, actor([seed]).act, streams([seed]))
        torch.testing.assert_close(together[s : s + 1], alone, rtol=1e-3, atol=1e-4)


def test_one_actor_may_guide_all_members():
    one = sampler(SEEDS).draw(5, SHIFT, actor([0]).act, streams(SEEDS))
    same = sampler(SEEDS).draw(5, SHIFT, actor([0, 0, 0]).act, streams(SEEDS))
    torch.testing.assert_close(one, same, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("count", "done"), [(1, [1]), (4, [4]), (5, [3, 5]), (9, [3, 6, 9]), (10, [4, 8, 10])])
def test_batches_are_alike_and_their_windows_are_counted(count, done):
    seen = []
    drawn = sampler([0]).draw(count, UNGUIDED, None, streams([0]), report=seen.append)
    assert drawn.shape[1] == count
    assert seen == done
    assert len(torch.unique(drawn[0, :, 0, 0])) == count, "no two windows have the same noise"


def test_a_signal_stops_a_draw_between_two_steps():
    steps = []

    def network(x, c_noise):
        steps.append(c_noise)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return torch.zeros_like(x)

    model = TrajectorySampler(network, channels(), L)
    with pytest.raises(Interrupted), signals.deferred():
        model.draw(2, Generation(scale=0, levels=64), None, streams([0]))
    assert len(steps) == 4


# -- captured steps, by a stand-in for a graph, and where there is a GPU by a real one ---------------------------------


def captured(monkeypatch, graph) -> None:
    monkeypatch.setattr(trajectories, "runner", lambda step, state, mode, device: Replay(step, state, graph))


@pytest.mark.parametrize(
    ("device", "graph"), [(CPU, recorder), pytest.param(CUDA, partial(capture, device=CUDA), marks=pytest.mark.cuda)]
)
@pytest.mark.parametrize("settings", [UNGUIDED, SHIFT, POSTERIOR], ids=lambda s: f"{s.guidance}-{s.scale}")
def test_a_replayed_walk_reads_fresh_numbers_and_noise(settings, device, graph, monkeypatch):
    """Two batches, replayed and eager, agree to the bit, and differ from each other."""
    model, policy, sources = sampler(SEEDS, device), actor(SEEDS, device), streams(SEEDS, device)
    eager = model.draw(8, settings, policy.act, sources)
    captured(monkeypatch, graph)
    replayed = model.draw(8, settings, policy.act, sources, mode="graph")
    assert torch.equal(replayed, eager)
    assert not torch.equal(replayed[:, :4], replayed[:, 4:])


def test_a_captured_step_is_recorded_once_and_reads_the_same_tensors(monkeypatch):
    recordings, places = [], set()

    def graph(function):
        recordings.append(function)
        return recorder(function)

    def network(x, c_noise):
        return torch.zeros_like(x)

    step = edm.step

    def watched(denoise, x, at, eps, **options):
        places.add((x.data_ptr(), eps.data_ptr(), *(value.data_ptr() for value in at.values())))
        return step(denoise, x, at, eps, **options)

    monkeypatch.setattr(trajectories.edm, "step", watched)
    captured(monkeypatch, graph)
    TrajectorySampler(network, channels(), L).draw(8, UNGUIDED, None, streams([0]), mode="graph")
    assert len(recordings) == 1
    assert len(places) == 1


# -- artifacts ---------------------------------------------------------------------------------------------------------


def test_a_sampler_is_read_from_an_artifact(tmp_path):
    """The averaged parameters, not the last ones, and the channels' statistics."""
    model = sampler(SEEDS)
    state = model.network.state_dict()
    tensors = {f"ema.{name}": value for name, value in state.items()}
    tensors |= {f"raw.{name}": value + 1 for name, value in state.items()}
    tensors |= {"mean": model.channels.mean, "std": model.channels.std}
    save_file(tensors, tmp_path / "denoiser.safetensors")
    artifact = Bare(
        file=lambda name: tmp_path / name,
        meta={"metrics": {"data": {"observation_dim": O, "action_dim": A}}},
        params={"features": 8, "blocks": 2, "groups": 2, "length": L, "lr": 0.002},
        seeds=SEEDS,
    )
    loaded = load_trajectories(artifact, "cpu")
    assert loaded.length == L
    assert not any(parameter.requires_grad for parameter in loaded.network.parameters())
    first, second = (one.draw(3, SHIFT, actor(SEEDS).act, streams(SEEDS)) for one in (model, loaded))
    assert torch.equal(first, second)


def test_windows_that_are_not_finite_are_refused():
    whole = torch.ones(1, 2, 3, 4)
    assert check_finite(whole, "agent") is whole
    with pytest.raises(SwgError, match="agent: the trajectories are not finite"):
        check_finite(whole.log().log(), "agent")
