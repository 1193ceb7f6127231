"""The table and the picture of samplers with exact denoisers."""

import csv

import matplotlib.image
import pytest
from support.harness import swgctl

from swgctl.diffusion import SAMPLERS
from swgctl.diffusion.exact import convergence


@pytest.mark.training
def test_the_command_writes_a_picture_and_the_tables_numbers(tmp_path):
    """48 rows; two of them are those that the function gives when it is asked for them alone."""
    path = tmp_path / "convergence.png"
    answer = swgctl("plot", "convergence", "--samples", "400", "--out", path)
    assert answer.lines == [str(path)]
    assert matplotlib.image.imread(path).std() > 0.02
    with open(path.with_suffix(".png.csv")) as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 48
    found = {(row["schedule"], row["sampler"], int(row["K"])): row for row in rows}
    assert len(found) == 48
    for sampler, K in (("ddpm", 15), ("dpm-solver++", 100)):
        (expected,) = convergence(samplers=[sampler], schedules=["vp"], steps=[K], samples=400)
        for name in ("total_variation", "floor", "distance"):
            assert float(found["vp", sampler, K][name]) == pytest.approx(expected[name], rel=1e-9)
    assert all(f"TV, {sampler}" in answer.err for sampler in SAMPLERS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--beta", "-1"), ["beta -1 must lie in [0, 100]"]),
        (("--beta", "nan"), ["beta nan must lie in"]),
        (("--samples", "0"), ["--samples"]),
        (("--samples", "10", "--out", "picture.jpg"), ["neither a .png nor a .svg"]),
    ],
)
def test_bad_input(options, words):
    swgctl("plot", "convergence", *options).refused(2, *words)
