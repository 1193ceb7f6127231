"""The U-Net against PyTorch's own layers, one member at a time, and the traps of a port of the official code."""

import math

import pytest
import torch
import torch.nn.functional as F

from swgctl.models import batched, reset
from swgctl.models.layers import Conv, GroupNorm
from swgctl.models.unet import UNet, pool, upsample
from swgctl.randomness import generator

S, B, D, WIDTH, BLOCKS, GROUPS = 3, 2, 5, 16, 3, 4


def filled(module: torch.nn.Module, name: str = "unet") -> torch.nn.Module:
    """Every parameter non-zero, the offsets and scales of the norms too."""
    reset(module, [generator(s, name, 0) for s in range(S)])
    for i, p in enumerate(module.requires_grad_(False).parameters()):
        p += 0.1 * torch.randn(p.shape, generator=generator(i, f"{name}/offset", 0))
    return module


@pytest.fixture(scope="module")
def net() -> UNet:
    return filled(UNet(S, D, WIDTH, BLOCKS, GROUPS))


def batch(length: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator(0, "batch", length)
    return torch.randn(S, B, length, D, generator=g), torch.randn(S, B, generator=g)


def sequence(*values: float) -> torch.Tensor:
    """(1, 1, L, 1)"""
    return torch.tensor(values, dtype=torch.float32).view(1, 1, -1, 1)


# -- layers ------------------------------------------------------------------------------------------------------------


def test_a_kernel_of_two_pads_on_the_right():
    conv = Conv(1, 1, 1, width=2)
    conv.weight.data.copy_(torch.tensor([1.0, 10.0]).view(1, 2, 1))
    assert conv(sequence(1, 2, 3)).flatten().tolist() == [21, 32, 3]


@pytest.mark.parametrize(("width", "padding"), [(1, (0, 0)), (2, (0, 1)), (3, (1, 1))])
def test_convolution_is_pytorchs_for_each_member(width, padding):
    conv = filled(Conv(S, 3, 4, width))
    x = torch.randn(S, B, 6, 3, generator=generator(0, "x", 0))
    y = conv(x)
    for s in range(S):
        kernel = conv.weight[s].unflatten(0, (width, 3)).permute(2, 1, 0)
        expected = F.conv1d(F.pad(x[s].mT, padding), kernel, conv.bias[s, 0])
        torch.testing.assert_close(y[s], expected.mT, rtol=1e-5, atol=1e-5)


def test_a_convolutions_first_values_have_variance_one_over_taps_times_inputs():
    conv = Conv(1, 40, 500, width=3)
    conv.reset(0, generator(0, "conv", 0))
    assert conv.weight.var().item() == pytest.approx(1 / (3 * 40), rel=0.02)
    assert (conv.bias == 0).all()


def test_group_normalisation_is_of_one_time_step():
    """Pairs become +-(1 + 1e-6 / v)^-1/2, with the variance v = 1/4 of two neighbours at the first step, then 9/4."""
    x = torch.arange(16.0).expand(2, -1) * torch.tensor([[1.0], [3.0]]) + torch.tensor([[0.0], [100.0]])
    y = GroupNorm(1, 16, groups=8)(x.view(1, 1, 2, 16))[0, 0]
    signs = torch.tensor([-1.0, 1.0]).repeat(8)
    torch.testing.assert_close(y[0], signs * 0.999998, rtol=0, atol=5e-7)
    torch.testing.assert_close(y[1], signs * 0.9999998, rtol=0, atol=5e-7)


def test_group_normalisation_does_not_mix_time_steps():
    """PyTorch's, of all time steps together, does."""
    norm, x = GroupNorm(1, 16, groups=8), torch.randn(1, 1, 2, 16, generator=generator(0, "x", 0))
    moved = x.clone()
    moved[:, :, 1] += 5
    assert torch.equal(norm(x)[:, :, 0], norm(moved)[:, :, 0])
    pooled = torch.nn.GroupNorm(8, 16, eps=1e-6)
    assert (pooled(x[0].mT) - pooled(moved[0].mT))[..., 0].abs().max() > 0.1


def test_group_normalisation_is_pytorchs_of_single_steps_for_each_member():
    norm = filled(GroupNorm(S, 12, groups=3))
    x = 1e-3 * torch.randn(S, B, 5, 12, generator=generator(0, "x", 0))  # small, so that epsilon is seen
    y = norm(x)
    for s in range(S):
        expected = F.group_norm(x[s].flatten(0, 1), 3, norm.weight[s].flatten(), norm.bias[s].flatten(), eps=1e-6)
        torch.testing.assert_close(y[s].flatten(0, 1), expected, rtol=1e-4, atol=1e-5)


def test_an_odd_last_step_is_not_pooled():
    assert pool(sequence(1, 4, 3, 2, 9)).flatten().tolist() == [4, 3]
    x = torch.randn(S, B, 7, D, generator=generator(0, "x", 0))
    assert torch.equal(pool(x).flatten(0, 1).mT, F.max_pool1d(x.flatten(0, 1).mT, 2))


def test_upsampling_takes_the_nearest_step_by_the_rule_of_half_pixels():
    def steps(n: int, length: int) -> list[int]:
        return upsample(sequence(*range(n)), length).int().flatten().tolist()

    assert steps(4, 9) == [0, 0, 1, 1, 2, 2, 2, 3, 3]
    assert steps(8, 17) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 7]
    for n in range(1, 40):
        for length in (2 * n, 2 * n + 1):
            assert steps(n, length) == [math.floor((j + 0.5) * n / length) for j in range(length)]


# -- the network -------------------------------------------------------------------------------------------------------


def by_hand(net: UNet, s: int, x, c_noise, *, pooled=False, pad=(0, 1), mode="nearest-exact", residual=False):
    """(B, L, D) of member s, channels first, with PyTorch's layers; the options are the traps of a port."""
    p = {name: value[s] for name, value in net.named_parameters()}

    def dense(x, name):
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"][0]

    def conv(x, name, padding=(1, 1)):
        kernel = p[f"{name}.weight"].unflatten(0, (-1, x.shape[1])).permute(2, 1, 0)
        return F.conv1d(F.pad(x, padding), kernel, p[f"{name}.bias"][0])

    def normal(x, name):
        rows = x if pooled else x.mT.flatten(0, 1)
        y = F.group_norm(rows, GROUPS, p[f"{name}.weight"].flatten(), p[f"{name}.bias"].flatten(), eps=1e-6)
        return F.relu(y if pooled else y.unflatten(0, (B, -1)).mT)

    half = WIDTH // 8
    phase = c_noise.unsqueeze(-1) * torch.tensor([1e4 ** (-i / (half - 1)) for i in range(half)])
    level = dense(F.silu(dense(torch.cat([phase.sin(), phase.cos()], -1), "level_in")), "level_out")
    x, skips = x.mT, []
    for i in range(BLOCKS):
        name = f"encoder.{i}"
        x = F.max_pool1d(x, 2) if i else x
        below = x
        x = conv(x, f"{name}.conv_1") + dense(F.silu(level), f"{name}.level").unsqueeze(-1)
        x = normal(conv(normal(x, f"{name}.norm_1"), f"{name}.conv_2"), f"{name}.norm_2")
        if residual and i:
            x = x + below.repeat(1, 2, 1)
        skips.append(x)
    for i in range(BLOCKS - 1):
        name, skip = f"decoder.{i}", skips[-2 - i]
        x = conv(F.interpolate(x, skip.shape[-1], mode=mode), f"{name}.conv_1", pad)
        x = normal(x + dense(F.silu(level), f"{name}.level").unsqueeze(-1), f"{name}.norm_1")
        x = normal(conv(torch.cat([x, skip], 1), f"{name}.conv_2"), f"{name}.norm_2")
        x = normal(conv(x, f"{name}.conv_3"), f"{name}.norm_3")
    return conv(x, "out", (0, 0)).mT


@pytest.mark.parametrize(("features", "count"), [(32, 179_129), (64, 704_857), (128, 2_796_185), (1024, 177_656_857)])
def test_the_published_sizes_have_their_numbers_of_parameters(features, count):
    """Counted in the official code, for 25 channels: HalfCheetah's 17 + 6 + 2."""
    with torch.device("meta"):
        net = UNet(1, 25, features, blocks=3, groups=8)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("length", [4, 16, 17])
def test_forward_is_the_published_network(net, length):
    x, c_noise = batch(length)
    y = net(x, c_noise)
    assert y.shape == x.shape
    for s in range(S):
        torch.testing.assert_close(y[s], by_hand(net, s, x[s], c_noise[s]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trap", [{"pooled": True}, {"pad": (1, 0)}, {"mode": "nearest"}, {"residual": True}])
def test_a_naive_port_is_another_network(net, trap):
    x, c_noise = batch(17)
    assert (net(x, c_noise)[0] - by_hand(net, 0, x[0], c_noise[0], **trap)).abs().max() > 0.01


def test_a_window_too_short_to_be_halved_is_refused(net):
    with pytest.raises(ValueError, match="3 blocks halve 3 time steps"):
        net(*batch(3))
    assert UNet(S, D, WIDTH, 1, GROUPS)(*batch(1)).shape == (S, B, 1, D)


def test_a_member_is_the_network_alone():
    x, c_noise = batch(9)
    together = UNet(S, D, WIDTH, BLOCKS, GROUPS)
    reset(together, [generator(s, "unet", 0) for s in range(S)])
    for s in range(S):
        alone = UNet(1, D, WIDTH, BLOCKS, GROUPS)
        reset(alone, [generator(s, "unet", 0)])
        for p, q in zip(together.parameters(), alone.parameters(), strict=True):
            assert torch.equal(p[s], q[0])
        torch.testing.assert_close(together(x, c_noise)[s], alone(x[s : s + 1], c_noise[s : s + 1])[0])


def test_no_gradient_passes_between_members():
    net = UNet(S, D, WIDTH, BLOCKS, GROUPS)
    reset(net, [generator(s, "unet", 0) for s in range(S)])
    net(*batch(8))[1].square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad[1].abs().max() > 0, name
        assert (p.grad[[0, 2]] == 0).all(), name


def test_without_gradients_factors_are_rounded_before_they_are_copied_with_the_same_result():
    wide, g = filled(UNet(S, 32, 32, 2, 1)), generator(0, "batch", 0)
    x, c_noise = torch.randn(S, 4, 16, 32, generator=g), torch.randn(S, 4, generator=g)
    with batched.rounded("cpu"):
        answer = wide(x, c_noise)
        with torch.no_grad():
            assert torch.equal(wide(x, c_noise), answer)
    assert 0 < (answer - wide(x, c_noise)).abs().max() < 0.1


def test_two_noise_levels_are_two_functions(net):
    x, c_noise = batch(8)
    assert (net(x, c_noise) - net(x, c_noise + 0.1)).abs().max() > 1e-3


def test_the_narrowest_network_embeds_its_one_frequency():
    net = UNet(1, D, 8, 2, 2)
    assert net.frequencies.tolist() == [1.0]
    assert net(torch.zeros(1, B, 4, D), torch.zeros(1, B)).isfinite().all()
