"""Training in turns with other implementations of it: plain PyTorch, and JAX where that is installed.

They learn the same critic and denoiser, which tests hold against ours.
"""

import importlib.util
import itertools
import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from swgctl import console
from swgctl.bench import cases
from swgctl.bench.measure import Case, processor, turns, warm_up
from swgctl.bench.peers.plain import PlainCritic, PlainDiffusion
from swgctl.bench.work import CHEETAH_A
from swgctl.config import CriticSettings, DiffuseSettings
from swgctl.console import say
from swgctl.errors import UsageError
from swgctl.learners import CriticLearner, DiffuseLearner
from swgctl.models.critic import MLP
from swgctl.training.execution import effective, uncompilable

CPU = torch.device("cpu")
SCAN = 20  # steps of JAX that are one call
PLAIN, JAX = "PyTorch, plain", "JAX, lax.scan"


@dataclass
class Side:
    """An implementation to measure; `count` seed-steps are one step of its case."""

    who: str
    case: Case
    count: int


def plain_critic(rows: int) -> PlainCritic:
    """On the noise that `cases` has."""
    data = cases.transitions(rows)
    names = ("observations", "actions", "rewards", "terminals", "next_observations")
    columns = {name: torch.from_numpy(getattr(data, name)).float() for name in names}
    return PlainCritic(columns | {name: columns[name].unsqueeze(1) for name in ("rewards", "terminals")})


def plain_diffusion(learner: DiffuseLearner, dropout: float) -> PlainDiffusion:
    """On the data of a learner's first member."""
    assert learner.weights is not None
    schedule, weights = learner.schedule, learner.weights[0].unsqueeze(1)
    return PlainDiffusion(learner.observations, learner.actions, weights, schedule.alpha, schedule.sigma, dropout)


def plain_side(settings: CriticSettings | DiffuseSettings, rows: int) -> Side:
    """One network after another, eager and in fp32, which draws at every step."""
    source = torch.Generator().manual_seed(0)

    def drawn() -> torch.Tensor:
        return torch.randint(rows, (settings.batch,), generator=source)

    if isinstance(settings, CriticSettings):
        critic = plain_critic(rows)

        def step() -> None:
            critic.step(drawn())

    else:
        learner = cases.learner(settings, [0], CPU, rows)
        assert isinstance(learner, DiffuseLearner)
        diffusion, K = plain_diffusion(learner, settings.dropout), settings.K

        def step() -> None:
            k = torch.randint(K, (settings.batch,), generator=source)
            diffusion.step(drawn(), k, torch.randn(settings.batch, settings.channels(CHEETAH_A), generator=source))

    def run(n: int) -> None:
        for _ in range(n):
            step()

    return Side(PLAIN, Case({}, 1, "fp32", 1.0, run), 1)


def critic_in_jax(learner: CriticLearner):
    """JAX's critic of a learner's members, with its data and parameters."""
    from swgctl.bench.peers.jax_critic import JaxCritic

    def layers(net: MLP) -> list[tuple[np.ndarray, np.ndarray]]:
        arrays = [p.detach().numpy().copy() for p in net.parameters()]
        return list(zip(arrays[::2], arrays[1::2], strict=True))

    return JaxCritic(learner.rows.numpy(), learner.widths, layers(learner.critic.q), layers(learner.critic.v))


def jax_side(settings: CriticSettings, seeds: int, rows: int) -> Side:
    """Draws are made once, before it is measured."""
    learner = cases.learner(settings, list(range(seeds)), CPU, rows)
    assert isinstance(learner, CriticLearner)
    critic = critic_in_jax(learner)
    drawn = np.random.default_rng(0).integers(0, rows, (SCAN, seeds, settings.batch))

    def run(n: int) -> None:
        for _ in range(n):
            critic.run(drawn)

    return Side(JAX, Case({}, seeds, "fp32", 1.0, run), SCAN * seeds)


def sides(what: str, settings: CriticSettings | DiffuseSettings, seeds: int, with_jax: bool, rows: int) -> list[Side]:
    """Plain PyTorch, JAX, and ours, eager and compiled, in fp32 and, where the processor has other products, in the
    settings' precision."""
    counts = list(dict.fromkeys([1, seeds]))
    of_jax = with_jax and isinstance(settings, CriticSettings)
    compared = [plain_side(settings, rows)]
    if of_jax and isinstance(settings, CriticSettings):
        compared += [jax_side(settings, n, rows) for n in counts]
    kinds = ["fp32"] + [settings.precision] * (effective(settings.precision, "cpu") != "fp32")
    names = {"eager": "swgctl", "compiled": "swgctl, compiled"}
    if why := uncompilable("cpu"):
        say(f"bench: without compiled steps: {why}")
        del names["compiled"]
    for precision, mode, n in itertools.product(kinds, names, counts):
        compared.append(Side(names[mode], cases.training_case(what, settings, n, mode, precision, CPU, rows), n))
    return compared


def compare(what: str, compared: Sequence[Side], repeats: int, seconds: float = 0.5) -> list[dict]:
    """A row a side: seed_steps_per_s, the median, and `times_plain` and `times_jax`, [median, least, most] of the
    ratios of its rate to that of the plain side, and of the faster of JAX's, in the same turn."""
    counts = [warm_up(side.case, CPU, repeats, seconds) for side in compared]
    durations = turns([side.case for side in compared], counts, repeats, CPU)
    rates = [[side.count / t for t in times] for side, times in zip(compared, durations, strict=True)]
    fastest: dict[str, list[float]] = {}
    for side, of_side in zip(compared, rates, strict=True):
        if side.who not in fastest or statistics.median(of_side) > statistics.median(fastest[side.who]):
            fastest[side.who] = of_side
    rows = []
    for side, of_side in zip(compared, rates, strict=True):
        row = {"what": what, "who": side.who, "seeds": side.case.seeds}
        row |= {"precision": effective(side.case.precision, "cpu"), "seed_steps_per_s": statistics.median(of_side)}
        for name, who in (("times_plain", PLAIN), ("times_jax", JAX)):
            if who in fastest:
                ratios = [a / b for a, b in zip(of_side, fastest[who], strict=True)]
                row[name] = [statistics.median(ratios), min(ratios), max(ratios)]
        rows.append(row | {"processor": processor(), "threads": torch.get_num_threads()})
    return rows


def report(names: Sequence[str], seeds: int, repeats: int, as_json: bool) -> None:
    """Print a table a name on stderr, or with `as_json` one object a row on stdout.  Raises UsageError."""
    for name in names:
        if name not in cases.SETTINGS:
            raise UsageError(
                f"'{name}' has no peers to compare with", f"swgctl bench --peers {' '.join(cases.SETTINGS)}"
            )
    with_jax = importlib.util.find_spec("jax") is not None
    if not with_jax:
        say("bench: without JAX, which `pip install 'jax>=0.10'` installs")
    for name in names or cases.SETTINGS:
        say(f"bench: measuring {name} and its peers")
        rows = compare(name, sides(name, cases.SETTINGS[name](), seeds, with_jax, cases.ROWS), repeats)
        if as_json:
            print(*map(json.dumps, rows), sep="\n", flush=True)
            continue
        ratios = [title for title in ("times_plain", "times_jax") if title in rows[0]]
        console.table(
            f"{name} on {processor()}, {torch.get_num_threads()} threads; ratios within a turn: median (least-most)",
            ["who", "seeds", "products", "seed-steps/s", *(title.replace("_", " ") for title in ratios)],
            [
                [row["who"], str(row["seeds"]), row["precision"], f"{row['seed_steps_per_s']:,.1f}"]
                + ["{:.2f} ({:.2f}-{:.2f})".format(*row[title]) for title in ratios]
                for row in rows
            ],
        )
