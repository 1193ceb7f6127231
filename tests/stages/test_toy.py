"""`toy`: from a density to samples, a table and a picture."""

import json

import h5py
import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import swgctl

from swgctl.diffusion.exact import sampling_floor
from swgctl.stages.toy import NAMES
from swgctl.toys import DENSITIES

pytestmark = pytest.mark.training
SMALL = ("--set", "toy.width=32", "--set", "toy.layers=2", "--set", "toy.rows=5000", "--set", "toy.K=10")
TINY = (*SMALL, "--steps", "60", "--samples", "100")


def test_an_artifact_like_any_other(tmp_path):
    answer = swgctl("toy", "moons", *TINY, "--beta", "0,5", "--json").json
    assert (answer["stage"], answer["task"], answer["status"], answer["seeds"]) == ("toy", "moons", "built", [0])
    path = swgctl("toy", "moons", *TINY, "--beta", "0,5").path
    assert str(path) == answer["path"]
    assert {file.name for file in path.iterdir()} == {
        *("artifact.json", "config.yaml", "log.txt", "metrics.jsonl"),
        *("denoiser.safetensors", "samples.hdf5", "summary.json", "picture.png"),
    }
    tensors = load_file(path / "denoiser.safetensors")
    assert tensors["layers.0.weight"].shape == (1, 3 + 64 + 2 * 2 * 6, 32)
    assert {name.removeprefix("average.") for name in tensors} == {n for n in tensors if not n.startswith("average.")}
    with h5py.File(path / "samples.hdf5") as file:
        assert set(file) == {"beta=0", "beta=5"}
        for group in file.values():
            shapes = {name: dataset.shape for name, dataset in group.items()}
            assert shapes.pop("guided_weight") == (1, 100)
            assert shapes.pop("truth") == (5, 100, 2)
            assert set(shapes.values()) == {(1, 100, 2)}
            assert (np.abs(group["truth"][:]) < 5).all()
    assert json.loads((path / "summary.json").read_text())["cells"] == answer["metrics"]["cells"]
    picture = matplotlib.image.imread(path / "picture.png")
    assert picture.shape[0] > 400
    assert picture.std() > 0.02
    assert swgctl("verify").path == path
    assert "reweighted" in swgctl("show", path).err


def test_the_picture_is_the_same_whatever_matplotlib_is_told(tmp_path, monkeypatch):
    first = swgctl("toy", "moons", *TINY, "--beta", "0,5", "--json").json["digest"]
    (tmp_path / "matplotlibrc").write_text("axes.facecolor: black\nfont.size: 30\n")
    matplotlib.rc_file(tmp_path / "matplotlibrc")
    try:
        again = swgctl("toy", "moons", *TINY, "--beta", "0,5", "--force", "--json").json["digest"]
    finally:
        matplotlib.rcdefaults()
    assert first == again


def test_the_table_has_every_method_beside_its_floor():
    answer = swgctl("toy", "8gaussians", *TINY, "--json")
    cells = answer.json["metrics"]["cells"]
    assert [c["beta"] for c in cells] == [b for b in (0, 1, 5, 10, 15, 20) for _ in range(3)]
    assert [c["method"] for c in cells[:3]] == ["unguided", "reweighted", "guided"]
    for cell in cells:
        assert cell["ratio"] == pytest.approx(cell["sliced_wasserstein"] / cell["floor"])
        target = torch.softmax(cell["beta"] * torch.arange(8, dtype=torch.float64) / 7, 0)
        assert cell["total_variation_floor"] == pytest.approx(sampling_floor(target, 100))
    assert "modes' TV" in answer.err
    assert "total_variation" not in swgctl("toy", "rings", *TINY, "--json").json["metrics"]["cells"][0]


def test_equal_runs_are_equal_to_the_byte_and_members_are_the_runs_alone(tmp_path):
    both = swgctl("toy", "moons", *TINY, "--beta", "5", "--seeds", "0,1", "--json").json
    again = swgctl("toy", "moons", *TINY, "--beta", "5", "--seeds", "0,1", "--store", tmp_path / "b", "--json").json
    assert both["digest"] == again["digest"]
    alone = swgctl("toy", "moons", *TINY, "--beta", "5", "--seeds", "1", "--json").json
    with h5py.File(f"{both['path']}/samples.hdf5") as one, h5py.File(f"{alone['path']}/samples.hdf5") as other:
        np.testing.assert_allclose(one["beta=5/unguided"][1], other["beta=5/unguided"][0], atol=1e-3)
        np.testing.assert_array_equal(one["beta=5/truth"], other["beta=5/truth"])


def test_the_densities_that_are_known_before_they_are_imported():
    assert tuple(DENSITIES) == NAMES


@pytest.mark.slow  # five minutes on two cores
@pytest.mark.parametrize("density", ["8gaussians", "rings", "moons"])
def test_the_shipped_recipe_is_near_the_truth(density):
    """Within three times the distance of two ground truths up to beta = 10, and nearer than without guidance."""
    cells = swgctl("toy", density, "--json").json["metrics"]["cells"]
    ratio = {(cell["beta"], cell["method"]): cell["ratio"] for cell in cells}
    assert all(ratio[beta, "guided"] < 3 for beta in (0, 1, 5, 10))
    assert all(ratio[beta, "guided"] < ratio[beta, "unguided"] / 3 for beta in (5, 10, 15, 20))


def test_guidance_finds_what_is_heavy():
    """A few seconds of training: guided samples are less than half as far as unguided ones."""
    small = ("--set", "toy.width=64", "--set", "toy.layers=3", "--set", "toy.K=20", "--set", "toy.batch=512")
    cells = swgctl("toy", "moons", *small, "--steps", "1500", "--samples", "500", "--beta", "5", "--json").json
    found = {cell["method"]: cell["ratio"] for cell in cells["metrics"]["cells"]}
    assert found["guided"] < found["unguided"] / 2


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["moon"], ["no density is called 'moon'", "did you mean 'moons'"]),
        (["moons", "--beta", "25"], ["toy.beta", "[0, 20]"]),
        (["moons", "--beta", "-1"], ["toy.beta", "[0, 20]"]),
        (["moons", "--beta", "five"], ["--beta 'five'"]),
        (["moons", "--beta", "1,1.0000001"], ["toy.beta", "alike"]),
        (["moons", "--set", "toy.beta_max=10"], ["toy.beta", "[0, 10]"]),
        (["moons", "--set", "toy.beta_max=-1", "--beta", "-1"], ["toy.beta_max", "toy.beta"]),
        (["moons", "--samples", "60000"], ["toy.samples", "20000"]),
        (["moons", "--rho", "-1"], ["toy.rho", "greater than or equal to 0"]),
        (["moons", "--rho", "nan"], ["toy.rho", "finite"]),
        (["moons", "--rho", "1e39"], ["toy.rho", "1000000"]),
        (["moons", "--set", "toy.K=1"], ["toy.K", "2"]),
        (["moons", "--sampler", "dmpp"], ["toy.sampler", "'ddpm'"]),
        (["moons", "--set", "critic.lr=1"], ["toy has no setting critic.lr"]),
    ],
)
def test_bad_input(args, words, tmp_path):
    swgctl("toy", *args).refused(2, *words)
    assert not list(tmp_path.glob("store/objects/*"))


def test_all_prints_a_line_each_and_one_picture(tmp_path):
    answer = swgctl("toy", "all", *TINY, "--beta", "0,20")
    assert len(answer.lines) == 6
    (picture,) = tmp_path.glob("store/plots/toys-*.png")
    assert str(picture) in answer.err
    assert matplotlib.image.imread(picture).std() > 0.02
    assert len(picture.with_suffix(".png.csv").read_text().splitlines()) == 1 + 6 * 2 * 3  # densities, beta, methods


@pytest.mark.parametrize("recipe", ["toy", "paper"])
def test_recipes_resolve(recipe):
    lines = swgctl("recipe", "show", "moons", "--recipe", recipe).lines
    assert lines[0] == "# swgctl toy moons"
    expected = {"toy": ("12000", "6", "focused"), "paper": ("200000", "0", "uniform")}[recipe]
    for name, value in zip(("steps", "octaves", "draws"), expected, strict=True):
        assert any(line.startswith(f"  {name}: {value} ") for line in lines)
