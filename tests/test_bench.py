"""Work counted by hand against a counter's, rates that are rates, and the learner beside a plain implementation."""

import json
import statistics
import time
from itertools import islice

import pytest
import torch
from harness import swgctl
from reference import PlainCritic, PlainDiffusion
from torch.utils.flop_counter import FlopCounterMode

from swgctl.bench import cases, inference
from swgctl.bench.measure import Case
from swgctl.config import CriticSettings, DiffuseSettings
from swgctl.execution import products
from swgctl.tasks import quoted
from swgctl.training import draws

CPU = torch.device("cpu")


def counted(case: Case) -> int:
    with FlopCounterMode(display=False) as counter:
        case.run(1)
    return counter.get_total_flops()


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("critic", CriticSettings(batch=8)),
        ("critic", CriticSettings(hidden=[32, 64, 16], batch=8)),
        ("diffuse", DiffuseSettings(batch=8)),
        ("diffuse", DiffuseSettings(batch=8, width=64, blocks=4, weight_block=1, K=7, dropout=0)),
    ],
)
def test_the_work_of_a_training_step_is_what_a_counter_counts(what, settings, seeds):
    case = cases.training_case(what, settings, seeds, "eager", "fp32", CPU, rows=500)
    assert counted(case) == case.flop


@pytest.mark.parametrize("guided", [False, True])
def test_the_work_of_a_walk_is_what_a_counter_counts(guided):
    """So guidance differentiates the path to the weight alone: 5/3 of the work, not 2 or 3 times."""
    case = cases.sampling_case(guided, 2, "fp32", CPU, rows=8)
    assert counted(case) == case.flop


def test_table_10_counts_these_parameters():
    """To a unit of the last digit in print, but for two layers: each layer adds 4.2M there, the second only 3.8M."""
    printed = quoted.paper("swg")["parameters"]
    width = {width: inference.parameters(width, inference.LAYERS) for width in inference.WIDTHS}
    depth = {depth: inference.parameters(inference.WIDTH, depth) for depth in inference.DEPTHS}
    assert set(width) == set(printed["width"])
    assert set(depth) == set(printed["depth"])
    for count, shown in [(width[n], printed["width"][n]) for n in width] + [
        (depth[n], printed["depth"][n]) for n in depth if n != 2
    ]:
        assert abs(count - shown) < (1e4 if shown < 1e6 else 1e5)
    assert depth[2] - depth[1] == depth[3] - depth[2] == 2056 * 2057
    assert depth[2] - printed["depth"][2] > 3e5


def test_rows_for_scripts():
    answer = swgctl("bench", "sample", "--seeds", "1", "--repeats", "1", "--json")
    rows = [json.loads(line) for line in answer.lines]
    assert len(rows) == 4
    for row in rows:
        assert row["seed_steps_per_s"] == row["seeds"] * row["steps_per_s"] > 0
        assert row["flop_per_s"] == pytest.approx(row["flop_per_step"] * row["steps_per_s"])
        assert row["limit_flop_per_s"] > 1e9
        assert row["peak_bytes"] > 1e7
        assert row["mode"] in ("guided", "unguided")
        assert row["precision"] in ("fp32", "bf16")
        assert row["device"].startswith("cpu")
    guided, unguided = (next(row for row in rows if row["mode"] == mode) for mode in ("guided", "unguided"))
    assert guided["flop_per_step"] / unguided["flop_per_step"] == pytest.approx(5 / 3, abs=0.05)


def test_bad_input():
    swgctl("bench", "critics").refused(2, "nothing called 'critics'", "did you mean 'critic'")
    swgctl("bench", "sample", "--seeds", "0").refused(2, "--seeds")
    swgctl("bench", "sample", "--device", "tpu").refused(2, "no device 'tpu'")


# -- beside a plain implementation -------------------------------------------------------------------------------------


def plain_critic(rows: int) -> PlainCritic:
    data = cases.transitions(rows)
    names = ("observations", "actions", "rewards", "terminals", "next_observations")
    columns = {name: torch.from_numpy(getattr(data, name)).float() for name in names}
    columns |= {name: columns[name].unsqueeze(1) for name in ("rewards", "terminals")}
    return PlainCritic(columns)


def plain_diffusion(learner, dropout: float) -> PlainDiffusion:
    schedule, weights = learner.schedule, learner.weights[0].unsqueeze(1)
    return PlainDiffusion(learner.observations, learner.actions, weights, schedule.alpha, schedule.sigma, dropout)


def test_the_critic_learns_what_a_plain_implementation_learns():
    """Twenty steps on the same rows from the same parameters: two ways to one critic."""
    learner = cases.learner("critic", CriticSettings(), [0], CPU, rows=1000)
    plain = plain_critic(1000)
    plain.take(learner)
    for drawn in islice(draws(learner, "critic", [0], CPU), 20):
        learner.step(drawn)
        plain.step(drawn["rows"][0])
    observations, actions = plain.data["observations"][:100], plain.data["actions"][:100]
    q, v = learner.critic.value(observations[None], actions[None])
    both = torch.cat([observations, actions], 1)
    torch.testing.assert_close(q[0], torch.min(*(net(both) for net in plain.target)).squeeze(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(v[0], plain.v(observations).squeeze(1), rtol=1e-4, atol=1e-5)


def test_the_denoiser_learns_what_a_plain_implementation_learns():
    """The average of twenty steps, without dropout."""
    learner = cases.learner("diffuse", DiffuseSettings(dropout=0, batch=64), [0], CPU, rows=1000)
    plain = plain_diffusion(learner, dropout=0)
    plain.take(learner)
    for drawn in islice(draws(learner, "diffuse", [0], CPU), 20):
        learner.step(drawn)
        plain.step(drawn["rows"][0], drawn["k"][0], drawn["eps"][0])
    z, k = drawn["eps"], drawn["k"]
    observations = learner.observations[drawn["rows"]]
    for ours, theirs in ((learner.denoiser, plain.net), (learner.average, plain.average)):
        torch.testing.assert_close(
            ours(z, k, observations)[0], theirs(z[0], k[0], observations[0]), rtol=1e-4, atol=1e-4
        )


@pytest.mark.slow  # they measure, and want the machine for themselves
@pytest.mark.parametrize(("what", "seeds", "ratio"), [("critic", 5, 2.0), ("diffuse", 1, 1.7), ("diffuse", 5, 1.7)])
def test_training_is_faster_than_a_plain_implementation(what, seeds, ratio):
    """Seed-steps/s at the paper's sizes, by turns: of all seeds as one, and of one eager network after the other."""
    settings = cases.SETTINGS[what]()
    case = cases.training_case(what, settings, seeds, "eager", settings.precision, CPU)
    source = torch.Generator().manual_seed(0)
    if what == "critic":
        plain, count = plain_critic(cases.ROWS), 40
    else:
        plain, count = plain_diffusion(cases.learner("diffuse", settings, [0], CPU), settings.dropout), 4

    def ours(n):
        with products(case.precision):
            case.run(n)

    def theirs(n):
        for _ in range(n):
            rows = torch.randint(cases.ROWS, (settings.batch,), generator=source)
            if what == "critic":
                plain.step(rows)
            else:
                k = torch.randint(settings.K, rows.shape, generator=source)
                plain.step(rows, k, torch.randn(len(rows), cases.ACTIONS + 1, generator=source))

    def seconds(run, n):
        started = time.perf_counter()
        run(n)
        return (time.perf_counter() - started) / n

    ours(count), theirs(count)
    pairs = [(seeds / seconds(ours, count), 1 / seconds(theirs, 2 * count)) for _ in range(7)]
    print(f"{what}, {seeds} seeds:", *(f"{a:.1f} / {b:.1f} = {a / b:.2f}" for a, b in pairs), sep="\n")
    assert statistics.median(a / b for a, b in pairs) > ratio
