"""`toy`: from a density to samples, a table and a picture."""

import json
from pathlib import Path
from typing import get_args

import h5py
import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.harness import swgctl

from swgctl.cli.options import TOYS
from swgctl.config import ToySettings
from swgctl.config.method import methods
from swgctl.diffusion.exact import sampling_floor
from swgctl.stages.toy import NAMES
from swgctl.toys import DENSITIES

pytestmark = pytest.mark.training
SMALL = ("--set", "toy.width=32", "--set", "toy.layers=2", "--set", "toy.rows=5000", "--set", "toy.K=10")
TINY = (*SMALL, "--steps", "60", "--samples", "100")
RIVALS = ("mse", "dps", "emse", "cep", "ddice", "aepo")


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


def test_every_guidance_is_an_artifact_of_its_own_with_the_settings_that_it_reads(tmp_path):
    answers = {
        method: swgctl("toy", "moons", "--method", method, *TINY, "--beta", "5", "--json").json
        for method in ("swg", "mse", "cep", "dps")
    }
    params = {
        name: json.loads((Path(answer["path"]) / "artifact.json").read_text())["params"]
        for name, answer in answers.items()
    }
    assert len({answer["key"] for answer in answers.values()}) == len(answers)
    assert params["mse"].keys() - params["swg"].keys() == {"method"}
    assert params["swg"].keys() - params["mse"].keys() == {"weight_scale", "w_min"}
    assert params["cep"].keys() - {"group"} == params["mse"].keys()
    assert [params[name].get("method") for name in answers] == [None, "mse", "cep", "dps"]
    tensors = {name: load_file(f"{answer['path']}/denoiser.safetensors") for name, answer in answers.items()}
    for name in ("cep", "dps"):  # one denoiser, to the bit
        shared = [key for key in tensors["mse"] if "denoiser." in key]
        assert shared
        assert all(torch.equal(tensors[name][key], tensors["mse"][key]) for key in shared)
    with (
        h5py.File(f"{answers['mse']['path']}/samples.hdf5") as one,
        h5py.File(f"{answers['dps']['path']}/samples.hdf5") as other,
    ):
        assert set(one["beta=5"]) == {"guided", "unguided", "reweighted", "truth"}
        np.testing.assert_array_equal(one["beta=5/unguided"], other["beta=5/unguided"])
        assert not np.array_equal(one["beta=5/guided"], other["beta=5/guided"])


def test_all_methods_stand_in_one_table_and_one_picture(tmp_path):
    answer = swgctl("toy", "moons", "--method", "all", *TINY, "--beta", "0,5")
    assert len(answer.lines) == 7
    table = answer.err[answer.err.index("sliced W1 from") :]
    for label in ("floor", "none", "reweighted", "SWG", "Diffuser (MSE)", "EMSE", "QGPO", "D-DICE", "AEPO", "DPS"):
        assert label in table
    assert table.count("Q(a)") == 2
    (picture,) = tmp_path.glob("store/plots/toys-*.png")
    assert len(picture.with_suffix(".png.csv").read_text().splitlines()) == 1 + 7 * 2 * 3  # methods, beta, samples
    ratio = json.loads((Path(answer.lines[0]) / "summary.json").read_text())["cells"][-1]["ratio"]
    assert f" {ratio:.2f} " in next(line for line in table.splitlines() if "SWG" in line)


def test_the_guidances_that_the_command_line_knows():
    assert ("swg", *RIVALS) == get_args(ToySettings.model_fields["method"].annotation)
    assert set(TOYS) - {"all"} == {"swg", *RIVALS} < set(methods())


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


@pytest.mark.slow  # half an hour on two cores
def test_exact_energies_are_near_the_truth_and_a_regression_on_log_w_is_not():
    """Its closed form lies at 17 and 21 times the floor at beta = 5 and 10."""
    for method in ("ddice", "emse", "cep", "mse"):
        cells = swgctl("toy", "8gaussians", "--method", method, "--json").json["metrics"]["cells"]
        ratio = {cell["beta"]: cell["ratio"] for cell in cells if cell["method"] == "guided"}
        if method == "mse":
            assert all(ratio[beta] > 5 for beta in (5, 10, 15, 20))
        else:
            assert all(ratio[beta] < 3 for beta in (0, 1, 5))
            assert ratio[10] < 5


@pytest.mark.slow
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
        (["moons", "--method", "resample"], ["toy.method", "'ddice'"]),
        (["moons", "--method", "ddpm"], ["toy.method", "'ddice'"]),
        (["moons", "--method", "cep", "--set", "toy.group=100"], ["toy.group", "divide toy.batch = 1024"]),
        (["moons", "--sampler", "dmpp"], ["toy.sampler", "'ddpm'"]),
        (["moons", "--set", "critic.lr=1"], ["toy has no setting critic.lr"]),
    ],
)
def test_bad_input(args, words, tmp_path):
    swgctl("toy", *args).refused(2, *words)
    assert not list(tmp_path.glob("store/objects/*"))


@pytest.mark.slow
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
    expected = {"toy": ("4000", "6", "focused"), "paper": ("200000", "0", "uniform")}[recipe]
    for name, value in zip(("steps", "octaves", "draws"), expected, strict=True):
        assert any(line.startswith(f"  {name}: {value} ") for line in lines)
