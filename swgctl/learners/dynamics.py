"""Learning of an ensemble of one-step models (PETS, arXiv 1805.12114; MOPO, arXiv 2005.13239)."""

import numpy as np
import torch
from torch import Tensor

from swgctl.config import DynamicsSettings
from swgctl.errors import InputError
from swgctl.models import Ensemble, reset
from swgctl.randomness import generator
from swgctl.tasks.transitions import Transitions
from swgctl.training import Streams
from swgctl.training.optimisers import Adam

HOLDOUT = (0.2, 1000)  # rows held out: this share of them, at most so many
BOUNDS = 0.01  # coefficient of the log-variance's bounds in the loss


class DynamicsLearner:
    """M Gaussian networks a seed, each on a bootstrap of the data (PETS, section 4), with MOPO's settings.

    The loss of a seed is the sum over its networks of `gaussian_nll` and of the weights' decay, and 0.01 times the
    distance of the log-variance's bounds.  Training takes a fixed number of steps; `elites` are the best networks by
    the error in rows held out, which are the same for all networks of a seed.

    Rows without a known next state are left out, and so are terminal ones, whose next state a file may lack.
    """

    chunk = 20

    def __init__(self, data: Transitions, settings: DynamicsSettings, seeds: list[int], device: torch.device):
        """Raises InputError for data with fewer than two rows to learn from."""
        self.settings = settings
        rows = np.flatnonzero(data.known_next & ~data.terminals)
        if len(rows) < 2:
            raise InputError(
                f"{data.source}: {len(rows)} row(s) have a next state that is known and not terminal",
                "a model of the dynamics needs at least two",
            )
        observations = data.observations[rows]
        inputs = np.concatenate([observations, data.actions[rows]], 1)
        change = data.next_observations[rows] - observations
        self.widths = [inputs.shape[1], change.shape[1] + 1]
        # One row holds [s, a, s' - s, r], so that a minibatch is one gather.
        packed = np.concatenate([inputs, change, data.rewards[rows, None]], 1, dtype=np.float32)
        self.rows = torch.from_numpy(packed).to(device)

        o, a = data.observations.shape[1], data.actions.shape[1]
        self.ensemble = Ensemble(len(seeds), settings.members, o, a, settings.hidden)
        reset(self.ensemble, [generator(seed, "dynamics/init", 0) for seed in seeds])
        held = max(1, min(int(HOLDOUT[0] * len(rows)), HOLDOUT[1]))
        holdout, bootstrap = [], []
        for s, seed in enumerate(seeds):
            order = torch.randperm(len(rows), generator=generator(seed, "dynamics/holdout", 0))
            holdout.append(order[:held])
            training = order[held:]
            size = (settings.members, len(training))
            drawn = torch.randint(len(training), size, generator=generator(seed, "dynamics/bootstrap", 0))
            bootstrap.append(training[drawn].int())
            mean, std = _statistics(inputs[training.numpy()])
            self.ensemble.mean[s], self.ensemble.std[s] = torch.from_numpy(mean), torch.from_numpy(std)
        self.ensemble.to(device)
        self.weights = [p for name, p in self.ensemble.layers.named_parameters() if name.endswith("weight")]
        self.decays = torch.tensor(decays(len(self.weights)), device=device).unsqueeze(1)
        self.holdout = torch.stack(holdout).to(device)  # (S, H), numbers of rows
        self.bootstrap = torch.stack(bootstrap).to(device)  # (S, M, N - H)
        self.seeds = torch.arange(len(seeds), device=device).view(-1, 1, 1)
        self.networks = torch.arange(settings.members, device=device).unsqueeze(1)
        self.adam = Adam(self.ensemble.parameters(), settings.lr)

    def draw(self, streams: Streams) -> dict[str, Tensor]:
        size = (self.chunk, self.settings.members, self.settings.batch)
        count = self.bootstrap.shape[-1]
        picks = [torch.randint(count, size, generator=g, device=g.device) for g in streams("batch")]
        return {"rows": self.bootstrap[self.seeds, self.networks, torch.stack(picks, 1)].long()}

    def step(self, drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        ensemble = self.ensemble
        inputs, targets = self.rows[drawn["rows"]].split(self.widths, -1)
        mean, log_var = ensemble(inputs)
        nll = gaussian_nll(mean, log_var, targets)
        bounds = (ensemble.high - ensemble.low).flatten(1).sum(1)
        loss = nll.sum(1) + self._decay() + BOUNDS * bounds
        self.adam.descend(loss.sum())  # summed over the seeds, so members never mix
        mse = (mean - targets).square().mean((1, 2, 3))
        return {"loss": loss.detach(), "nll": nll.mean(1).detach(), "mse": mse.detach()}

    def state(self) -> dict[str, Tensor]:
        return self.ensemble.state_dict() | self.adam.tensors("adam")

    def tensors(self) -> dict[str, Tensor]:
        """What an artifact keeps: the ensemble's parameters and buffers, and `elites`."""
        return self.ensemble.state_dict() | {"elites": self.elites()}

    @torch.no_grad()
    def holdout_mse(self) -> Tensor:
        """Squared error of each network's mean in the rows held out, averaged over rows and dimensions, (S, M)."""
        inputs, targets = self.rows[self.holdout].unsqueeze(1).split(self.widths, -1)
        mean, _ = self.ensemble(inputs)
        return (mean - targets).square().mean((2, 3))

    def elites(self) -> Tensor:
        """Numbers of the networks of least held-out error, the best first, (S, E) int64."""
        return self.holdout_mse().argsort(dim=1, stable=True)[:, : self.settings.elites]

    def _decay(self) -> Tensor:
        """Sum over layers of half the decay times the sum of the squared weights, (S,)."""
        squares = torch.stack([weight.square().sum((1, 2, 3)) for weight in self.weights])
        return (self.decays / 2 * squares).sum(0)


def gaussian_nll(mean: Tensor, log_var: Tensor, target: Tensor) -> Tensor:
    """Mean over batch and dimension of (mean - target)^2 exp(-log_var) + log_var, (..., B, D) -> (...).

    Twice the negative log-likelihood of independent Gaussians, without its constant log 2 pi (PETS, equation 1).
    """
    return ((mean - target).square() * (-log_var).exp() + log_var).mean((-1, -2))


def decays(layers: int) -> list[float]:
    """Weight decay of each layer: of five, MOPO's 2.5e-5, 5e-5, 7.5e-5, 7.5e-5, 1e-4.

    At any other depth it rises in the same way over the hidden layers, and the last one has 1e-4.
    """
    return [min(2.5e-5 * number, 7.5e-5) for number in range(1, layers)] + [1e-4]


def _statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population sd of each column of x (N, D), float64 (D,); of a constant column the sd is 1."""
    constant = x.min(0) == x.max(0)
    return x.mean(0, dtype=np.float64), np.where(constant, 1.0, x.std(0, dtype=np.float64))
