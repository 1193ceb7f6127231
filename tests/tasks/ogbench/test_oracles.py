"""Roll-outs of OGBench's oracles."""

import h5py
import numpy as np
import pytest
from support.harness import swgctl

from swgctl.tasks import local

pytestmark = pytest.mark.training
NAME = "local-cube-single-play"


def test_the_number_of_rows_is_a_setting(monkeypatch):
    assert local.of(NAME).policies == ((local.ORACLE, 100_000),)
    path = local.path_of(NAME, local.POLICIES)
    monkeypatch.setenv("SWGCTL_OGBENCH_ROWS", "1000000")
    assert local.of(NAME).policies == ((local.ORACLE, 1_000_000),)
    assert local.path_of(NAME, local.POLICIES) != path
    for text in ("0", "1000001", "many"):
        monkeypatch.setenv("SWGCTL_OGBENCH_ROWS", text)
        swgctl("data", "fetch", NAME).refused(2, "SWGCTL_OGBENCH_ROWS must be a number of rows up to 1,000,000")


@pytest.fixture(scope="module")
def rolled_out(tmp_path_factory):
    """The file of 300 rows, made twice, with the global generator's draw after each."""
    pytest.importorskip("ogbench")
    files, draws = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWGCTL_OGBENCH_ROWS", "300")
        for _ in range(2):
            np.random.seed(7)  # noqa: NPY002
            files.append(local.build(NAME, tmp_path_factory.mktemp("oracle"), print)[0])
            draws.append(np.random.random())  # noqa: NPY002
    return files, draws


def test_equal_recipes_give_equal_bytes_and_leave_the_hosts_generator_alone(rolled_out):
    (one, other), draws = rolled_out
    assert one.read_bytes() == other.read_bytes()
    np.random.seed(7)  # noqa: NPY002
    assert draws == [np.random.random()] * 2  # noqa: NPY002


def test_an_oracle_moves_the_cube_and_is_paid_by_the_task(rolled_out):
    (path, _), _ = rolled_out
    with h5py.File(path) as file:
        data = {
            name: file[name][()] for name in ("observations", "actions", "next_observations", "rewards", "terminals")
        }
        timeouts, about = file["timeouts"][()], dict(file.attrs)
    assert data["observations"].shape == (300, 28)
    assert np.abs(data["actions"]).max() <= 1
    np.testing.assert_array_equal(data["observations"][1:], data["next_observations"][:-1])
    assert set(np.unique(data["rewards"])) <= {-1.0, 0.0}
    np.testing.assert_array_equal(data["terminals"], data["rewards"] == 0)
    assert timeouts[-1] | data["terminals"][-1]
    assert not timeouts[:-1].any()
    cube = data["observations"][:, 19:22]  # its position, scaled
    assert np.ptp(cube[:, 2]) > 0.5  # it is lifted by 5 cm and more
    assert (about["ogbench"], about["success_timing"]) == ("1.2.2", "pre")
