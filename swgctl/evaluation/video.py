"""Episodes of a policy as pictures: the same starts and the same noise as in its evaluation.

MuJoCo draws by OpenGL, which needs a display, or EGL or OSMesa without one.  imageio-ffmpeg brings the encoder.
"""

import importlib
import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from swgctl import config, tasks
from swgctl.config import EVAL, EvalSettings, a
from swgctl.console import progress, quoted, say
from swgctl.errors import InputError, SwgError, UsageError
from swgctl.evaluation.rollout import Batch, reset_seed
from swgctl.files import write_atomically
from swgctl.policies.agent import load_agent
from swgctl.policies.diffusion import assemble
from swgctl.policies.policy import Cell, Policy
from swgctl.seeds import ranges
from swgctl.store import Artifact, Store, remote
from swgctl.tasks import Task, environments
from swgctl.tasks.spaces import box
from swgctl.training.execution import pick_device, products

POLICIES = ("diffuse", "behaviour", "guide", "agent")
HEADLESS = ("egl", "osmesa")  # values of $MUJOCO_GL that need no display, the faster one first
PROBE = "import importlib, sys; importlib.import_module(f'mujoco.{sys.argv[1]}').GLContext(16, 16).make_current()"
FPS = 30.0  # pictures a second at most: a faster environment shows every n-th step; also where it names no rate


@dataclass(frozen=True)
class Choice:
    """What to show; None: as the evaluation or the recipe has it.

    rho, candidates, temperature  of several values, the greatest
    seed  that of the policy's member; None: the first
    """

    rho: float | None = None
    candidates: int | None = None
    temperature: float | None = None
    seed: int | None = None
    episodes: int = 1


def record(
    store: Store,
    ref: str,
    choice: Choice,
    out: str | None = None,
    device: str = "auto",
    environment: str | None = None,
) -> Path:
    """Play episodes of a policy, or of the policy of an evaluation, and write them as .mp4 and the first frame as .png.

    out          the .mp4; None: in the plots/ of the store
    environment  that of the record, whose module it allows to be imported
    Returns the absolute path.  Raises UsageError, InputError, CorruptError, and SwgError where a frame or the file
    cannot be made.
    """
    if out is not None and Path(out).suffix != ".mp4":
        raise UsageError(f"'{out}' is not a .mp4", "--out episode.mp4")
    check_package()
    artifact = remote.resolve(store, ref)
    source, settings = _source(artifact)
    task = Task.from_json(source.meta["task"])
    tasks.trust(task, environment)
    seed = source.seeds[0] if choice.seed is None else choice.seed
    if seed not in source.seeds:
        raise UsageError(f"{source.id} has the seeds {ranges(source.seeds)}, not {seed}", f"--seed {source.seeds[0]}")
    cell = {} if source.stage == "agent" else _cell(settings, choice, *_chosen_by(source))
    policy = _policy(artifact, source, settings, cell, pick_device(device))
    name = "-".join(
        ["video", task.name, source.id, *(f"{key}_{value:g}" for key, value in cell.items()), f"seed_{seed}"]
    )
    path = store.root / "plots" / f"{name}.mp4" if out is None else Path(out)
    still = path.with_suffix(".png")
    with closing(open_environment(task.environment)) as world, products(settings.precision):
        rate = float(world.metadata.get("render_fps") or FPS)
        stride = math.ceil(rate / FPS)
        frames = play(policy, task, world, cell, source.seeds.index(seed), choice.episodes, settings.seed, stride)
        first = next(frames)
        for file, write in (
            (still, lambda draft: save(first, draft)),
            (path, lambda draft: encode(first, frames, draft, rate / stride)),
        ):
            try:
                write_atomically(file, write)
            except OSError as error:
                raise SwgError(f"{file} cannot be written: {error}", f"add --out {quoted(path.name)}") from None
    say(f"its first frame: {still.absolute()}")
    return path.absolute()


# -- the policy --------------------------------------------------------------------------------------------------------


def _source(artifact: Artifact) -> tuple[Artifact, EvalSettings]:
    """The policy of an artifact, and how an evaluation runs it: by its own settings, else by its task's recipe."""
    if artifact.stage == "eval":
        role = EVAL.filled(artifact.meta["inputs"])
        assert role
        fields = {name: value for name, value in artifact.params.items() if name in EvalSettings.model_fields}
        return artifact.parent(role), EvalSettings(**fields)
    if artifact.stage not in POLICIES:
        raise InputError(f"{artifact.id} is {a(artifact.stage)}, which does not act", "swgctl ls --stage diffuse")
    task = artifact.meta["task"]
    return artifact, config.resolve(task["name"], task["recipe"]).of(EVAL)


def _chosen_by(source: Artifact) -> tuple[bool, bool]:
    """Whether something guides a policy, and whether something ranks its candidates."""
    if source.stage == "guide":
        return bool(config.method_named(source.params["method"]).guidance), True
    return (source.stage == "diffuse",) * 2


def _cell(settings: EvalSettings, choice: Choice, guided: bool, ranked: bool) -> Cell:
    """What a choice leaves open is as the settings have it, but for what nothing guides or ranks: unguided, or one
    sample.  Raises UsageError for values that no evaluation takes."""
    usual = max(settings.rho) if guided else 0.0, max(settings.resample) if ranked else 1
    cell = {
        "rho": usual[0] if choice.rho is None else choice.rho,
        "candidates": usual[1] if choice.candidates is None else choice.candidates,
        "temperature": max(settings.temperature) if choice.temperature is None else choice.temperature,
    }
    for name, least, flag in (("rho", 0, "rho"), ("candidates", 1, "resample"), ("temperature", 0, "temperature")):
        if not least <= cell[name] < float("inf"):
            raise UsageError(f"--{flag} {cell[name]:g}: at least {least}", f"swgctl video REF --{flag} {least}")
    if cell["temperature"] == 0:
        cell["candidates"] = 1  # all would be equal
    return cell


def _policy(artifact: Artifact, source: Artifact, settings: EvalSettings, cell: Cell, device: str) -> Policy:
    if source.stage == "agent":
        return load_agent(source, device)
    if artifact.stage == "eval" and "critic" in artifact.meta["inputs"]:
        critic: Artifact | None = artifact.parent("critic")
    else:
        critic = source.ancestors().get("critic") if cell["candidates"] > 1 and settings.select != "self" else None
    policy = assemble(source, critic, settings, device)
    if cell["candidates"] > 1 and not policy.ranks:
        raise UsageError(f"nothing ranks candidates of {source.id}", f"swgctl video {artifact.id} --resample 1")
    if policy.guide is None and cell["rho"] > 0:
        raise UsageError(f"nothing guides {source.id}", f"swgctl video {artifact.id} --rho 0")
    return policy


# -- episodes ----------------------------------------------------------------------------------------------------------


def play(
    policy: Policy, task: Task, world: Any, cell: Cell, member: int, episodes: int, base: int, stride: int = 1
) -> Iterator[np.ndarray]:
    """The frames (height, width, 3) uint8 of a member's episodes: the start, every `stride`-th step, the end.

    Starts and noise are those of `rollout.roll_out` with the same `base`.  Says the return of each episode.
    """
    assert task.horizon is not None
    space, seed = box(world.action_space), policy.seeds[member]
    with progress("video", episodes * task.horizon, "steps") as bar:
        for episode in range(episodes):
            batch = Batch(policy, [cell], episodes, base, np.array([episode]))
            observation, _ = world.reset(seed=reset_seed(base, seed, episode))
            yield frame(world)
            total, step, ended = 0.0, 0, False
            while not ended and step < task.horizon:
                seen = np.broadcast_to(np.float32(observation), (len(policy.seeds), 1, len(observation)))
                actions, _ = batch.propose(seen.copy(), step)
                action = environments.rescale(actions[member, 0], space.low, space.high)
                observation, reward, terminated, truncated, _ = world.step(action)
                total, step, ended = total + float(reward), step + 1, terminated or truncated
                bar.update(episode * task.horizon + step)
                if step % stride == 0 or ended or step == task.horizon:
                    yield frame(world)
            say(f"video: seed {seed}, episode {episode}: return {total:,.2f} in {step:,} steps")


# -- pictures ----------------------------------------------------------------------------------------------------------


def open_environment(environment: str) -> Any:
    """An environment that can draw.  Raises InputError where this machine cannot, or the environment does not."""
    world = environments.make(environment)
    inner: Any = world.unwrapped
    inner.render_mode = "rgb_array"
    if hasattr(inner, "mujoco_renderer"):
        choose_opengl()
        _aim(inner)
    return world


def _aim(inner: Any) -> None:
    """Show all of a maze; else follow the body, where the model has a camera that does, which gymnasium leaves out."""
    import mujoco

    renderer, model = inner.mujoco_renderer, inner.model
    if hasattr(inner, "maze"):
        walls = model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
        low = (model.geom_pos - model.geom_size)[walls].min(0)
        high = (model.geom_pos + model.geom_size)[walls].max(0)
        centre, distance = (low + high) / 2, 1.6 * (high - low).max()
        renderer.default_cam_config = {"lookat": centre, "distance": distance, "azimuth": 90.0, "elevation": -60.0}
    elif (camera := mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")) >= 0:
        renderer.camera_id = camera


def frame(world: Any) -> np.ndarray:
    """The picture of an environment's state.  Raises InputError where there is none."""
    try:
        picture = world.unwrapped.render()
    except Exception as error:  # of OpenGL, pygame or the environment
        simulated = hasattr(world.unwrapped, "mujoco_renderer")
        help = "MUJOCO_GL=egl   # or osmesa; glfw with a display" if simulated else "install what it names"
        raise InputError(f"{world.spec.id} cannot be drawn: {' '.join(str(error).split())}", help) from None
    if not (isinstance(picture, np.ndarray) and picture.ndim == 3 and picture.shape[2] == 3):
        raise InputError(f"{world.spec.id} draws no pictures", "another environment")
    return np.ascontiguousarray(picture, np.uint8)


def choose_opengl() -> None:
    """Set $MUJOCO_GL to the first of HEADLESS that works, where nothing is set and there is no display.

    Each is tried in a process of its own: one that fails leaves OpenGL unusable.  Raises InputError where none works.
    """
    if os.environ.get("MUJOCO_GL") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return
    for name in HEADLESS:
        probe = subprocess.run(
            [sys.executable, "-c", PROBE, name], env=os.environ | {"MUJOCO_GL": name}, capture_output=True
        )
        if probe.returncode == 0:
            os.environ["MUJOCO_GL"] = name
            return
    raise InputError(
        "there is no display, and neither EGL nor OSMesa works here",
        [
            "apt-get install libegl1 libgl1-mesa-dri   # or libosmesa6",
            "xvfb-run swgctl video ...   # or with a display",
        ],
    )


def check_package() -> None:
    """Raise InputError where imageio-ffmpeg is missing."""
    if importlib.util.find_spec("imageio_ffmpeg") is None:
        raise InputError("a video needs the package imageio-ffmpeg, which is missing", "pip install 'swgctl[video]'")


def save(picture: np.ndarray, path: Path) -> None:
    """Write a PNG."""
    from matplotlib.image import imsave

    imsave(path, picture, format="png")


def encode(first: np.ndarray, rest: Iterator[np.ndarray], path: Path, fps: float) -> None:
    """Write frames as H.264, one at a time.  Raises OSError where the encoder fails."""
    ffmpeg = importlib.import_module("imageio_ffmpeg")
    height, width = first.shape[:2]
    writer = ffmpeg.write_frames(
        str(path),
        (width, height),
        fps=fps,
        macro_block_size=2,  # H.264 wants even sizes
        output_params=["-f", "mp4", "-movflags", "+faststart"],
        ffmpeg_log_level="error",
    )
    with closing(writer):
        writer.send(None)
        writer.send(first)
        for picture in rest:
            writer.send(picture)
