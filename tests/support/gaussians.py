"""A mixture of Gaussians whose weight belongs to the component: energies and denoisers in closed form."""

from dataclasses import dataclass

import torch
from torch import Tensor

from swgctl.diffusion import Schedule
from swgctl.toys.densities import CENTRES

VP = Schedule.vp(15)


@dataclass(frozen=True)
class Mixture:
    """Equally likely components N(centres[i] (D,), sd^2 I) with weights (n,)."""

    centres: Tensor
    sd: float
    weights: Tensor

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Points (*shape, D) and their weights (*shape,)."""
        mode = torch.randint(len(self.centres), shape, generator=generator)
        noise = torch.randn(*shape, self.centres.shape[1], generator=generator, dtype=self.centres.dtype)
        return self.centres[mode] + self.sd * noise, self.weights[mode]

    def variance(self, k: int) -> float:
        """Variance of a coordinate of a component's z_k."""
        alpha, sigma = VP.at(k)
        return (alpha * self.sd) ** 2 + sigma**2

    def responsibilities(self, z: Tensor, k: int) -> Tensor:
        """p(component | z_k), (..., n)."""
        distance = (z.unsqueeze(-2) - VP.at(k)[0] * self.centres).square().sum(-1)
        return torch.softmax(-distance / (2 * self.variance(k)), -1)

    def denoise(self, z: Tensor, k: int) -> Tensor:
        """The exact eps(z_k, k)."""
        alpha, sigma = VP.at(k)
        return sigma * (z - alpha * (self.responsibilities(z, k) @ self.centres)) / self.variance(k)

    def posterior_variance(self, z: Tensor, k: int) -> Tensor:
        """Variance of z_0 given z_k, (...,), the mean over the coordinates."""
        share = VP.at(k)[1] ** 2 / self.variance(k)  # of the noise in a component's variance
        r = self.responsibilities(z, k)
        means = r @ self.centres
        between = (r @ self.centres.square() - means.square()).mean(-1)
        return self.sd**2 * share + between * share**2

    def exact(self, z: Tensor, k: int) -> Tensor:
        """The energy log E[w | z_k]."""
        return (self.responsibilities(z, k) @ self.weights).log()

    def mean_log(self, z: Tensor, k: int) -> Tensor:
        """The energy E[log w | z_k], which a regression on log w learns."""
        return self.responsibilities(z, k) @ self.weights.log()


EIGHT = Mixture(CENTRES / 4.2, 0.5 / 1.414 / 4.2, torch.exp(5 * (torch.arange(8, dtype=torch.float64) / 7 - 1)))
FOUR = Mixture(
    torch.tensor([(0.219, -0.368), (-0.734, -0.774), (0.501, 0.660), (0.171, 0.367)], dtype=torch.float64),
    0.15,
    torch.ones(4, dtype=torch.float64),
)
