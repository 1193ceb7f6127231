"""What a GPU is asked in its first ten minutes, beside what arithmetic predicts; and the paper's protocol, timed.

python -m swgctl.bench.gpu [--device cuda] [--folder DIR]
    the tests that need a GPU; training steps and the kernels of one; a run that is killed and resumed
python -m swgctl.bench.gpu protocol [DATA] [--device cuda] [--folder DIR]
    five seeds, a million steps each of critic and diffusion, 35 cells; the same command goes on after a stop

DATA is a task's name or a file of HalfCheetah-v4; without it, noise of its shape.  With --device cpu both are tiny, and
show that the script works.  Each row is also an object on stdout.  Exit 1 where anything failed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from swgctl import console, signals
from swgctl.bench import SWEEP
from swgctl.bench.cases import ENVIRONMENT, SETTINGS, training_case, transitions
from swgctl.bench.measure import Case, device_name, step_seconds, wait, warm_up
from swgctl.bench.work import CHEETAH_A, CHEETAH_O
from swgctl.console import say
from swgctl.errors import CompileError, SwgError
from swgctl.files import CHECKPOINT, new_hdf5
from swgctl.tasks.layout import ROLLED_OUT, Writer
from swgctl.training.execution import pick_device

# By arithmetic for one H100: steps a second by (learner, mode, seeds), captured steps with TF32 products, compiled ones
# with the bias added apart and, of diffusion, bf16 factors; kernels of a step; minutes.
STEPS_PER_S = {
    ("critic", "graph", 1): 4260,
    ("critic", "graph", 5): 4020,
    ("critic", "compiled", 1): 6240,
    ("critic", "compiled", 5): 5730,
    ("diffuse", "graph", 1): 1700,
    ("diffuse", "graph", 5): 1040,
    ("diffuse", "compiled", 1): 2560,
    ("diffuse", "compiled", 5): 1560,
}
KERNELS = {("critic", "graph"): 97, ("critic", "compiled"): 53, ("diffuse", "graph"): 179, ("diffuse", "compiled"): 87}
MINUTES = {"critic": "2.9", "augment": "", "diffuse": "10.3-11", "eval": "0.6-0.8"}
PRECISION = {"graph": "tf32", "compiled": "bf16", "eager": "fp32"}  # in which a mode is measured
REPEATS = 3
EPISODE = 500  # rows of an episode of noise


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is run; the defaults are the paper's.

    settings  of critic and diffuse, beside their steps
    resumed   steps of critic and diffuse in the run that is killed
    every     seconds between its checkpoints
    """

    modes: tuple[str, ...] = ("graph", "compiled")
    seeds: int = 5
    rows: int = 1_000_000
    environment: str = ENVIRONMENT
    dims: tuple[int, int] = (CHEETAH_O, CHEETAH_A)
    settings: dict[str, dict] = field(default_factory=lambda: {"critic": {}, "diffuse": {}})
    resumed: tuple[int, int] = (20_000, 10_000)
    every: float = 0.5
    steps: tuple[int, int] = (1_000_000, 1_000_000)
    cells: dict = field(
        default_factory=lambda: {"rho": SWEEP[0], "resample": SWEEP[1], "temperature": 1, "episodes": 20}
    )


TINY = Sizes(
    modes=("eager",),
    seeds=2,
    rows=2_000,
    environment="Pendulum-v1",
    dims=(3, 1),
    settings={"critic": {"hidden": [16], "batch": 32}, "diffuse": {"width": 16, "batch": 32, "K": 3}},
    resumed=(60, 40),
    every=0,
    steps=(100, 60),
    cells={"rho": [1, 5], "resample": [1, 2], "temperature": 1, "episodes": 1},
)


# -- training steps ----------------------------------------------------------------------------------------------------


def rates(sizes: Sizes, device: torch.device) -> Iterator[dict]:
    """A row for each learner, mode and number of seeds: steps_per_s and kernels, with the arithmetic's.

    A mode that does not compile has an `error`.
    """
    cases = [(what, mode, n) for what in SETTINGS for mode in sizes.modes for n in (1, sizes.seeds)]
    for what, mode, seeds in cases:
        row = {"what": what, "mode": mode, "seeds": seeds, "precision": PRECISION[mode], "device": device_name(device)}
        settings = SETTINGS[what](**sizes.settings[what])
        case = training_case(what, settings, seeds, mode, PRECISION[mode], device, min(sizes.rows, 100_000))
        try:
            n = warm_up(case, device, REPEATS, 0.5)
        except CompileError as error:
            yield row | {"error": str(error)}
            continue
        rate = 1 / statistics.median(step_seconds(case, n, device) for _ in range(REPEATS))
        predicted = {"steps_per_s": STEPS_PER_S.get((what, mode, seeds)), "kernels": KERNELS.get((what, mode))}
        yield row | {"steps_per_s": rate, "kernels": kernels(case, device), "arithmetic": predicted}


def kernels(case: Case, device: torch.device) -> int | None:
    """Number of kernels that a step runs on a CUDA device; None elsewhere."""
    if device.type != "cuda":
        return None
    with torch.profiler.profile() as profile:
        case.run(1)
        wait(device)
    on_device = [event.name for event in profile.events() or () if event.device_type == torch.autograd.DeviceType.CUDA]
    return sum(not name.startswith(("Memcpy", "Memset")) for name in on_device)


def print_rates(rows: list[dict]) -> None:
    columns = ["learner", "mode", "precision", "seeds", "steps/s", "arithmetic", "of it", "kernels", "arithmetic"]
    lines = []
    for row in rows:
        labels = [row["what"], row["mode"], row["precision"], str(row["seeds"])]
        if "error" in row:
            lines.append([*labels, "does not compile", *[""] * 4])
            continue
        rate, wanted = row["steps_per_s"], row["arithmetic"]
        share = f"{rate / wanted['steps_per_s']:.0%}" if wanted["steps_per_s"] else ""
        numbers = [wanted["steps_per_s"], share, row["kernels"], wanted["kernels"]]
        lines.append([*labels, f"{rate:,.0f}", *("" if number is None else str(number) for number in numbers)])
    console.table(f"training steps on {rows[0]['device']}", columns, lines)


# -- commands in processes of their own --------------------------------------------------------------------------------


def noise(path: Path, sizes: Sizes) -> Path:
    """A data set of noise in D4RL's layout, written unless it is there."""
    if not path.exists():
        data, draft = transitions(sizes.rows, *sizes.dims), path.with_suffix(".part")
        data.timeouts[EPISODE - 1 :: EPISODE] = True  # rewards may be scaled by the range of returns
        draft.unlink(missing_ok=True)
        with new_hdf5(draft) as file:
            writer = Writer(file, ROLLED_OUT)
            for name in ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts"):
                writer.put(name, getattr(data, name))
        draft.rename(path)
    return path


def start(
    folder: Path, store: str, data: str, sizes: Sizes, steps: tuple[int, int], device: str, *words: str, quiet: bool
) -> subprocess.Popen:
    """A process of `swgctl run` on the data, with these steps of critic and diffuse."""
    settings = {name: chosen | {"steps": n} for (name, chosen), n in zip(sizes.settings.items(), steps, strict=True)}
    recipe = folder / f"{store}.yaml"
    recipe.write_text(yaml.safe_dump({"about": "bench.gpu", **settings, "eval": sizes.cells}))
    environment = ["--env", sizes.environment] if data.endswith(".hdf5") else []
    command = [sys.executable, "-m", "swgctl", "run", data, *environment, "--seeds", f"0-{sizes.seeds - 1}", *words]
    command += ["--recipe", str(recipe), "--device", device, "--store", str(folder / store), "--json"]
    variables = {"SWGCTL_CHECKPOINT_EVERY": str(sizes.every)} if quiet else {}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=open(folder / f"{store}.log", "a") if quiet else None,
        env=os.environ | {"SWGCTL_SCOPE": "bench"} | variables,
    )


def ended(process: subprocess.Popen) -> int:
    """Its exit code.  If this process is stopped first, that one is, too, and writes its checkpoint."""
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def records(store: Path) -> dict[str, dict]:
    """The records of a store's artifacts by stage."""
    written = [json.loads(path.read_text()) for path in store.glob("objects/**/artifact.json")]
    return {record["stage"]: record for record in written}


def resume(sizes: Sizes, folder: Path, device: str, mode: str = "auto") -> dict:
    """Train critic and diffusion twice: undisturbed, and killed at a checkpoint of each, in other processes.

    The row's `equal` says of each stage whether both have the same content; `killed` how often the second was.
    """
    data = str(noise(folder / "resume.hdf5", sizes))

    def begin(store: str) -> subprocess.Popen:
        words = "--until", "diffuse", "--mode", mode
        return start(folder, store, data, sizes, sizes.resumed, device, *words, quiet=True)

    started = time.monotonic()
    names = [f"{mode}-whole", f"{mode}-cut"]
    codes = [ended(begin(names[0]))]
    unfinished, seen = folder / names[1] / "work", set[str]()
    for _ in SETTINGS:
        process = begin(names[1])
        while process.poll() is None:
            fresh = {path.parent.name for path in unfinished.glob(f"*/{CHECKPOINT}")} - seen
            if fresh:
                process.kill()
                process.wait()
                seen |= fresh
            time.sleep(0.005)
    codes.append(ended(begin(names[1])))
    whole, cut = (records(folder / name) for name in names)
    equal = {one: one in whole and one in cut and whole[one]["digest"] == cut[one]["digest"] for one in SETTINGS}
    ran = whole["critic"]["made"]["mode"] if "critic" in whole else None
    seconds = round(time.monotonic() - started, 1)
    return {"what": "resume", "mode": ran, "killed": len(seen), "codes": codes, "equal": equal, "seconds": seconds}


def tests(tiny: bool) -> int | None:
    """Exit code of the tests that need a GPU, but for those of a killed run, which `resume` is; None where this is no
    checkout."""
    folder = Path(__file__).parents[2] / "tests"
    if not folder.is_dir():
        return None
    where = folder / "training/test_execution.py" if tiny else folder
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-k", "not killed", str(where)]
    return subprocess.run(command, cwd=folder.parent, stdout=2).returncode


# -- both scripts ------------------------------------------------------------------------------------------------------


def check(sizes: Sizes, folder: Path, device: str) -> bool:
    """Run everything that takes minutes; returns whether it was as it should be."""
    code = tests(sizes is TINY)
    say("the tests are not beside the package" if code is None else f"tests marked cuda: exit {code}")
    rows = []
    for row in rates(sizes, torch.device(device)):
        print(json.dumps(row), flush=True)
        rows.append(row)
    print_rates(rows)
    whole = True
    for mode in sizes.modes:
        row = resume(sizes, folder, device, mode)
        print(json.dumps(row), flush=True)
        same = row["killed"] == len(SETTINGS) and all(row["equal"].values()) and not any(row["codes"])
        verdict = "the same bytes" if same else "NOT THE SAME"
        say(f"killed {row['killed']} times and resumed, mode {row['mode']}: {verdict}")
        whole = whole and same
    return code in (None, 0) and whole and not any("error" in row for row in rows)


def protocol(data: str | None, sizes: Sizes, folder: Path, device: str) -> bool:
    """Run the paper's protocol, or go on with it, and print the minutes of its stages; returns whether it ended."""
    chosen = data or str(noise(folder / "protocol.hdf5", sizes))
    started = time.monotonic()
    code = ended(start(folder, "protocol", chosen, sizes, sizes.steps, device, quiet=False))
    now = (time.monotonic() - started) / 60
    if code:
        say(f"stopped after {now:.1f} minutes, exit {code}: the same command goes on")
        return False
    minutes = {stage: _seconds(record, folder) / 60 for stage, record in records(folder / "protocol").items()}
    lines = [[stage, f"{minutes[stage]:.1f}", wanted] for stage, wanted in MINUTES.items() if stage in minutes]
    where = device_name(torch.device(device))
    console.table(f"the protocol, {sizes.seeds} seeds, on {where}", ["stage", "minutes", "arithmetic, H100"], lines)
    print(json.dumps({"what": "protocol", "device": where, "minutes": minutes, "wall_minutes": now}))
    say(f"wall time: {now:.1f} minutes in this process, {sum(minutes.values()):.1f} in all stages")
    return True


def _seconds(record: dict, folder: Path) -> float:
    """Seconds of a stage: of the process that ended it, or of all its training steps, those before a stop included."""
    trained = [0.0]
    for path in folder.glob(f"protocol/objects/**/{record['key'][:16]}/metrics.jsonl"):
        trained += [json.loads(line)["train_s"] for line in path.read_text().splitlines()[-1:]]
    return max(record["wall_s"], *trained)


def main(arguments: list[str] | None = None) -> int:
    """Exit code of the script."""
    parser = argparse.ArgumentParser("python -m swgctl.bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("what", nargs="?", choices=("check", "protocol"), default="check")
    parser.add_argument("data", nargs="?", help="of protocol: a task, or a file of HalfCheetah-v4")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--folder", type=Path, default=Path("swg-bench"), help="stores and data are put there")
    given = parser.parse_args(arguments)
    try:
        device = pick_device(given.device)
        given.folder.mkdir(parents=True, exist_ok=True)
        sizes, folder = TINY if device == "cpu" else Sizes(), given.folder.resolve()
        with signals.handled():
            whole = (
                check(sizes, folder, device) if given.what == "check" else protocol(given.data, sizes, folder, device)
            )
        return 0 if whole else 1
    except SwgError as error:
        say(f"error: {error}\nhelp: {error.help}")
        return error.code


if __name__ == "__main__":
    sys.exit(main())
