"""The table of compare: a line a policy, its score at every scale."""

import pytest
from support.guidances import row, rows

from swgctl.evaluation.comparison import claims
from swgctl.reports.guidances import show, table

UP_TO_RATIO = ["policy", "M", "T", "exact at\nrho 1", "asks Q at", "parameters", "training\ns", "action\nx none"]
BY_CRITIC = {"eval.select": "critic"}


def test_a_line_has_the_score_at_every_scale():
    columns, lines = table(rows())
    assert columns == [*UP_TO_RATIO, *(f"score, 95 %\nrho {rho}" for rho in (0, 1, 4))]
    assert [line[0] for line in lines] == ["behaviour model", "behaviour model, resampled", "SWG", "DPS"]
    assert [line[len(UP_TO_RATIO) :] for line in lines] == [
        ["10.0 [8.0, 11.0]", "", ""],
        ["20.0 [18.0, 21.0]", "", ""],
        ["", "10.0 [8.0, 11.0]", "40.0 [38.0, 41.0]"],
        ["", "11.0 [9.0, 12.0]", "41.0 [39.0, 42.0]"],
    ]
    assert lines[3][1:8] == ["1", "1", "linear log w, Gaussian data", "posterior mean", "0", "0.0", "2.00"]


def test_temperatures_and_candidates_are_lines_of_their_own():
    cooler = [row("swg", rho, 5.0, temperature=0.5) for rho in (1.0, 4.0)]
    several = [row("swg", 1.0, 7.0, candidates=8)]
    _, lines = table([*rows(), *cooler, *several])
    assert [line[1:3] for line in lines] == [["1", "1"], ["8", "1"], ["1", "1"], ["1", "1"], ["1", "0.5"], ["8", "1"]]
    assert lines[-1][-2:] == ["7.0 [5.0, 8.0]", ""]


def test_a_task_without_references_has_returns():
    columns, lines = table(rows(score_mean=None, score_ci95=None))
    assert columns[-1] == "return, 95 %\nrho 4"
    assert lines[2][-1] == "4,000 [3,800, 4,100]"


def test_the_mode_error_is_shown_where_there_is_a_toy():
    columns, lines = table([*rows()[:2], row("swg", 1.0, 3.0, mode_error=0.0914)])
    place = columns.index("8gaussians\nmode error\nbeta 5")
    assert [line[place] for line in lines] == ["", "", "0.091"]


def test_the_title_names_what_the_rows_share(capsys):
    show(rows())
    err = capsys.readouterr().err
    assert "demo: 3 seeds x 4 episodes, intervals over the seeds" in err
    assert f"one weight, expectile, of one critic, {'c' * 12}; denoiser {'e' * 12}\n" in err
    assert "an action without guidance takes 5.00 ms here" in err


def test_the_title_says_what_is_not_the_benchmarks(capsys):
    show(rows(checksum=["published"]))
    assert "data:" not in capsys.readouterr().err
    show(rows(checksum=["overruled"], fidelity="nearly D4RL's"))
    err = capsys.readouterr().err
    assert "data: not the published checksum, overruled by --trust\n" in err
    assert "environment: nearly D4RL's\n" in err


@pytest.mark.parametrize(
    ("name", "candidates", "changed", "expected"),
    [
        ("none", 1, {}, ("", "")),
        ("ddice", 1, {}, ("yes", "data")),
        ("ddice", 8, {}, ("no", "data, candidates")),
        ("resample", 8, {}, ("no", "candidates")),
        ("resample", 8, {"eval.select": "sample"}, ("as M grows", "candidates")),
        ("swg", 8, {"eval.select": "sample"}, ("no", "data, candidates")),  # the weight is applied twice
        ("swg", 8, {"eval.select": "self"}, ("no", "data")),
        ("resample", 8, {"eval.select": "self"}, ("no", "")),
        ("cep", 1, {"guide.normalise": "self"}, ("many candidates", "candidates")),
        ("cep", 1, {"guide.normalise": "none"}, ("yes", "candidates")),
        ("resample", 8, {"guide.normalise": "none", "eval.select": "sample"}, ("as M grows", "candidates")),
        ("swg", 1, {"eval.rescale": True}, ("no", "data")),
        ("ddice", 1, {"eval.kmax": 5}, ("no", "data")),
        ("aepo", 1, {"guide.expansion": "data"}, ("linear log w, Gaussian data", "data")),
        ("aepo", 1, {"guide.expansion": "posterior_mean"}, ("linear log w, Gaussian data", "posterior mean")),
    ],
)
def test_what_is_exact_and_where_it_asks(name, candidates, changed, expected):
    assert tuple(claims(name, candidates, BY_CRITIC | changed).values()) == expected
