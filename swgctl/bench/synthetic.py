"""Rates of the stages of synthetic data at a recipe's sizes: trajectory models, their walks, and agents.

Rows have, beside what `measure` says, `recipe_s`, the seconds that the recipe's steps or set take at this rate.
"""

import itertools
from collections.abc import Iterator
from functools import partial

import torch

from swgctl.bench.cases import ROWS, training_case, windows
from swgctl.bench.measure import Case, measure, modes, precisions
from swgctl.bench.peers.trajectories import PlainTraining
from swgctl.bench.work import CHEETAH_A, CHEETAH_D, CHEETAH_O, trajectories_flop, walk_flop
from swgctl.config import AGENT, SYNTH, TRAJECTORIES, AgentSettings, Resolved, SynthSettings, TrajectoriesSettings
from swgctl.diffusion import Channels
from swgctl.models import Actor, UNet, reset
from swgctl.policies.trajectories import BATCH, TrajectorySampler
from swgctl.randomness import generator

RECIPE = "local"  # whose sizes are measured unless another one is named
ALGOS = ("td3bc", "iql")
GUIDANCES = ("none", "shift", "posterior")
WINDOWS = 64  # of a member, drawn together on a CPU, where more are not faster


def trajectories_table(sizes: Resolved, seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """Training steps of one member and of all; and of as many networks of PyTorch's own layers, one after another.

    `times_plain` is the rate a seed over that of the latter, whose mode is "plain".
    """
    settings = sizes.of(TRAJECTORIES)
    makers = [
        partial(training_case, "trajectories", settings, n, mode, precisions(device)[-1], device)
        for n, mode in itertools.product(dict.fromkeys([1, seeds]), modes(device))
    ]
    rows = list(measure([*makers, partial(plain_case, settings, seeds, device)], device, repeats))
    for row in rows:
        row["times_plain"] = row["seed_steps_per_s"] / rows[-1]["seed_steps_per_s"]
        yield row | {"recipe_s": settings.steps / row["steps_per_s"]}


def agent_table(sizes: Resolved, seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """Training steps of either algorithm, of one member and of all; without the sets that an agent draws."""
    settings = sizes.of(AGENT)
    makers = [
        partial(_agent_case, settings.model_copy(update={"algo": algo}), n, mode, device)
        for algo, n, mode in itertools.product(ALGOS, dict.fromkeys([1, seeds]), modes(device))
    ]
    for row in measure(makers, device, repeats):
        yield row | {"recipe_s": settings.steps / row["steps_per_s"]}


def synth_table(sizes: Resolved, seeds: int, device: torch.device, repeats: int) -> Iterator[dict]:
    """Walks of `levels` levels, unguided and guided; `call_s` is the time of one trajectory and call of the network."""
    model, settings, hidden = sizes.of(TRAJECTORIES), sizes.of(SYNTH), sizes.of(AGENT).hidden
    makers = [partial(walk_case, model, settings, hidden, name, seeds, device) for name in GUIDANCES]
    for row in measure(makers, device, repeats):
        seconds = 1 / (row["seed_steps_per_s"] * row["batch"] * row["levels"])
        whole = seconds * settings.levels * settings.trajectories * seeds
        yield row | {"call_s": seconds / calls(settings, row["guidance"]), "recipe_s": whole}


def calls(settings: SynthSettings, guidance: str) -> int:
    """Calls of the denoiser in a level of the walk: Heun's two, and one for the state at which `shift` takes its
    gradient."""
    return 3 if guidance == "shift" and settings.denoised else 2


# -- cases -------------------------------------------------------------------------------------------------------------


def plain_case(settings: TrajectoriesSettings, seeds: int, device: torch.device, rows: int = ROWS) -> Case:
    """Training steps of networks of PyTorch's own layers, one seed after another."""
    data = windows(rows).to(device)
    trainings = [PlainTraining(data, settings) for _ in range(seeds)]

    def run(n: int) -> None:
        for _ in range(n):
            for one in trainings:
                one.step()

    labels = {"what": "trajectories", "mode": "plain", "batch": settings.batch}
    return Case(labels, seeds, precisions(device)[-1], seeds * trajectories_flop(settings), run)


def _agent_case(settings: AgentSettings, seeds: int, mode: str, device: torch.device) -> Case:
    case = training_case("agent", settings, seeds, mode, precisions(device)[-1], device)
    case.labels["algo"] = settings.algo
    return case


def walk_case(
    model: TrajectoriesSettings,
    settings: SynthSettings,
    hidden: list[int],
    guidance: str,
    seeds: int,
    device: torch.device,
) -> Case:
    """Walks of an untrained trajectory model, guided by an untrained agent of `hidden` layers.

    On CUDA a walk has all of its levels, since a captured step is replayed for all of them; else two.
    """
    captured = device.type == "cuda"
    levels, size = (settings.levels, min(BATCH, settings.trajectories)) if captured else (2, WINDOWS)
    network = UNet(seeds, CHEETAH_D, model.features, model.blocks, model.groups)
    actor = Actor(seeds, CHEETAH_O, CHEETAH_A, hidden, gaussian=False)
    for net in (network, actor):
        reset(net, [generator(seed, "bench/init", 0) for seed in range(seeds)])
        net.to(device).requires_grad_(False)
    channels = Channels(CHEETAH_O, CHEETAH_A, torch.zeros(CHEETAH_D), torch.ones(CHEETAH_D)).to(device)
    sampler = TrajectorySampler(network, channels, model.length)
    guided = guidance != "none"
    changes = {"levels": levels, "scale": 1.0, "guidance": guidance if guided else "shift"}
    walk = settings.model_copy(update=changes)
    act, mode = actor.act if guided else None, "graph" if captured else "eager"

    def sources(stream: str, index: int) -> list[torch.Generator]:
        return [generator(seed, f"bench/{stream}", index, device) for seed in range(seeds)]

    def run(n: int) -> None:
        for _ in range(n):
            sampler.draw(size, walk, act, sources, mode)

    # the posterior asks the agent in both calls; shift at one state
    acts = {"none": 0, "shift": 1, "posterior": 2}[guidance]
    work = seeds * size * levels * walk_flop(model, hidden, calls(settings, guidance), acts)
    labels = {"what": "synth", "mode": mode, "guidance": guidance, "batch": size, "levels": levels}
    return Case(labels, seeds, precisions(device)[-1], work, run)
