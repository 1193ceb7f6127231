"""Work of a step: the floating-point operations of its matrix products, counted by hand."""

import itertools

from swgctl.config import AgentSettings, CriticSettings, DiffuseSettings, TrajectoriesSettings
from swgctl.models.conditioned import FOURIER, STEP_WIDTH

CHEETAH_O, CHEETAH_A = 17, 6  # dimensions of HalfCheetah's observations and actions
CHEETAH_D = CHEETAH_O + CHEETAH_A + 2  # channels of a trajectory model


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

    K times the denoiser and, if guided, the gradient of the weight alone with respect to z.  The steps' embedding is
    computed before, once for all walks.
    """
    entry = s.channels(CHEETAH_A) * s.width
    forward = entry + _blocks(s, s.blocks, CHEETAH_A)
    backward = entry + _blocks(s, s.weight_block, 0) - s.width  # the head's one output has its weights as gradient
    once = states * CHEETAH_O * s.width
    return 2 * (s.K * rows * (forward + guided * backward) + once)


def rank_flop(s: CriticSettings, rows: int) -> int:
    """One seed's advantages of `rows` candidates: the twins' targets and V."""
    q, v = _critic(s)
    return 2 * rows * (2 * q + v)


def trajectories_flop(s: TrajectoriesSettings) -> int:
    """One seed's step of a trajectory model: the U-Net and all of its gradients but those of its inputs."""
    inputs = s.length * 3 * CHEETAH_D * s.features + _level_in(s)
    return 2 * s.batch * (3 * _unet(s) - inputs)


def walk_flop(s: TrajectoriesSettings, hidden: list[int], calls: int, acts: int) -> int:
    """One level of one trajectory's walk: `calls` of the U-Net, and `acts` of an actor at each of its rows."""
    return 2 * (calls * _unet(s) + acts * s.length * _mlp([CHEETAH_O, *hidden, CHEETAH_A]))


def agent_flop(s: AgentSettings) -> int:
    """One seed's step of an agent: its algorithm's networks, their targets and gradients."""
    actor, q, v = _mlp([CHEETAH_O, *s.hidden, CHEETAH_A]), *_critic(s)
    of_actor = (
        2 * actor - CHEETAH_O * s.hidden[0]
    )  # gradients of the parameters, and of all layers' inputs but the first
    of_q = 2 * (2 * q - (CHEETAH_O + CHEETAH_A) * s.hidden[0])
    if s.algo == "td3bc":
        # Q of the actor's action, whose gradient passes through it; then the updates, with the twins and their targets
        return 2 * s.batch * (2 * actor + of_actor + 2 * q + s.critic_updates * (2 * q + 2 * q + of_q))
    of_v = 2 * v - CHEETAH_O * s.hidden[0]
    return 2 * s.batch * (actor + of_actor + 2 * q + 2 * q + of_q + 2 * v + of_v)


def _unet(s: TrajectoriesSettings) -> int:
    """Multiplications of one window."""
    total, inputs = _level_in(s) + s.features**2 + s.length * s.features * CHEETAH_D, CHEETAH_D
    for i in range(s.blocks):
        length, width = s.length >> i, s.features << i
        total += length * 3 * (inputs + width) * width + s.features * width
        if i < s.blocks - 1:  # the decoder's block at this length: kernels of two, three and three
            total += length * (2 * 2 + 3 * 2 + 3) * width**2 + s.features * width
        inputs = width
    return total


def _level_in(s: TrajectoriesSettings) -> int:
    return 2 * max(1, s.features // 8) * s.features


def _blocks(s: DiffuseSettings, blocks: int, actions: int) -> int:
    """Multiplications of one row: residual blocks, the weight's head, the actions' layer."""
    return blocks * 8 * s.width**2 + s.width**2 + s.width + actions * s.width


def _step_table(s: DiffuseSettings) -> int:
    return s.K * (2 * FOURIER * STEP_WIDTH + STEP_WIDTH**2 + STEP_WIDTH * s.width)


def _critic(s: CriticSettings | AgentSettings) -> tuple[int, int]:
    """Multiplications of one row: (one Q, V)."""
    return _mlp([CHEETAH_O + CHEETAH_A, *s.hidden, 1]), _mlp([CHEETAH_O, *s.hidden, 1])


def _mlp(widths: list[int]) -> int:
    return sum(a * b for a, b in itertools.pairwise(widths))
