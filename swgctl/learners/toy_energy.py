"""Training of the toys whose guidance is an energy, beside a plain denoiser: the rivals of SWG's Table 1, and AEPO."""

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from swgctl.config import ToySettings
from swgctl.diffusion import energy_guided, posterior_guided
from swgctl.diffusion.guidance import Guidance
from swgctl.diffusion.schedule import posterior_mean
from swgctl.learners import energies
from swgctl.learners.expansion import ACTIONS, slope
from swgctl.learners.losses import Loss
from swgctl.learners.posterior import data_variance
from swgctl.learners.toy import PlaneLearner
from swgctl.models import TOY_ARCHITECTURE, ToyGuide
from swgctl.toys.experiment import Walk

ETA = 1e-3  # aepo: length of the step from a_0 to the point of the expansion (AEPO, equation 46)
SMOOTH = ("aepo", "dps")  # methods of a gradient of the label, which is 0 or unknown on most densities: they have Q(a)


class ToyEnergyLearner(PlaneLearner[ToyGuide]):
    """Plain denoisers of the plane, and what guides them at every beta, trained on the same draws.

    mse    E regressed on log w
    emse   e^E regressed on w / w_mean
    ddice  e^-m (w / w_mean e^-E + E), m = max(-E, -1) without gradient (SWG, equation 13)
    cep    contrast of `settings.group` points that share k and beta (SWG, equation 12, or self-normalised)
    aepo   E regressed on the expansion of log w = beta Q about a_0 (AEPO, equations 25 and 46)
    dps    no energy: log w = beta Q at the posterior mean

    w_mean is the data's mean weight at that beta.  Q(a) is a third network, regressed on the labels.  Nothing but
    aepo's posterior mean depends on the denoiser, so that the methods' denoisers are equal.

    moments  aepo: running sums of |a_0 - mu~|^2 / 2 and of 1 over the rows of each step k, (S, 2, K); their ratio,
             at most the data's variance, is that of the posterior (AEPO, equation 42)
    """

    def __init__(self, points: Tensor, labels: Tensor, settings: ToySettings, seeds: list[int], device: torch.device):
        """points (N, 2) in [-1, 1]; labels (N,)."""
        self.method = settings.method
        architecture = settings.model_dump(include=set(TOY_ARCHITECTURE))
        networks = ToyGuide(len(seeds), **architecture, energy=self.method != "dps", label=self.method in SMOOTH)
        super().__init__(networks, points, labels, settings, seeds, device, channels=2, scale="unit")
        self.moments = torch.zeros(len(seeds), 2, settings.K, device=device)
        self.largest = data_variance(self.points).float()

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        rows, k, beta, eps = drawn["rows"], drawn["k"], drawn["beta"], drawn["eps"]
        a0, label = self.points[rows], self.labels[rows]
        info: dict[str, Tensor] = {}
        z = self.schedule.noisy(a0, eps, k)
        predicted = self.network.denoiser(z, k)
        losses = {"action_loss": (predicted - eps).square().mean(1).sum(-1)}
        if self.network.label:
            losses["label_loss"] = (self.network.label(a0).squeeze(-1) - label.float()).square().mean(1)
        if self.method == "aepo":
            target = self._expansion(a0, z, predicted.detach(), k, beta)
            losses["energy_loss"], info = energies.regression(self._energy(z, k, beta), target)
        elif self.network.energy:
            losses["energy_loss"], info = self._energy_loss(a0, label, eps, k, beta)
        loss = torch.stack(list(losses.values())).sum(0)
        self.descend(loss, self.follow())
        return {name: value.detach() for name, value in ({"loss": loss} | losses | info).items()}

    def _energy(self, z: Tensor, k: Tensor, beta: Tensor) -> Tensor:
        """E (S, B) of the networks in training."""
        assert self.network.energy
        return self.network.energy(z, k, beta).squeeze(-1)

    def _energy_loss(self, a0: Tensor, label: Tensor, eps: Tensor, k: Tensor, beta: Tensor) -> Loss:
        """The method's loss of E at the noisy a0 (S, B, 2), whose labels (S, B) are known."""
        size = self.settings.group if self.method == "cep" else 1
        k, beta = (x[:, ::size].repeat_interleave(size, 1) for x in (k, beta))  # those of a group's first point
        f = self._energy(self.schedule.noisy(a0, eps, k), k, beta)
        log_w = self.weigh.log(label, beta).float()
        if self.method == "mse":
            return energies.regression(f, log_w)
        if self.method == "cep":
            f, log_w = (x.unflatten(1, (-1, size)) for x in (f, log_w))
            return energies.contrastive(f, log_w, self.settings.normalise)
        if self.method == "emse":
            return energies.exponential_regression(f, log_w.exp())
        # Energies reach -beta: each row has a factor e^-m of its own, or the greatest beta's would drown the others.
        loss, info = energies.in_sample(f.unsqueeze(-1), log_w.exp().unsqueeze(-1))
        return loss.mean(-1), {name: value.mean(-1) for name, value in info.items()}

    def _log_weight(self, networks: ToyGuide, beta: Tensor, actions: Tensor) -> Tensor:
        """log w (S, B) = beta Q, up to a constant at each beta, for actions (S, B, 2)."""
        assert networks.label
        return self.weigh.log(networks.label(actions).squeeze(-1), beta).float()

    def _expansion(self, a0: Tensor, z: Tensor, eps: Tensor, k: Tensor, beta: Tensor) -> Tensor:
        """AEPO's target (S, B) at z (S, B, 2), the noisy a0, for predicted noise eps; follows the moments."""
        log_weight = partial(self._log_weight, self.network)
        gradient = slope(log_weight, beta, a0)
        alpha, sigma = (value[k].unsqueeze(-1) for value in (self.schedule.alpha, self.schedule.sigma))
        mean = posterior_mean(z, eps, alpha, sigma).clamp(*ACTIONS)
        square = (a0 - mean).square().mean(-1)
        # Not `scatter_add`, which on a GPU sums in any order.
        at = one_hot(k, self.moments.shape[-1]).unsqueeze(1)
        sums = (torch.stack([square, torch.ones_like(square)], 1).unsqueeze(-1) * at).sum(2)
        self.moments.lerp_(sums, self.follow())
        total, count = self.moments.unbind(1)
        variance = (total / count).clamp(max=self.largest).gather(1, k)
        point = a0 + ETA * normalize(gradient, dim=-1)
        with torch.no_grad():
            log_w = log_weight(beta, point)
        return energies.analytic(log_w, gradient, mean - point, variance)

    def state(self) -> dict[str, Tensor]:
        return super().state() | ({"moments": self.moments} if self.method == "aepo" else {})

    def walk(self, beta: float) -> Walk:
        """The averaged denoisers, and the guidance at one beta."""
        s, average, at = self.settings, self.average, self.number(beta)
        low, high = (self.points.new_full((2,), value) for value in ACTIONS)
        guidance: Guidance
        if average.energy:
            energy = average.energy
            guidance = energy_guided(s.rho, lambda z, k: energy(z, self.number(k), at).squeeze(-1))
        else:
            bounds = (low, high) if s.clip else None
            guidance = posterior_guided(s.rho, partial(self._log_weight, average, at), bounds)
        return Walk(lambda z, k: average.denoiser(z, self.number(k)), guidance, (low, high))
