"""The critic's training step as JAX code has it: a jitted `lax.scan` over the steps, one seed, or vmapped over several.

It needs JAX alone: `pip install -r requirements.txt`, then `python jax_critic.py` prints its rates on noise of
HalfCheetah's dimensions at the paper's sizes.  `swgctl bench --peers` measures it in turns with others.
"""

import itertools
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

TAU, GAMMA, RATE, LR = 0.7, 0.99, 0.005, 3e-4


def network(layers, x):
    """(B,) for x (B, inputs): weight (inputs, outputs) and bias (outputs,) of each layer, ReLU between them."""
    *hidden, (weight, bias) = layers
    for w, b in hidden:
        x = jnp.maximum(x @ w + b, 0)
    return (x @ weight + bias)[:, 0]


def adam(state, gradients, t):
    """(parameters, both moments) after step t = 1, 2, ..."""
    parameters, first, second = state
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
    scale, bound = LR / (1 - 0.9**t), 1 / (1 - 0.999**t)
    moved = jax.tree.map(lambda p, m, v: p - scale * m / (jnp.sqrt(bound * v) + 1e-8), parameters, first, second)
    return moved, first, second


def step(table, widths, state, rows):
    """One step on the rows (B,) of a table (N, D): SWG's Algorithm 3 with the expectile loss."""
    q, target, v, t = state
    t = t + 1
    observations, actions, rewards, terminals, following = jnp.split(table[rows], np.cumsum(widths)[:-1], 1)
    rewards, terminals = rewards[:, 0], terminals[:, 0]
    both = jnp.concatenate([observations, actions], 1)
    least = jnp.minimum(*(network(twin, both) for twin in target))

    def v_loss(layers):
        u = least - network(layers, observations)
        return (jnp.where(u < 0, 1 - TAU, TAU) * u * u).mean()

    v_value, gradients = jax.value_and_grad(v_loss)(v[0])
    v = adam(v, gradients, t)
    aim = rewards + GAMMA * (1 - terminals) * network(v[0], following)

    def q_loss(twins):
        return sum(((network(twin, both) - aim) ** 2).mean() for twin in twins)

    q_value, gradients = jax.value_and_grad(q_loss)(q[0])
    q = adam(q, gradients, t)
    target = jax.tree.map(lambda old, new: (1 - RATE) * old + RATE * new, target, q[0])
    return (q, target, v, t), (v_value, q_value)


class JaxCritic:
    """S seeds: `state` is ((Q, its moments), target, (V, its moments), steps), leading axes of S where S > 1.

    table   (N, O + A + 2 + O): observation, action, reward, terminal, next observation
    q, v    each layer's weight (S, 2, inputs, outputs) and bias (S, 2, 1, outputs), without the 2 for V
    """

    def __init__(self, table, widths, q, v):
        several = len(q[0][0]) > 1
        pick = (lambda x: x) if several else (lambda x: x[0])
        twins = [[tuple(pick(x[:, i]) for x in (w, b[:, :, 0])) for w, b in q] for i in range(2)]
        value = [tuple(pick(x) for x in (w, b[:, 0])) for w, b in v]
        zeros = partial(jax.tree.map, np.zeros_like)
        steps = np.zeros(len(q[0][0]), np.float32) if several else np.float32(0)
        self.state = (twins, zeros(twins), zeros(twins)), twins, (value, zeros(value), zeros(value)), steps
        one = partial(step, jnp.asarray(table), widths)
        each = jax.vmap(one) if several else one
        self._scan = jax.jit(lambda state, rows: lax.scan(each, state, rows))
        self._several = several

    def run(self, rows):
        """Take the steps whose rows are (n, S, B); returns both losses, (n,) or (n, S)."""
        self.state, losses = jax.block_until_ready(self._scan(self.state, rows if self._several else rows[:, 0]))
        return losses


def on_noise(seeds, observations=17, actions=6, hidden=(256, 256), rows=100_000):
    """A critic of random parameters on a table of noise."""
    source = np.random.default_rng(0)

    def layers(members, inputs):
        sizes = [inputs, *hidden, 1]
        for a, b in itertools.pairwise(sizes):
            weight = source.uniform(-1, 1, (*members, a, b)) * (6 / (a + b)) ** 0.5
            yield weight.astype(np.float32), np.zeros((*members, 1, b), np.float32)

    widths = [observations, actions, 1, 1, observations]
    table = source.standard_normal((rows, sum(widths)), np.float32)
    return JaxCritic(table, widths, [*layers((seeds, 2), observations + actions)], [*layers((seeds,), observations)])


if __name__ == "__main__":
    for seeds in (1, 5):
        critic, steps, rates = on_noise(seeds), 100, []
        drawn = np.random.default_rng(1).integers(0, 100_000, (steps, seeds, 256))
        for _ in range(6):
            started = time.perf_counter()
            critic.run(drawn)
            rates.append(seeds * steps / (time.perf_counter() - started))
        print(f"{seeds} seed(s): {statistics.median(rates[1:]):.0f} seed-steps/s on {jax.devices()[0].platform}")
