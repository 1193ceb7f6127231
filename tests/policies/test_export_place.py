"""Where an export goes: what it replaces, what it refuses, and what it leaves behind."""

import pytest
from support.exports import export, metadata
from support.harness import flip, published, swgctl


def test_an_earlier_export_is_replaced_only_when_forced(chain, tmp_path):
    place = export(chain.made("diffuse"), tmp_path / "p")
    (place / "__pycache__").mkdir()
    before = (place / "policy.safetensors").read_bytes()
    refusal = swgctl("export", chain.made("diffuse"), "--policy", place, "--rho", "7")
    refusal.refused(2, str(place), "earlier export")
    assert "--force" in refusal.helps[0]
    assert (place / "policy.safetensors").read_bytes() == before
    assert metadata(export(chain.made("diffuse"), place, "--rho", "7", "--force"))["rho"] == 7
    assert sorted(path.name for path in place.iterdir()) == ["act.py", "policy.safetensors"]


@pytest.mark.parametrize("force", [[], ["--force"]])
def test_other_peoples_files_are_never_lost(chain, force, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "results.csv").touch()
    swgctl("export", chain.made("diffuse"), "--policy", mine, *force).refused(2, str(mine), "not empty")
    place = export(chain.made("diffuse"), tmp_path / "p")
    (place / "results.csv").touch()
    swgctl("export", chain.made("diffuse"), "--policy", place, *force).refused(2, str(place), "not empty")
    (tmp_path / "file").touch()
    swgctl("export", chain.made("diffuse"), "--policy", tmp_path / "file", *force).refused(2, "is a file")
    inside = chain.made("diffuse").with_name("mine")
    swgctl("export", chain.made("diffuse"), "--policy", inside, *force).refused(2, "among the store's artifacts")


def test_the_working_directory_is_not_replaced(chain, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".", "", ".."):
        swgctl("export", chain.made("diffuse"), "--policy", name).refused(2, "the working directory is")


@pytest.mark.parametrize("name", ["empty", "new/er", "new/"])
def test_an_empty_directory_and_missing_ones_will_do(chain, name, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert export(chain.made("diffuse"), name) == tmp_path / name
    assert oct((tmp_path / name / "policy.safetensors").stat().st_mode) == oct(
        (tmp_path / name / "act.py").stat().st_mode
    )
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_path_on_standard_input(chain, tmp_path):
    answer = swgctl("export", "-", "--policy", tmp_path / "p", stdin=f"{chain.made('eval')}\n")
    assert answer.path == tmp_path / "p"


def test_what_cannot_be_exported(chain, tmp_path):
    place = tmp_path / "p"
    swgctl("export", chain.made("critic"), "--policy", place).refused(3, "a critic", "no policy")
    swgctl("export", "demo", "--policy", place).refused(3, "demo")
    swgctl("export", chain.made("diffuse")).refused(2, "--policy")
    swgctl("export", chain.made("diffuse"), "--policy", place, "--seed", "4").refused(2, "seeds 0, not 4")
    swgctl("export", chain.made("diffuse"), "--policy", place, "--rho", "-1").refused(2, "rho")
    swgctl("export", chain.made("diffuse"), "--policy", place, "--resample", "0").refused(2, "resample")
    assert not place.exists()


@pytest.mark.parametrize(
    ("stage", "name"), [("diffuse", "policy.safetensors"), ("augment", "data.hdf5"), ("critic", "critic.safetensors")]
)
def test_damage_is_found_and_nothing_is_left(chain, stage, name, tmp_path):
    flip(chain.made(stage) / name)
    before = published(chain.store)
    swgctl("export", chain.made("eval"), "--policy", tmp_path / "out" / "p").refused(4, name, "damaged")
    assert not (tmp_path / "out").exists()
    assert published(chain.store) == before


def test_a_directory_that_cannot_be_written(chain, tmp_path):
    (tmp_path / "file").touch()
    swgctl("export", chain.made("diffuse"), "--policy", tmp_path / "file" / "p").refused(1, "cannot be written")
