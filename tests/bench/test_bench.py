"""Work counted by hand against a counter's, rates that are rates, and the learner beside a plain implementation."""

import json
import time
from contextlib import ExitStack
from functools import partial
from itertools import islice

import pytest
import torch
from support.harness import shell, swgctl
from support.training import counted

from swgctl.bench import cases, inference, protocol
from swgctl.bench.measure import Case, measure
from swgctl.bench.peers import compare, critic_in_jax, plain_critic, plain_diffusion, sides
from swgctl.config import AgentSettings, CriticSettings, DiffuseSettings, TrajectoriesSettings
from swgctl.errors import UsageError
from swgctl.tasks import environments, quoted
from swgctl.training import draws
from swgctl.training.execution import effective

CPU = torch.device("cpu")
UNET = {"features": 16, "groups": 2, "batch": 4}
pytestmark = pytest.mark.training


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("critic", CriticSettings(batch=8)),
        ("critic", CriticSettings(hidden=[32, 64, 16], batch=8)),
        ("diffuse", DiffuseSettings(batch=8)),
        ("diffuse", DiffuseSettings(batch=8, width=64, blocks=4, weight_block=1, K=7, dropout=0)),
        ("trajectories", TrajectoriesSettings(**UNET)),
        ("trajectories", TrajectoriesSettings(**UNET, length=17, blocks=2)),
        ("trajectories", TrajectoriesSettings(**UNET, length=8, blocks=1)),
        ("agent", AgentSettings(batch=8)),
        ("agent", AgentSettings(batch=8, critic_updates=3, hidden=[32, 64, 16])),
        ("agent", AgentSettings(batch=8, algo="iql")),
        ("agent", AgentSettings(batch=8, algo="iql", hidden=[32, 64, 16])),
    ],
)
def test_the_work_of_a_training_step_is_what_a_counter_counts(what, settings, seeds):
    case = cases.training_case(what, settings, seeds, "eager", "fp32", CPU, rows=500)
    assert counted(lambda: case.run(1)) == case.flop


@pytest.mark.parametrize("guided", [False, True])
def test_the_work_of_a_walk_is_what_a_counter_counts(guided):
    """So guidance differentiates the path to the weight alone: 5/3 of the work, not 2 or 3 times."""
    case = cases.sampling_case(guided, 2, "fp32", CPU, rows=8)
    assert counted(lambda: case.run(1)) == case.flop


@pytest.mark.parametrize("candidates", [[1], [1, 3]])
def test_the_work_of_an_evaluation_is_what_a_counter_counts(candidates, monkeypatch):
    """So a critic ranks the candidates, where there is more than one."""
    monkeypatch.setattr(cases, "EPISODES", 2)
    with ExitStack() as stack:
        case = cases.evaluation_case([5.0, 10.0], candidates, 2, "fp32", CPU, stack)
        assert counted(lambda: case.run(1)) == case.flop
        assert case.most == environments.spec(cases.ENVIRONMENT).max_episode_steps


# -- measuring ---------------------------------------------------------------------------------------------------------


@pytest.mark.timing
def test_a_step_has_its_share_of_the_draws():
    """A millisecond of its own and five of draws, though a repeat has fewer steps than a chunk."""
    case = Case({}, 1, "fp32", 1.0, lambda n: time.sleep(1e-3 * n), draw=lambda: time.sleep(0.1), chunk=20)
    (row,) = measure([lambda: case], CPU, repeats=3, seconds=5e-3)
    assert 6e-3 < 1 / row["steps_per_s"] < 12e-3


@pytest.mark.parametrize("what", ["critic", "diffuse"])
def test_training_draws_a_chunk_for_so_many_steps(what, monkeypatch):
    """Once in all where steps are timed, and once each time where draws are."""
    trained = type(cases.learner(cases.SETTINGS[what](batch=2), [0], CPU, rows=50))
    drawn, draw = [], trained.draw
    monkeypatch.setattr(trained, "draw", lambda *args: drawn.append(draw(*args)) or drawn[-1])
    case = cases.training_case(what, cases.SETTINGS[what](batch=2), 2, "eager", "fp32", CPU, rows=50)
    case.run(case.chunk + 1)
    assert len(drawn) == 1
    case.draw()
    assert len(drawn) == 2
    assert {len(tensor) for tensor in drawn[1].values()} == {case.chunk}


def test_the_peak_of_a_case_is_its_own(monkeypatch):
    """On CUDA, as a counter of bytes: each case keeps what it was made with, and takes 5 more while it runs."""
    held, peak = [1000], [0]

    def take(count: int) -> None:
        held[0] += count
        peak[0] = max(peak[0], held[0])

    def make(count: int) -> Case:
        take(count)
        return Case({}, 1, "fp32", 1.0, lambda n: (take(5), take(-5)))

    answers = {
        "reset_peak_memory_stats": lambda _: peak.__setitem__(0, held[0]),
        "memory_allocated": lambda _: held[0],
        "max_memory_allocated": lambda _: peak[0],
        "synchronize": lambda _: None,
        "get_device_name": lambda _: "none",
    }
    for name, answer in answers.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    monkeypatch.setitem(measure.__globals__, "limit", lambda *_: 1.0)
    rows = measure([partial(make, 300), partial(make, 20)], torch.device("cuda"), 2, 1e-6)
    assert [row["peak_bytes"] for row in rows] == [305, 25]


def test_no_step_is_past_the_end_of_an_episode():
    taken = []
    case = Case({"what": "eval"}, 1, "fp32", 1.0, taken.append, most=50)
    list(measure([lambda: case], CPU, repeats=4))
    assert taken == [*[1] * 5, *[11] * 4]  # 49 of 50
    with pytest.raises(UsageError, match="50 steps"):
        list(measure([lambda: case], CPU, repeats=46))


@pytest.mark.slow
def test_rows_for_scripts():
    answer = swgctl("bench", "sample", "--seeds", "1", "--repeats", "1", "--json")
    rows = [json.loads(line) for line in answer.lines]
    assert len(rows) == 4
    for row in rows:
        assert row["seed_steps_per_s"] == row["seeds"] * row["steps_per_s"] > 0
        assert row["flop_per_s"] == pytest.approx(row["flop_per_step"] * row["steps_per_s"])
        assert row["limit_flop_per_s"] > 1e9
        assert row["peak_bytes"] > 1e7
        assert row["mode"] == "eager"
        assert row["precision"] in ("fp32", "bf16")
        assert row["device"].startswith("cpu")
    guided, unguided = (next(row for row in rows if row["guidance"] == name) for name in ("guided", "none"))
    assert guided["flop_per_step"] / unguided["flop_per_step"] == pytest.approx(5 / 3, abs=0.05)


def test_the_papers_protocol_is_the_sum_of_its_parts():
    """A million steps of each at the fastest rate of all seeds, and a thousand of the sweep."""
    usual = {"seeds": 5, "device": "cpu"}
    rows = [
        usual | {"what": "critic", "steps_per_s": 100.0},
        usual | {"what": "critic", "steps_per_s": 1000.0},
        usual | {"what": "critic", "steps_per_s": 9000.0, "seeds": 1},
        usual | {"what": "diffuse", "steps_per_s": 500.0},
        usual | {"what": "diffuse", "steps_per_s": 9000.0, "axis": "batch"},
        usual | {"what": "eval", "steps_per_s": 50.0, "cells": 1},
    ]
    assert protocol(rows) is None
    found = protocol([*rows, usual | {"what": "eval", "steps_per_s": 2.0, "cells": 35}])
    assert found == usual | {"what": "protocol", "seconds": 1000 + 2000 + 500}


# -- one action --------------------------------------------------------------------------------------------------------


def test_table_10_counts_these_parameters():
    """To a unit of the last digit in print, but for two layers: each layer adds 4.2M there, the second only 3.8M."""
    printed = quoted.paper("swg")["parameters"]
    with torch.device("meta"):
        width = {n: inference.parameters(inference.Plain(n, inference.LAYERS)) for n in inference.WIDTHS}
        depth = {n: inference.parameters(inference.Plain(inference.WIDTH, n)) for n in inference.DEPTHS}
    assert set(width) == set(printed["width"])
    assert set(depth) == set(printed["depth"])
    for count, shown in [(width[n], printed["width"][n]) for n in width] + [
        (depth[n], printed["depth"][n]) for n in depth if n != 2
    ]:
        assert abs(count - shown) < (1e4 if shown < 1e6 else 1e5)
    assert depth[2] - depth[1] == depth[3] - depth[2] == 2056 * 2057
    assert depth[2] - printed["depth"][2] > 3e5


@pytest.mark.parametrize(
    ("guidance", "multiplications"),
    [
        ("guided", 271 * 32 + 2 * 32 * 32 + 32 * 4),  # back through everything
        ("guided, early head", 271 * 32 + 32),
        ("guided, own module", 271 * 256 + 256),
    ],
)
def test_guidance_differentiates_what_the_weight_needs(guidance, multiplications, monkeypatch):
    """Three layers of 32 units, of 271 inputs; so with an early head, the first layer alone, whatever the depth."""
    # The counter's hooks do not bear a module whose input is a leaf.
    monkeypatch.setattr(inference.Plain, "__call__", lambda net, z, k: net.forward(z, k))
    net = inference.build(inference.NETWORKS[guidance], 32, 3, CPU)
    guided, plain = (counted(inference.walk(net, on, CPU)) for on in (True, False))
    assert guided - plain == inference.K * 2 * multiplications


@pytest.mark.parametrize("network", [inference.EarlyHead, inference.OwnModule])
def test_a_weight_of_its_own_leaves_the_actions_noise_as_it_is(network):
    """The same layers give the actions' noise; the weight's gradient is that of the network as a whole."""
    torch.manual_seed(0)
    net = network(16, 3)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z = torch.randn(1, 1, 4)
    eps_w, gradient, finish = net.weight_first(z, 7)
    torch.testing.assert_close(finish()[..., :3], inference.chain(net.layers, net.enter(z, 7)))
    torch.testing.assert_close(finish()[..., 3], eps_w)
    assert gradient.abs().min() > 0


def test_a_row_for_each_size_and_guidance(monkeypatch):
    for name, value in {"WIDTHS": (8, 16), "DEPTHS": (1, 2), "WIDTH": 8}.items():
        monkeypatch.setattr(inference, name, value)
    rows = list(inference.table(3, CPU, seconds=0))
    sizes = [("width", 8), ("width", 16), ("depth", 1), ("depth", 2)]
    assert [(row["axis"], row["value"], row["guidance"]) for row in rows] == [
        (*size, name) for size in sizes for name in ("none", "guided", "guided, early head", "guided, own module")
    ]
    for row in rows:
        assert row["mode"] == "eager"
        assert row["runs"] == 3
        assert row["seconds_mean"] > 0
        assert row["seconds_sd"] > 0
    none, guided, early, own = (row["parameters"] for row in rows[:4])
    assert none == guided == early  # one of four outputs has moved
    assert own - none == 271 * 256 + 256 + 256 + 1 - (8 + 1)


def test_bad_input():
    swgctl("bench", "critics").refused(2, "no table 'critics' to measure", "did you mean 'critic'")
    swgctl("bench", "sample", "--seeds", "0").refused(2, "--seeds")
    swgctl("bench", "sample", "--device", "tpu").refused(2, "no device 'tpu'")
    swgctl("bench", "sample", "--device", "meta").refused(2, "no device 'meta'")


@pytest.mark.slow  # a table at the paper's sizes
def test_without_a_compiler_the_other_rows_are_measured(tmp_path):
    nowhere = {"CXX": "/nonexistent/g++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    answer = shell("swgctl bench critic --seeds 1 --repeats 1 --json", **nowhere)
    assert answer.code == 0
    assert {json.loads(line)["mode"] for line in answer.lines} == {"eager"}
    told = [line for line in answer.err.splitlines() if "a row is left out" in line]
    assert len(told) == 2
    assert "/nonexistent/g++" in told[0]


# -- beside a plain implementation -------------------------------------------------------------------------------------


def test_the_critic_learns_what_a_plain_implementation_learns():
    """Twenty steps on the same rows from the same parameters: two ways to one critic."""
    learner = cases.learner(CriticSettings(), [0], CPU, rows=1000)
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
    learner = cases.learner(DiffuseSettings(dropout=0, batch=64), [0], CPU, rows=1000)
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


def test_the_critic_learns_what_jax_learns():
    """Twenty steps of one seed, and of two at once: parameters, targets and the last losses."""
    pytest.importorskip("jax")
    for seeds in ([0], [0, 1]):
        learner = cases.learner(CriticSettings(hidden=[32, 16], batch=64), seeds, CPU, rows=500)
        theirs = critic_in_jax(learner)
        drawn = [*islice(draws(learner, "critic", seeds, CPU), 20)]
        v_losses, q_losses = theirs.run(torch.stack([x["rows"] for x in drawn]).numpy())
        for each in drawn:
            info = learner.step(each)
        (q, *_), target, (v, *_), steps = theirs.state
        critic = learner.critic
        pairs = [(info["v_loss"], v_losses[-1]), (info["q_loss"], q_losses[-1])]
        for twin in range(2):
            for net, layers in ((critic.q, q[twin]), (critic.q_target, target[twin])):
                for layer, (weight, bias) in zip(net.layers, layers, strict=True):
                    pairs += [(layer.weight[:, twin], weight), (layer.bias[:, twin, 0], bias)]
        for layer, (weight, bias) in zip(critic.v.layers, v, strict=True):
            pairs += [(layer.weight, weight), (layer.bias[:, 0], bias)]
        for ours, jax in pairs:
            torch.testing.assert_close(ours.detach(), torch.tensor(jax).view(ours.shape), rtol=1e-4, atol=1e-5)
        assert (torch.tensor(steps) == 20).all()


@pytest.fixture
def eager(monkeypatch):
    """Peers without compiled rows, which would take their time."""
    monkeypatch.setattr("swgctl.bench.peers.uncompilable", lambda device: "no compiler")


@pytest.mark.parametrize("what", ["critic", "diffuse"])
def test_peers_in_turns(what, eager):
    """A row of each side; a side is once as fast as itself."""
    small = {"critic": CriticSettings(hidden=[8], batch=4), "diffuse": DiffuseSettings(width=8, batch=4)}[what]
    rows = compare(what, sides(what, small, 2, with_jax=False, rows=50), 3, seconds=1e-3)
    assert {(row["who"], row["seeds"]) for row in rows} == {("PyTorch, plain", 1), ("swgctl", 1), ("swgctl", 2)}
    assert rows[0]["times_plain"] == [1, 1, 1]
    for row in rows:
        median, least, most = row["times_plain"]
        assert 0 < least <= median <= most
        assert row["seed_steps_per_s"] > 0
        assert row["processor"]
        assert "times_jax" not in row


def test_jax_among_the_peers(eager):
    pytest.importorskip("jax")
    rows = compare("critic", sides("critic", CriticSettings(hidden=[8], batch=4), 2, True, rows=50), 2, seconds=1e-3)
    assert [(row["who"], row["seeds"]) for row in rows[1:3]] == [("JAX, lax.scan", 1), ("JAX, lax.scan", 2)]
    assert [1, 1, 1] in [row["times_jax"] for row in rows[1:3]]


def test_the_command_without_jax(monkeypatch, eager):
    """One line says so; the rest is measured."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    small = {"critic": partial(CriticSettings, hidden=[8], batch=4)}
    monkeypatch.setattr(cases, "SETTINGS", small)
    monkeypatch.setattr(cases, "ROWS", 50)
    answer = swgctl("bench", "--peers", "--seeds", "2", "--repeats", "1", "--json")
    kinds = 1 + (effective("bf16", "cpu") == "bf16")  # of precision that the processor has
    assert [json.loads(line)["who"] for line in answer.lines] == ["PyTorch, plain", *["swgctl", "swgctl"] * kinds]
    assert answer.err.count("without JAX") == 1


def test_what_has_no_peers():
    swgctl("bench", "eval", "--peers").refused(2, "'eval' has no peers")
    for more in (("--device", "cuda"), ("--recipe", "pgd")):
        swgctl("bench", "--peers", *more).refused(2, "on the processor")


@pytest.mark.slow  # they measure, and want the machine for themselves
@pytest.mark.parametrize(("what", "seeds", "ratio"), [("critic", 5, 2.0), ("diffuse", 1, 1.7), ("diffuse", 5, 1.7)])
def test_training_is_faster_than_a_plain_implementation(what, seeds, ratio):
    """Seed-steps/s at the paper's sizes, by turns: of all seeds as one, and of one eager network after the other."""
    rows = compare(what, sides(what, cases.SETTINGS[what](), seeds, with_jax=False, rows=cases.ROWS), 7)
    print(*rows, sep="\n")
    assert rows[-1]["times_plain"][0] > ratio
