"""Videos: the episodes are those of an evaluation, and the pictures those of the environment."""

import contextlib
import csv
import importlib.util
import itertools
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
import torch
from support.harness import swgctl

from swgctl.cli import video as command  # the import registers it
from swgctl.config import EvalSettings
from swgctl.errors import InputError
from swgctl.evaluation import video
from swgctl.evaluation.rollout import roll_out
from swgctl.tasks import Task, environments

gymnasium.register("BriefPendulum-v1", "gymnasium.envs.classic_control:PendulumEnv", max_episode_steps=25)
TASK = Task("test", "BriefPendulum-v1", "file:test", "none", "default", references=None, horizon=25)
encoder = pytest.mark.skipif(
    importlib.util.find_spec("imageio_ffmpeg") is None, reason="not installed: pip install 'swgctl[video]'"
)


class Swing:
    """Each member pushes with the angular velocity, times its seed, plus noise."""

    action_dim, noise_shape, statistics, device = 1, (1, 1), (), torch.device("cpu")

    def __init__(self, seeds):
        self.seeds = seeds

    def prepare(self, cells):
        gain = torch.tensor(self.seeds).view(-1, 1, 1) * torch.tensor([[cell["rho"]] for cell in cells])

        def propose(observations, noise):
            pushed = observations[..., 2:] * gain / 8 + 0.1 * noise((len(self.seeds), len(cells), 1))
            return pushed.clamp(-1, 1), {}

        return propose


def picture(step: int, size: int = 32) -> np.ndarray:
    """Grey, brighter with every step."""
    return np.full((size, size, 3), min(8 * step, 255), np.uint8)


@contextlib.contextmanager
def drawing(environment: str = TASK.environment):
    """An environment whose picture shows the number of steps since the reset."""
    world = environments.make(environment)
    world.unwrapped.render = lambda: picture(world.get_wrapper_attr("_elapsed_steps") or 0)
    yield world
    world.close()


@pytest.fixture
def drawn(monkeypatch):
    """Every environment draws grey pictures."""
    monkeypatch.setattr(video, "open_environment", environments.make)
    monkeypatch.setattr(video, "frame", lambda world: picture(world.get_wrapper_attr("_elapsed_steps") or 0))


# -- episodes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [0, 1])
def test_episodes_are_those_of_an_evaluation(member, capsys):
    policy, cell = Swing([1, 4]), {"rho": 1.5, "candidates": 1, "temperature": 1.0}
    evaluated = roll_out(policy, TASK, [cell], 3, base=5)
    capsys.readouterr()
    with drawing() as world:
        for _ in video.play(policy, TASK, world, cell, member, 3, base=5):
            pass
    said = re.findall(r"seed (\d+), episode (\d+): return (\S+) in (\d+) steps", capsys.readouterr().err)
    expected = [row for row in evaluated if row["seed"] == policy.seeds[member]]
    assert [(int(seed), int(episode), int(steps)) for seed, episode, _, steps in said] == [
        (row["seed"], row["episode"], row["length"]) for row in expected
    ]
    assert [float(total.replace(",", "")) for _, _, total, _ in said] == pytest.approx(
        [row["return"] for row in expected], rel=1e-4, abs=0.01
    )


@pytest.mark.parametrize(("stride", "steps"), [(1, [*range(26)]), (4, [0, 4, 8, 12, 16, 20, 24, 25]), (25, [0, 25])])
def test_the_start_every_nth_step_and_the_end_are_shown(stride, steps):
    with drawing() as world:
        cell = {"rho": 0.0, "candidates": 1, "temperature": 1.0}
        frames = list(video.play(Swing([0]), TASK, world, cell, 0, 2, 0, stride))
    assert [int(frame[0, 0, 0]) // 8 for frame in frames] == steps * 2


# -- the command -------------------------------------------------------------------------------------------------------


@encoder
def test_a_video_of_an_evaluation_shows_its_episodes(chain, drawn, tmp_path):
    evaluation, cell = chain.made("eval"), ("--rho", "1", "--resample", "1", "--temperature", "1")
    answer = swgctl("video", evaluation, "--store", chain.store, "--rho", "1", "--seed", "0")
    path = answer.path
    assert path.parent == chain.store / "plots"
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    with open(evaluation / "episodes.csv") as file:
        (row,) = [row for row in csv.DictReader(file) if (row["seed"], float(row["rho"])) == ("0", 1.0)]
    total = re.search(r"episode 0: return (\S+) in", answer.err)[1].replace(",", "")
    assert float(total) == pytest.approx(float(row["return"]), rel=1e-2)
    again = swgctl("video", chain.made("diffuse"), "--store", chain.store, *cell, "--out", tmp_path / "x.mp4")
    assert again.path == tmp_path / "x.mp4"
    assert total in again.err.replace(",", "")


@pytest.mark.parametrize(
    ("stage", "args", "code", "words"),
    [
        ("diffuse", ["--out", "x.gif"], 2, ["'x.gif' is not a .mp4"]),
        ("diffuse", ["--seed", "77"], 2, ["not 77"]),
        ("diffuse", ["--rho", "-1"], 2, ["--rho -1"]),
        ("diffuse", ["--rho", "nan"], 2, ["--rho nan"]),
        ("diffuse", ["--resample", "0"], 2, ["--resample 0"]),
        ("critic", [], 3, ["which does not act"]),
    ],
)
@encoder
def test_bad_input_is_one_line(stage, args, code, words, chain, drawn):
    swgctl("video", chain.made(stage), "--store", chain.store, *args).refused(code, *words)


def test_what_nothing_guides_or_ranks_shows_one_unguided_sample_unless_another_is_named():
    settings = EvalSettings(rho=[0, 5], resample=[1, 8], temperature=[0.5])
    usual = {"rho": 5, "candidates": 8, "temperature": 0.5}
    assert video._cell(settings, video.Choice(), guided=True, ranked=True) == usual
    assert video._cell(settings, video.Choice(), guided=False, ranked=True) == usual | {"rho": 0}
    assert video._cell(settings, video.Choice(), guided=False, ranked=False) == usual | {"rho": 0, "candidates": 1}
    assert video._cell(settings, video.Choice(candidates=4), guided=False, ranked=False)["candidates"] == 4


def test_the_command_is_documented():
    assert command.video.__doc__
    answer = swgctl("video", "--help")
    assert answer.code == 0
    assert "--rho RHO" in answer.out


def test_a_missing_encoder_is_named_with_what_installs_it(chain, monkeypatch):
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    answer = swgctl("video", chain.made("diffuse"), "--store", chain.store)
    answer.refused(3, "imageio-ffmpeg")
    assert answer.helps == ["pip install 'swgctl[video]'"]


# -- pictures ----------------------------------------------------------------------------------------------------------


@encoder
def test_what_is_encoded_is_decoded(tmp_path):
    import imageio_ffmpeg

    pictures = [picture(step, 48) for step in range(20)]
    video.encode(pictures[0], iter(pictures[1:]), path := tmp_path / "x.draft", fps=10)
    reader = imageio_ffmpeg.read_frames(str(path), output_params=["-f", "rawvideo"])
    meta = next(reader)
    assert (meta["size"], meta["fps"], meta["codec"]) == ((48, 48), 10, "h264")
    decoded = [np.frombuffer(raw, np.uint8).reshape(48, 48, 3) for raw in reader]
    assert [frame.mean() for frame in decoded] == pytest.approx([frame.mean() for frame in pictures], abs=4)


class Blind:
    spec = SimpleNamespace(id="Blind-v0")

    def __init__(self, render):
        self.unwrapped = SimpleNamespace(render=render)


def fail():
    raise RuntimeError("no\nwindow")


@pytest.mark.parametrize(
    ("render", "words"),
    [(lambda: None, "draws no pictures"), (lambda: "text", "draws no pictures"), (fail, "cannot be drawn: no window")],
)
def test_an_environment_that_cannot_be_drawn_is_one_line(render, words):
    with pytest.raises(InputError, match=words):
        video.frame(Blind(render))


@pytest.mark.parametrize(("works", "chosen"), [(("egl", "osmesa"), "egl"), (("osmesa",), "osmesa")])
def test_without_a_display_opengl_is_what_works(works, chosen, monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(
        video.subprocess, "run", lambda command, **_: SimpleNamespace(returncode=int(command[-1] not in works))
    )
    video.choose_opengl()
    assert os.environ["MUJOCO_GL"] == chosen


def test_where_nothing_draws_there_is_help(monkeypatch):
    for name in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(video.subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=1))
    with pytest.raises(InputError, match="neither EGL nor OSMesa") as caught:
        video.choose_opengl()
    assert "libegl1" in caught.value.help[0]
    assert "MUJOCO_GL" not in os.environ


@pytest.mark.parametrize(("name", "value"), [("DISPLAY", ":0"), ("MUJOCO_GL", "glfw")])
def test_a_display_or_a_choice_is_respected(name, value, monkeypatch):
    for one in ("MUJOCO_GL", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(one, raising=False)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(video.subprocess, "run", None)
    video.choose_opengl()
    assert os.environ.get("MUJOCO_GL") == (value if name == "MUJOCO_GL" else None)


@pytest.mark.parametrize(
    "environment",
    [
        *(f"swgctl/AntMaze{size}-v2" for size in ("UMaze", "Medium", "Large")),
        *(f"swgctl/Maze2d{size}-v1" for size in ("UMaze", "Medium", "Large")),
    ],
)
def test_the_camera_sees_a_whole_maze(environment, monkeypatch):
    """Every corner of every wall is within the field of view of a camera at `distance` from `lookat`, by its angles."""
    monkeypatch.setenv("MUJOCO_GL", "egl")  # nothing is drawn
    with contextlib.closing(video.open_environment(environment)) as world:
        model, view = world.unwrapped.model, world.unwrapped.mujoco_renderer.default_cam_config
        azimuth, elevation = np.radians(view["azimuth"]), np.radians(view["elevation"])
        forward = np.array(
            [np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)]
        )
        right = np.array([np.sin(azimuth), -np.cos(azimuth), 0])
        walls = [g for g in range(model.ngeom) if model.geom(g).name.startswith(("block_", "wall_"))]
        corners = np.array(
            [
                model.geom_pos[wall] + np.array(signs) * model.geom_size[wall]
                for wall in walls
                for signs in itertools.product((-1, 1), repeat=3)
            ]
        )
        seen = corners - (view["lookat"] - view["distance"] * forward)
        depth = seen @ forward
        across, up = seen @ right / depth, seen @ np.cross(right, forward) / depth
        half = np.tan(np.radians(model.vis.global_.fovy) / 2)
        assert len(walls) >= 16
        assert depth.min() > 0
        assert max(np.abs(across).max(), np.abs(up).max()) < half
        assert max(np.abs(across).max(), np.abs(up).max()) > half / 2  # and not from afar


DRAW = """
import sys
from swgctl.evaluation import video
world = video.open_environment("HalfCheetah-v4")
world.reset(seed=0)
inner = world.unwrapped
for place, path in zip((0, 50), sys.argv[1:]):
    inner.set_state(inner.init_qpos + [place, *[0] * 8], inner.init_qvel)
    video.save(video.frame(world), path)
world.close()
"""


@pytest.mark.slow  # OpenGL in software takes seconds
def test_the_camera_follows_a_cheetah(tmp_path):
    probe = [sys.executable, "-c", video.PROBE, "egl"]
    if subprocess.run(probe, env=os.environ | {"MUJOCO_GL": "egl"}, capture_output=True).returncode:
        pytest.skip("EGL does not work here")
    from matplotlib.image import imread

    paths = [tmp_path / "here.png", tmp_path / "far.png"]
    subprocess.run([sys.executable, "-c", DRAW, *paths], check=True)
    places = []
    for image in (imread(path)[..., :3] for path in paths):
        assert image.shape == (480, 480, 3)
        skin = (image[..., 0] > 1.25 * image[..., 2]) & (image[..., 0] > 0.3)  # the floor is green, the sky grey
        assert 2000 < skin.sum() < 40000
        places.append([np.median(axis) for axis in np.nonzero(skin)])
    assert places[0] == pytest.approx(places[1], abs=10)
    assert 180 < places[0][1] < 300
