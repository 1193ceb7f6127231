"""The toys' denoiser: what it sees of the action."""

import torch

from swgctl.models import ToyDenoiser, reset


def denoiser(octaves: int) -> ToyDenoiser:
    net = ToyDenoiser(2, 3, K=10, beta_max=20, width=16, layers=2, activation="silu", octaves=octaves)
    reset(net, [torch.Generator().manual_seed(s) for s in (0, 1)])
    return net


def call(net, z):
    return net(z, torch.tensor(3), torch.tensor(5.0))


def test_octaves_are_waves_of_the_action_alone():
    """Without the plain inputs nothing is left but waves, whose longest is 2 wide; the weight has none."""
    net = denoiser(4)
    assert net.layers[0].weight.shape == (2, 3 + 2 * 2 * 4 + 64, 16)
    z = torch.randn(2, 50, 3, generator=torch.Generator().manual_seed(2))
    shifted = z + torch.tensor([2.0, -4.0, 0.0])
    assert not torch.allclose(call(net, z), call(net, shifted), atol=1e-2)
    with torch.no_grad():
        net.layers[0].weight[:, :3] = 0
    torch.testing.assert_close(call(net, z), call(net, shifted), atol=1e-4, rtol=0)
    torch.testing.assert_close(call(net, z), call(net, z + torch.tensor([0.0, 0.0, 0.3])))
    for octave in (1, 2, 4, 8):  # each of them is there
        assert not torch.allclose(call(net, z), call(net, z + torch.tensor([1 / octave, 0, 0])), atol=1e-3)


def test_without_octaves_the_action_enters_as_it_is():
    assert denoiser(0).layers[0].weight.shape == (2, 3 + 64, 16)
