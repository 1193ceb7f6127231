"""The denoiser against a plain reading of the paper's appendix, and against itself where it takes a short cut."""

import math

import pytest
import torch
import torch.nn.functional as F

from swgctl.diffusion import Schedule
from swgctl.learners.denoiser import _bernoulli
from swgctl.models import Denoiser, reset
from swgctl.randomness import generator

K, S, B, O, A = 6, 2, 9, 4, 3  # noqa: E741 - the shapes' names


@pytest.fixture(scope="module")
def net():
    """Every parameter non-zero, the offsets and scales of the norms too."""
    denoiser = Denoiser(S, O, A + 1, K, width=32, dropout=0.25).requires_grad_(False)
    reset(denoiser, [generator(s, "denoiser", 0) for s in range(S)])
    for i, p in enumerate(denoiser.parameters()):
        p += 0.1 * torch.randn(p.shape, generator=generator(i, "offset", 0))
    return denoiser


@pytest.fixture(scope="module")
def batch():
    g = generator(0, "batch", 0)
    return (
        torch.randn(S, B, A + 1, generator=g),
        torch.randint(K, (S, B), generator=g),
        torch.randn(S, B, O, generator=g),
    )


def by_hand(net: Denoiser, s: int, z, k, observation, keep=None):
    """eps (A + 1) of member s for one row, layer by layer as IDQL's and SWG's appendices list them."""
    p = {name: value[s] for name, value in net.named_parameters()}

    def dense(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"][0]

    phase = 2 * math.pi * k.float() * p["fourier.frequency"][0]
    condition = dense(F.silu(dense(torch.cat([phase.cos(), phase.sin()]), "step_in")), "step_out")
    h = dense(torch.cat([z, observation, condition]), "entry")
    for i in range(3):
        x = h if keep is None else h * keep[i] / (1 - net.dropout)
        norm = f"blocks.{i}.norm"
        x = F.layer_norm(x, x.shape, p[f"{norm}.weight"][0], p[f"{norm}.bias"][0], eps=1e-6)
        h = h + dense(F.silu(dense(x, f"blocks.{i}.up")), f"blocks.{i}.down")
        if i == 1:
            eps_w = dense(F.silu(dense(h, "weight_in")), "weight_out")
    return torch.cat([dense(F.silu(h), "action_out"), eps_w])


@pytest.mark.parametrize(
    ("dimensions", "count"),
    [
        ((17, 6), 1_816_647),
        ((11, 3), 1_813_572),
        ((29, 8), 1_820_745),
        ((60, 9), 1_829_194),
        ((45, 24), 1_833_049),
    ],
)
def test_the_papers_sizes_have_the_papers_parameters(dimensions, count):
    """Counted in the official code: HalfCheetah, Hopper, AntMaze, Kitchen, Pen ("1.8M", appendix B.2)."""
    o, a = dimensions
    net = Denoiser(1, o, a + 1, K=15)
    assert sum(p.numel() for p in net.parameters()) == count


def test_five_seeds_have_five_times_the_parameters():
    one, five = (sum(p.numel() for p in Denoiser(s, 17, 7, K=15).parameters()) for s in (1, 5))
    assert five == 5 * one


def test_forward_is_the_papers_network_row_by_row(net, batch):
    z, k, observations = batch
    eps = net(z, k, observations)
    for s in range(S):
        for b in range(B):
            expected = by_hand(net, s, z[s, b], k[s, b], observations[s, b])
            torch.testing.assert_close(eps[s, b], expected, rtol=1e-5, atol=1e-5)


def test_dropout_masks_what_enters_each_block_and_scales_up_the_rest(net, batch):
    z, k, observations = batch
    keep = _bernoulli((S, 3, B, 32), 0.75, generator(0, "dropout", 0))
    eps = net(z, k, observations, keep)
    for s in range(S):
        for b in range(B):
            expected = by_hand(net, s, z[s, b], k[s, b], observations[s, b], keep[s, :, b])
            torch.testing.assert_close(eps[s, b], expected, rtol=1e-5, atol=1e-5)
    assert (eps - net(z, k, observations)).abs().max() > 1e-2


@pytest.mark.parametrize("k", range(K))
def test_bound_to_observations_it_is_the_same_function(net, batch, k):
    z, _, observations = batch
    expected = net(z, torch.full((S, B), k), observations)
    torch.testing.assert_close(net.bind(observations)(z, k), expected, rtol=1e-5, atol=1e-5)


def test_a_bound_row_may_serve_many_candidates(net, batch):
    _, _, observations = batch
    row = torch.tensor([0, 0, 0, 4, 8, 8])
    z = torch.randn(S, len(row), A + 1, generator=generator(1, "z", 0))
    expected = net(z, torch.full((S, len(row)), 3), observations[:, row])
    torch.testing.assert_close(net.bind(observations, row)(z, 3), expected, rtol=1e-5, atol=1e-5)


def test_weight_first_gives_the_last_channel_and_then_all(net, batch):
    z, _, observations = batch
    eps_w, _, finish = net.bind(observations).weight_first(z, 2)
    eps = net(z, torch.full((S, B), 2), observations)
    torch.testing.assert_close(eps_w, eps[..., -1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(finish(), eps, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight_block", [1, 2, 3])
def test_the_weight_head_reads_its_block_and_nothing_later(batch, weight_block):
    """Noise in the blocks after `weight_block` reaches the actions and not the weight; in the block itself, both."""
    z, k, observations = batch
    net = Denoiser(S, O, A + 1, K, width=16, weight_block=weight_block).requires_grad_(False)
    reset(net, [generator(s, "denoiser", 0) for s in range(S)])
    before = net(z, k, observations)
    for i, block in enumerate(net.blocks, 1):
        block.down.bias.add_(1.0)
        after = net(z, k, observations)
        assert not torch.equal(after[..., :-1], before[..., :-1])
        assert torch.equal(after[..., -1], before[..., -1]) == (i > weight_block)
        block.down.bias.sub_(1.0)


def test_member_s_is_a_network_of_its_own(net, batch):
    z, k, observations = batch
    eps = net(z, k, observations)
    for s in range(S):
        one = Denoiser(1, O, A + 1, K, width=32, dropout=0.25).requires_grad_(False)
        one.load_state_dict({name: value[s : s + 1] for name, value in net.state_dict().items()})
        own = one(z[s : s + 1], k[s : s + 1], observations[s : s + 1])
        torch.testing.assert_close(own[0], eps[s], rtol=1e-5, atol=1e-5)


def test_no_gradient_crosses_members(net, batch):
    z, k, observations = batch
    z = z.clone().requires_grad_()
    net(z, k, observations)[0].sum().backward()
    assert (z.grad[0] != 0).any()
    assert (z.grad[1] == 0).all()


def test_first_values_are_the_official_codes():
    """Frequencies N(0, 0.2); xavier outside the residual blocks, lecun inside; offsets 0."""
    net = Denoiser(4, 17, 7, K=15, width=128)
    reset(net, [generator(s, "denoiser", 0) for s in range(4)])
    assert net.fourier.frequency.std().item() == pytest.approx(0.2, rel=0.15)
    for layer in (net.step_in, net.step_out, net.entry, net.weight_in):
        bound = math.sqrt(6 / sum(layer.weight.shape[-2:]))
        assert bound * 0.99 < layer.weight.abs().max().item() <= bound
    for block in net.blocks:
        for layer in (block.up, block.down):
            assert layer.weight.std().item() == pytest.approx(layer.weight.shape[-2] ** -0.5, rel=0.02)
    offsets = [p for name, p in net.named_parameters() if name.endswith("bias")]
    assert len(offsets) == 3 + 3 * 3 + 3
    assert all((p == 0).all() for p in offsets)


# -- dropout's random masks --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.9, 0.5, 0.25])
def test_masks_keep_the_share_p_and_neighbours_are_independent(p):
    n = 400_000
    keep = _bernoulli((n,), p, generator(0, "mask", 0)).double()
    error = math.sqrt(p * (1 - p) / n)
    assert keep.mean().item() == pytest.approx(p, abs=4 * error)
    for lag in (1, 2, 3, 4, 8):
        both = (keep[lag:] * keep[:-lag]).mean().item()
        assert both == pytest.approx(p * p, abs=5 * error)


def test_masks_are_scaled_so_that_their_mean_changes_nothing(net, batch):
    """What enters the norm of the first block is, over many masks, on average what enters without one."""
    z, k, observations = batch
    seen = []
    hook = net.blocks[0].norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].double()))
    net(z, k, observations)
    plain = seen.pop()
    for i in range(400):
        net(z, k, observations, _bernoulli((S, 3, B, 32), 0.75, generator(i, "masks", 0)))
    hook.remove()
    deviation = plain.abs().max() * math.sqrt(0.25 / 0.75 / 400)
    assert (torch.stack(seen).mean(0) - plain).abs().max() < 5 * deviation


def test_a_tiny_dropout_keeps_nearly_all():
    assert _bernoulli((1000,), 1 - 1e-6, generator(0, "mask", 0)).float().mean() > 0.99


# -- where the weight comes from ---------------------------------------------------------------------------------------

VP = Schedule.vp(K)
PLACES = [{"weight_block": block} for block in range(4)]
PLACES += [{"weight_net": 16}, {"weight_form": "data", "schedule": VP}]


@pytest.fixture(params=PLACES, ids=["none", "first", "second", "third", "apart", "clean"])
def placed(request):
    denoiser = Denoiser(S, O, A + 1, K, width=32, **request.param)
    reset(denoiser, [generator(s, "denoiser", 0) for s in range(S)])
    return denoiser


def test_wherever_the_weight_is_read_the_short_cut_is_the_network(placed, batch):
    """eps, eps_w and the gradient of eps_w by plain autograd through all of it."""
    z, _, observations = batch
    bound = placed.requires_grad_(False).bind(observations)
    for k in range(K):
        z1 = z.clone().requires_grad_()
        expected = placed(z1, torch.full((S, B), k), observations)
        eps_w, short, finish = bound.weight_first(z, k)
        torch.testing.assert_close(eps_w, expected[..., -1].detach(), rtol=1e-5, atol=1e-6)
        (plain,) = torch.autograd.grad(expected[..., -1].sum(), z1)
        torch.testing.assert_close(short, plain, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(finish(), expected.detach(), rtol=1e-5, atol=1e-5)
        assert not any(value.requires_grad for value in (eps_w, short, finish()))


@pytest.mark.parametrize(("place", "used"), list(zip(PLACES, [3, 1, 2, 3, 0, 2], strict=True)))
def test_the_weight_reads_no_later_block(place, used, batch):
    z, k, observations = batch
    denoiser = Denoiser(S, O, A + 1, K, width=32, **place)
    reset(denoiser, [generator(s, "denoiser", 0) for s in range(S)])
    denoiser(z, k, observations)[..., -1].sum().backward()
    touched = [bool(block.up.weight.grad is not None and block.up.weight.grad.any()) for block in denoiser.blocks]
    assert touched == [i < used for i in range(3)]
    own = 2 if place.get("weight_net") else 0
    assert sum(p.grad is not None for n, p in denoiser.named_parameters() if n.startswith("weight_blocks")) == 6 * own


@pytest.mark.parametrize("place", [{}, {"weight_net": 16}], ids=["shared", "apart"])
def test_a_head_of_the_clean_weight_gives_the_noise_that_follows(batch, place):
    """alpha w_0 + sigma eps_w = z_w, of the w_0 that the same parameters predict as noise."""
    z, k, observations = batch
    noise = Denoiser(S, O, A + 1, K, width=32, **place).requires_grad_(False)
    clean = Denoiser(S, O, A + 1, K, width=32, weight_form="data", schedule=VP, **place).requires_grad_(False)
    reset(noise, [generator(s, "denoiser", 0) for s in range(S)])
    clean.load_state_dict(noise.state_dict())
    eps, w_0 = clean(z, k, observations), noise(z, k, observations)[..., -1]
    alpha, sigma = VP.alpha[k], VP.sigma[k]
    torch.testing.assert_close(alpha * w_0 + sigma * eps[..., -1], z[..., -1].double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(eps[..., :-1], noise(z, k, observations)[..., :-1], rtol=0, atol=0)


def test_a_head_of_the_clean_weight_needs_a_schedule_and_a_block():
    for more in ({}, {"schedule": VP, "weight_block": 0}):
        with pytest.raises(ValueError, match="needs a schedule"):
            Denoiser(S, O, A + 1, K, weight_form="data", **more)


# -- a plain denoiser, and many steps ----------------------------------------------------------------------------------


def test_a_plain_denoiser_predicts_the_action_and_is_differentiated_whole(batch):
    """`channels` outputs of the last layer; bound, the same function with the same gradient."""
    z, _, observations = batch
    net = Denoiser(S, O, A, K, width=32, weight_block=0).requires_grad_(False)
    reset(net, [generator(s, "denoiser", 0) for s in range(S)])
    z1, z2 = z[..., :A].clone().requires_grad_(), z[..., :A].clone().requires_grad_()
    expected, bound = net(z1, torch.full((S, B), 3), observations), net.bind(observations)(z2, 3)
    assert expected.shape == (S, B, A)
    torch.testing.assert_close(bound, expected, rtol=1e-5, atol=1e-5)
    (plain,), (short,) = torch.autograd.grad(expected.sum(), z1), torch.autograd.grad(bound.sum(), z2)
    torch.testing.assert_close(short, plain, rtol=1e-5, atol=1e-6)


def test_a_bound_denoiser_is_differentiated_whole_wherever_the_weight_is_read(placed, batch):
    """Called without `weight_first`, as guidance at the posterior mean does."""
    z, _, observations = batch
    z1, z2 = z.clone().requires_grad_(), z.clone().requires_grad_()
    bound = placed.requires_grad_(False).bind(observations)
    (plain,) = torch.autograd.grad(placed(z1, torch.full((S, B), 2), observations).sum(), z1)
    (short,) = torch.autograd.grad(bound(z2, 2).sum(), z2)
    torch.testing.assert_close(short, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("steps", [63, 64, 1000])
def test_with_many_steps_their_table_is_read_by_index(steps, batch):
    """From 64 on; each row equals the bound denoiser's at its step, gradients of the parameters included."""
    z, _, observations = batch
    net = Denoiser(S, O, A + 1, steps, width=32, fourier=0.03)
    reset(net, [generator(s, "denoiser", 0) for s in range(S)])
    k = torch.randint(steps, (S, B), generator=generator(0, "k", 0))
    eps, bound = net(z, k, observations), net.bind(observations)
    rows = torch.stack([bound(z, int(k[s, b]))[s, b] for s in range(S) for b in range(B)]).view_as(eps)
    torch.testing.assert_close(eps, rows, rtol=1e-5, atol=1e-5)
    names = ("step_in.weight", "entry.weight", "fourier.frequency")
    parameters = [dict(net.named_parameters())[name] for name in names]
    for a, b in zip(*(torch.autograd.grad(x.square().sum(), parameters) for x in (eps, rows)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_the_spread_of_the_first_frequencies_is_the_settings():
    narrow, wide = (Denoiser(4, O, A, 1000, width=8, fourier=spread) for spread in (0.03, 0.2))
    for net in (narrow, wide):
        reset(net, [generator(s, "denoiser", 0) for s in range(4)])
    torch.testing.assert_close(narrow.fourier.frequency * (0.2 / 0.03), wide.fourier.frequency)
