"""Work of a step: the floating-point operations of its matrix products, counted by hand."""

import itertools

from swgctl.config import CriticSettings, DiffuseSettings
from swgctl.models.conditioned import FOURIER, STEP_WIDTH

CHEETAH_O, CHEETAH_A = 17, 6  # dimensions of HalfCheetah's observations and actions


def critic_flop(s: CriticSettings) -> int:
    """One seed's step of the critic: the twins, their targets, V of both states; the twins' and V's gradients."""
    q, v = _critic(s)
    forward = 2 * q + 2 * q + 2 * v
    into_inputs = 2 * (q - (CHEETAH_O + CHEETAH_A) * s.hidden[0]) + v - CHEETAH_O * s.hidden[0]
    return 2 * s.batch * (forward + (2 * q + v) + into_inputs)


def diffuse_flop(s: DiffuseSettings) -> int:
    """One seed's step of diffusion: the denoiser and all of its gradients but those of its inputs."""
    entry = (s.channels(CHEETAH_A) + CHEETAH_O + s.K) * s.width  # K one-hot columns pick the step's row of the table
    return 2 * (s.batch * (2 * entry + 3 * _blocks(s, s.blocks, CHEETAH_A)) + 3 * _step_table(s))


def sample_flop(s: DiffuseSettings, states: int, rows: int, guided: bool) -> int:
    """One seed's walk for `rows` candidates at `states` states.

    K times the denoiser and, if guided, the gradient of the weight alone with respect to z.
    """
    entry = s.channels(CHEETAH_A) * s.width
    forward = entry + _blocks(s, s.blocks, CHEETAH_A)
    backward = entry + _blocks(s, s.weight_block, 0)
    once = states * CHEETAH_O * s.width + _step_table(s)
    return 2 * (s.K * rows * (forward + guided * backward) + once)


def rank_flop(s: CriticSettings, rows: int) -> int:
    """One seed's advantages of `rows` candidates: the twins' targets and V."""
    q, v = _critic(s)
    return 2 * rows * (2 * q + v)


def _blocks(s: DiffuseSettings, blocks: int, actions: int) -> int:
    """Multiplications of one row: residual blocks, the weight's head, the actions' layer."""
    return blocks * 8 * s.width**2 + s.width**2 + s.width + actions * s.width


def _step_table(s: DiffuseSettings) -> int:
    return s.K * (2 * FOURIER * STEP_WIDTH + STEP_WIDTH**2 + STEP_WIDTH * s.width)


def _critic(s: CriticSettings) -> tuple[int, int]:
    """Multiplications of one row: (one Q, V)."""
    return _mlp([CHEETAH_O + CHEETAH_A, *s.hidden, 1]), _mlp([CHEETAH_O, *s.hidden, 1])


def _mlp(widths: list[int]) -> int:
    return sum(a * b for a, b in itertools.pairwise(widths))
