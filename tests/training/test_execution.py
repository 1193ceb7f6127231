"""How steps run: precision of products, compiled steps, and steps that are recorded once and replayed."""

from functools import partial
from itertools import islice

import pytest
import torch
from support.harness import swgctl
from support.learners import (
    AGENT,
    CPU,
    CRITIC,
    DIFFUSE,
    GUIDE,
    agent_learner,
    behaviour_learner,
    critic_learner,
    diffuse_learner,
    dynamics_learner,
    guide_learner,
    trajectory_learner,
)

from swgctl.config import ToySettings
from swgctl.errors import InputError, Interrupted, UsageError
from swgctl.learners import ToyLearner
from swgctl.models import batched
from swgctl.training import draws, execution, train
from swgctl.training.execution import COMPILES_FROM, PRECISIONS, Replay, capture, effective, pick_mode, products, runner

TOY = ToySettings(width=16, layers=2, K=8, batch=16, steps=30, decay="cosine", ema=0.01, octaves=2, draws="focused")


def toy_learner(seeds, device=CPU):
    points = torch.rand(100, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return ToyLearner(points, points[:, 0].abs(), TOY, seeds, device)


MAKE = {"critic": critic_learner, "diffuse": diffuse_learner, "toy": toy_learner}
GUIDES = {
    f"guide {name}": partial(guide_learner, settings=GUIDE.model_copy(update=changes))
    for name, changes in {
        **{method: {"method": method} for method in ("mse", "emse", "cep", "ddice", "aepo")},
        "aepo, secant": {"method": "aepo", "curvature": "secant"},
    }.items()
}
PGD = {
    "trajectories": trajectory_learner,
    "dynamics": dynamics_learner,
    "td3bc": agent_learner,
    "iql": partial(agent_learner, settings=AGENT.model_copy(update={"algo": "iql"})),
}
VARIANTS = {
    **{
        f"critic {loss}": partial(critic_learner, settings=CRITIC.model_copy(update={"loss": loss}))
        for loss in ("quantile", "linex", "cql", "isq", "dice")
    },
    **{
        f"diffuse {', '.join(changes)}": partial(diffuse_learner, settings=DIFFUSE.model_copy(update=changes))
        for changes in ({"weight_net": 8}, {"weight_form": "data"}, {"dropout": 0, "weight_scale": "standard"})
    },
    "diffuse candidates": partial(diffuse_learner, candidate_rows=8),
    **{
        f"{algo} beside real rows": partial(agent_learner, settings=AGENT.model_copy(update={"algo": algo, "real": 8}))
        for algo in ("td3bc", "iql")
    },
}
RECORDED = MAKE | {"behaviour": behaviour_learner} | GUIDES | PGD | VARIANTS
SEEDS = [0, 3]


def equal(a, b) -> bool:
    return all(torch.equal(value, b.state()[name]) for name, value in a.state().items())


def apart(a, b) -> float:
    """Greatest distance of two learners' parameters, averages and moments, |x - y| over |y| of each tensor.

    Element by element rounding decides the sign of a gradient near 0, and so where Adam moves that element.
    """
    pairs = [(a.state()[name], value) for name, value in b.state().items()]
    return max(((x - y).norm() / y.norm().clamp(min=1e-9)).item() for x, y in pairs)


def recorder(function):
    """A graph on a CPU: trials that change the state, then a replay that calls the function with what is in place."""
    for _ in range(4):
        function()
    return function


# -- recorded steps: by a stand-in for a graph, and where there is a GPU by a real one ---------------------------------

CUDA = torch.device("cuda", max(torch.cuda.device_count(), 1) - 1)
GRAPHS = [(CPU, recorder), pytest.param(CUDA, partial(capture, device=CUDA), marks=pytest.mark.cuda)]


@pytest.mark.parametrize(("device", "graph"), GRAPHS)
@pytest.mark.parametrize("name", RECORDED)
def test_a_replayed_step_reads_fresh_draws_and_leaves_no_trace_of_its_trials(name, device, graph):
    """Twelve steps, replayed and plain: every parameter, average and moment, and every loss, to the bit."""
    plain, replayed = RECORDED[name](SEEDS, device), RECORDED[name](SEEDS, device)
    step = Replay(replayed.step, replayed.state, graph)
    for drawn in islice(draws(plain, name, SEEDS, device), 12):
        expected, found = plain.step(drawn), step(drawn)
        assert all(torch.equal(expected[key], found[key]) for key in expected)
        assert equal(plain, replayed)


def test_a_recorded_graph_is_given_every_draw_through_the_same_tensors():
    """What a CUDA graph needs: where it reads never moves, what is there changes; two replays differ."""
    learner = MAKE["diffuse"](SEEDS)
    seen = []

    def watched(drawn):
        seen.append({name: (value.data_ptr(), value.sum().item()) for name, value in drawn.items()})
        return learner.step(drawn)

    step = Replay(watched, learner.state, recorder)
    for drawn in islice(draws(learner, "diffuse", SEEDS, CPU), 3):
        step(drawn)
    assert all(len({call[name][0] for call in seen}) == 1 for name in seen[0])
    assert len({call["eps"][1] for call in seen[-3:]}) == 3


def test_nothing_that_changes_from_step_to_step_is_hidden_from_a_recording():
    """Of the toys: the rate falls and the average's weight too, although no number of them is drawn."""
    learner = toy_learner(SEEDS)
    step = Replay(learner.step, learner.state, recorder)
    rates = []
    for drawn in islice(draws(learner, "toy", SEEDS, CPU), TOY.steps):
        step(drawn)
        rates.append(learner.adam.rate.item())
    assert learner.adam.done == TOY.steps
    assert rates[0] == 0
    assert max(rates) == pytest.approx(TOY.lr, rel=0.05)
    assert rates[-1] < 0.01 * TOY.lr


# -- compiled steps ----------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("name", RECORDED)
def test_what_a_gpu_runs_by_default_is_the_step_within_rounding(name):
    """Compiled and captured, eight steps; on a CPU the compiled ones are another test's."""
    plain, fast = RECORDED[name](SEEDS, CUDA), RECORDED[name](SEEDS, CUDA)
    step = runner(fast.step, fast.state, "compiled", CUDA)
    for drawn in islice(draws(plain, name, SEEDS, CUDA), 8):
        plain.step(drawn)
        step(drawn)
    state = fast.state()
    for key, value in plain.state().items():
        torch.testing.assert_close(state[key], value, rtol=1e-3, atol=1e-4)


def slowly(names):
    """All but the critic among the slow tests: compiling takes a while."""
    return [name if name == "critic" else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", slowly(RECORDED))
def test_a_compiled_step_is_the_step_and_resumes_to_the_bit(name, tmp_path):
    if why := execution.uncompilable("cpu"):
        pytest.skip(why)

    def fit(learner, work, mode="compiled"):
        learner.chunk = 10
        how = {"work": tmp_path / work, "device": CPU, "mode": mode, "checkpoint_every": 0}
        train(learner, name=name, seeds=SEEDS, steps=20, **how)
        return learner

    eager, compiled = RECORDED[name](SEEDS), RECORDED[name](SEEDS)
    step = runner(compiled.step, compiled.state, "compiled", CPU)
    for drawn in islice(draws(eager, name, SEEDS, CPU), 2):
        with products("fp32", "compiled"):
            eager.step(drawn)
            step(drawn)
    assert apart(compiled, eager) < 1e-3

    whole, eager = fit(RECORDED[name](SEEDS), "whole"), fit(RECORDED[name](SEEDS), "eager", "eager")
    for key, value in eager.state().items() if name != "trajectories" else ():  # where rounding grows from step to step
        torch.testing.assert_close(whole.state()[key], value, rtol=1e-3, atol=1e-4)
    cut = RECORDED[name](SEEDS)
    draw, chunks = cut.draw, iter(range(2))

    def once(streams):
        if next(chunks):
            raise Interrupted("between two chunks")
        return draw(streams)

    cut.draw = once
    with pytest.raises(Interrupted):
        fit(cut, "cut")
    with pytest.raises(InputError, match="begun with --mode compiled, not eager"):
        fit(RECORDED[name](SEEDS), "cut", "eager")
    assert equal(whole, fit(RECORDED[name](SEEDS), "cut"))


@pytest.mark.slow  # compiling takes a while
@pytest.mark.parametrize("name", ["critic", "diffuse"])
def test_a_compiled_step_with_rounded_factors_is_recorded_without_compiling_anew(name, monkeypatch):
    """What CUDA runs by default, with a stand-in for its products and its graph."""
    monkeypatch.setattr(batched, "_device", lambda x: "cuda")

    def graph(function):
        for _ in range(5):
            function()

        def replay():
            with torch._dynamo.config.patch(error_on_recompile=True):
                function()

        return replay

    plain, replayed = MAKE[name](SEEDS), MAKE[name](SEEDS)
    compiled = torch.compile(replayed.step, dynamic=False, options={"emulate_precision_casts": True})
    step = Replay(compiled, replayed.state, graph)
    with batched.rounded("cuda"):
        for drawn in islice(draws(plain, name, SEEDS, CPU), 4):
            plain.step(drawn)
            step(drawn)
    assert apart(replayed, plain) < 0.05


@pytest.mark.slow  # compiling takes a while
def test_whether_anything_compiles_is_tried(monkeypatch):
    assert execution.uncompilable.__wrapped__("cpu") is None

    def fails(*args, **options):
        raise torch._dynamo.exc.TorchDynamoException("no compiler\nSet TORCHDYNAMO_VERBOSE=1")

    monkeypatch.setattr(torch, "compile", fails)
    assert execution.uncompilable.__wrapped__("cpu") == "no compiler"


def test_a_step_is_tried_more_often_before_it_is_recorded_where_it_is_compiled():
    trials = {mode: execution.recorder(mode, torch.device("cuda")) for mode in ("eager", "graph", "compiled")}
    assert trials["eager"] is None
    assert [trials[mode].keywords["trials"] for mode in ("graph", "compiled")] == [3, 5]
    assert all(execution.recorder(mode, CPU) is None for mode in ("eager", "compiled"))


def test_nothing_is_timed_by_the_compiler_on_cuda_and_a_cpu_is_as_it_was():
    assert execution._options(torch.device("cuda")) == {"options": {"deterministic": True}}
    torch.compile(lambda x: x, **execution._options(torch.device("cuda")))  # raises for an option that it lacks
    assert execution._options(CPU) == {}


# -- precision ---------------------------------------------------------------------------------------------------------


def test_products_are_rounded_inside_and_exact_again_after():
    assert torch.get_float32_matmul_precision() == "highest"
    for name, kinds in (("bf16", ("medium", "high")), ("tf32", ("high",)), ("fp32", ("highest", "medium"))):
        with products(name):
            assert torch.get_float32_matmul_precision() in kinds
    with pytest.raises(ZeroDivisionError), products("bf16"):
        _ = 1 / 0
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_program_with_pytorchs_other_switch_is_told_so():
    before = torch.backends.cuda.matmul.fp32_precision
    try:
        torch.backends.cuda.matmul.fp32_precision = "tf32"
        with pytest.raises(UsageError, match="fp32_precision"), products("bf16"):
            pass
    finally:
        torch.backends.cuda.matmul.fp32_precision = before
    with products("bf16"):
        pass


@pytest.mark.parametrize("card", [True, False])
@pytest.mark.parametrize("processor", [True, False])
@pytest.mark.parametrize("fast", [True, False])
def test_bf16_rounds_further_than_pytorch_where_the_hardware_has_such_products(card, processor, fast, monkeypatch):
    """On CUDA in what is compiled alone; on a processor in every mode, where PyTorch's switch then has no use."""
    monkeypatch.setattr(execution, "_has_fast_fp32", lambda: fast)
    monkeypatch.setattr(execution, "_has_bf16", lambda: card)
    monkeypatch.setattr(execution, "_has_bf16_factors", lambda: processor)
    for name in PRECISIONS:
        for mode in ("eager", "graph", "compiled"):
            bf16 = name == "bf16"
            with products(name, mode):
                assert ("cuda" in batched._rounds) == (bf16 and card and mode == "compiled")
                assert ("cpu" in batched._rounds) == (bf16 and processor)
                some_fp32 = name == "fp32" or (bf16 and processor)
                coarse = (bf16 and not processor) or (some_fp32 and fast)
                assert (torch.get_float32_matmul_precision() == "medium") == coarse
    with products("bf16", "compiled"), products("fp32"):
        assert not batched._rounds


@pytest.mark.parametrize(
    ("has", "level", "limit", "answer"),
    [
        ({"avx512_bf16": True}, "AVX512", None, True),
        ({"avx512_bf16": True}, "AVX2", None, False),
        ({"avx512_bf16": True}, "AVX512", "AVX2", False),
        ({"avx512_bf16": True, "amx_bf16": True}, "AVX512", None, False),
        ({"avx512_bf16": False}, "AVX512", None, False),
        ({}, "DEFAULT", None, False),
    ],
)
def test_factors_are_rounded_here_only_where_pytorch_does_not(has, level, limit, answer, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    if limit:
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert execution._has_bf16_factors.__wrapped__() is answer


@pytest.mark.parametrize("card", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_pytorchs_switch_chooses_a_faster_product_only_where_it_rounds_nothing(card, exact, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: card)
    monkeypatch.setattr(execution, "_survives", lambda bits, device: exact)
    before = torch.get_float32_matmul_precision()
    assert execution._has_fast_fp32.__wrapped__() == (exact and not card)
    assert torch.get_float32_matmul_precision() == before


def test_the_choice_of_a_product_does_not_depend_on_the_block_that_asks_first():
    with batched.rounded("cpu"):
        inside = execution._has_fast_fp32.__wrapped__()
    assert inside == execution._has_fast_fp32.__wrapped__()


def test_bf16_rounds_factors_to_eight_bits_and_sums_in_fp32():
    x, y = (torch.randn(64, 4096, generator=torch.Generator().manual_seed(i)) for i in (0, 1))
    exact = x.double() @ y.double().T
    rounded = x.bfloat16().double() @ y.bfloat16().double().T
    with products("bf16"):
        found = (x @ y.T).double()
    here = (rounded - exact).abs().max()
    # processors without bf16 products give exact ones
    assert min((found - rounded).abs().max(), (found - exact).abs().max()) < here / 50


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(5, 39, 6), (8, 16, 24), (3, 17, 1), (2, 1, 9)])
def test_the_products_of_rounded_factors_have_any_size(rows, inputs, outputs, monkeypatch):
    """A product and its two gradients, as a GPU would compute them, beside those in double precision."""
    monkeypatch.setattr(batched, "_device", lambda x: "cuda")
    source = torch.Generator().manual_seed(0)
    x, y, of = (
        torch.randn(2, *size, generator=source) for size in ((rows, inputs), (inputs, outputs), (rows, outputs))
    )
    with batched.rounded("cuda"):
        z = batched.bmm(x.requires_grad_(), y.requires_grad_())
        gradients = torch.autograd.grad(z, (x, y), of)
    x, y, of = (value.detach().bfloat16().double() for value in (x, y, of))
    for found, exact in zip((z, *gradients), (x @ y, of @ y.mT, x.mT @ of), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found.double(), exact, rtol=1e-5, atol=1e-5)


# -- choosing ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", pytest.param(str(CUDA), marks=pytest.mark.cuda)])
def test_what_runs_is_what_the_processor_has(device):
    """A random product is coarser than fp32's exactly where `effective` says that something else runs."""
    x = torch.rand(512, 512, generator=torch.Generator().manual_seed(0)).to(device)
    exact = x.double() @ x.double()
    for precision in PRECISIONS:
        with products(precision):
            error = ((batched.bmm(x[None], x[None])[0] - exact).abs().max() / exact.max()).item()
        assert (error > 1e-5) == (effective(precision, device) != "fp32"), precision
    assert effective("fp32", device) == "fp32"


def test_the_mode_is_the_devices(monkeypatch, capsys):
    """What trains is compiled, on a CPU if it trains for long, unless a trial on the very device shows that it cannot
    be."""
    tried = []
    monkeypatch.setattr(execution, "uncompilable", lambda device: tried.append(device))
    assert [pick_mode("auto", device, 1) for device in ("cpu", "cuda", "cuda:1")] == ["eager", "compiled", "compiled"]
    assert [pick_mode("auto", device) for device in ("cpu", "cuda")] == ["eager", "graph"]
    assert tried == ["cuda", "cuda:1"]
    assert [pick_mode("auto", "cpu", steps) for steps in (COMPILES_FROM - 1, COMPILES_FROM)] == ["eager", "compiled"]
    assert not capsys.readouterr().err
    for device, other, why in (("cuda", "graph", "no Triton"), ("cpu", "eager", "no compiler")):
        monkeypatch.setattr(execution, "uncompilable", lambda device, why=why: why)
        assert pick_mode("auto", device, COMPILES_FROM) == other
        assert f"--mode {other}, since torch.compile does not work on {device}: {why}" in capsys.readouterr().err
    assert pick_mode("compiled", "cpu") == "compiled"
    for name, message in (("graph", "needs CUDA"), ("compile", "did you mean 'compiled'")):
        with pytest.raises(UsageError, match=message):
            pick_mode(name, "cpu")


def test_only_a_device_with_graphs_replays():
    learner = critic_learner(SEEDS)
    assert runner(learner.step, learner.state, "eager", CPU) == learner.step
    assert isinstance(runner(learner.step, learner.state, "graph", torch.device("cuda")), Replay)


@pytest.mark.slow  # eight minutes on two cores
def test_scores_do_not_suffer_from_the_default_precision():
    """The demo, shortened, with five seeds: returns of bf16 and fp32 differ by less than seeds do.

    Seen with the demo's own steps: 3,117 [2,935, 3,281] with bf16, 3,006 [2,610, 3,287] with fp32 (SWG-R).
    """
    found = {}
    for precision in ("bf16", "fp32"):
        told = [f"--set={stage}.precision={precision}" for stage in ("critic", "diffuse", "eval")]
        short = ("--set", "critic.steps=8000", "--set", "diffuse.steps=2000", "--rho", "5", "--resample", "8")
        answer = swgctl("run", "demo", "--seeds", "0-4", *told, *short, "--episodes", "4", "--json")
        (found[precision],) = answer.json["metrics"]["cells"]
    low, high = found["fp32"]["return_ci95"]
    assert found["bf16"]["return_mean"] > low - (high - low) / 2
