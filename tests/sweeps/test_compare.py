"""compare: every guidance on one critic and one denoiser; the numbers are the evaluations' own."""

import csv
import json
import math
import shutil
from pathlib import Path

import pytest
from support.harness import Chain, published, swgctl

from swgctl.config import AUGMENT, EVAL, GUIDE, methods
from swgctl.errors import InputError, UsageError
from swgctl.evaluation import comparison
from swgctl.store import Artifact, Store
from swgctl.sweeps.compare import chosen_methods, evaluations, resolve
from swgctl.tasks import get

QUICK = ("guide.steps=20", "guide.hidden=[16]", "guide.batch=32", "guide.states=8", "candidates.rows=40")
QUICK += ("candidates.M=4", "guide.moments=256", "behaviour.steps=20", "behaviour.width=16", "behaviour.K=3")
BARE = ("--methods", "dps,resample")  # no network


def compare(chain: Chain, *more):
    quick = [word for text in QUICK for word in ("--set", text)]
    return swgctl(
        "compare", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--resample", "1,2", *quick, *more
    )


def objects(answer) -> list[dict]:
    return [json.loads(line) for line in answer.lines]


def digests(artifact: Artifact, stage: str) -> set[str]:
    """Of all artifacts of a stage in a lineage, as `swgctl tree` shows it."""

    def walk(node: dict) -> set[str]:
        own = {node["digest"]} if node["stage"] == stage else set()
        return own.union(*(walk(parent) for parent in node["inputs"].values()))

    return walk(swgctl("tree", artifact.path, "--json").json)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Actions are timed a few times only."""
    monkeypatch.setattr("swgctl.sweeps.compare.REPEATS", 5)


@pytest.fixture(scope="module")
def everything(built, tmp_path_factory):
    """All methods compared, in a store of the module's own: its rows, and what it had built."""
    store = tmp_path_factory.mktemp("compare") / "store"
    shutil.copytree(built.store, store, ignore=shutil.ignore_patterns("current", "locks"))
    chain = Chain(store, built.data, built.recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SWGCTL_SCOPE", "compare")
        patch.setattr("swgctl.sweeps.compare.REPEATS", 5)
        rows = objects(compare(chain, "--store", chain.store, "--json"))
    return chain, rows


def evaluation_of(chain: Chain, row: dict) -> Artifact:
    return Store(chain.store).resolve(row["evaluation"])


def test_every_method_has_its_rows(everything):
    _, rows = everything
    cells = {(row["method"], row["candidates"], row["rho"]) for row in rows}
    expected = {("none", 1, 0.0), ("resample", 2, 0.0), ("swg", 2, 1.0), ("ddice", 2, 1.0)}
    expected |= {(name, 1, 1.0) for name, row in methods().items() if row.guidance}
    assert cells == expected
    assert len(rows) == len(cells)
    assert [row["method"] for row in rows][:4] == ["none", "resample", "swg", "swg"]


def test_the_numbers_are_those_of_the_evaluations(everything):
    chain, rows = everything
    for row in rows:
        cells = json.loads(evaluation_of(chain, row).file("summary.json").read_text())["cells"]
        (cell,) = [cell for cell in cells if all(cell[name] == row[name] for name in ("rho", "candidates"))]
        assert {name: row[name] for name in comparison.MEASURED} == {name: cell[name] for name in comparison.MEASURED}


def test_a_tree_shows_one_critic_and_one_denoiser(everything):
    chain, rows = everything
    for stage, column in (("critic", "critic"), ("diffuse", "denoiser"), ("augment", None)):
        shown = {digest for row in rows for digest in digests(evaluation_of(chain, row), stage)}
        assert len(shown) == 1, stage
        assert column is None or shown == {row[column] for row in rows}


def test_costs_are_measured_beside_none(everything):
    chain, rows = everything
    for row in rows:
        assert row["action_ms"] > 0
        assert row["action_ratio"] == pytest.approx(row["action_ms"] / rows[0]["action_ms"])
        source = comparison.policy_of(evaluation_of(chain, row))
        trained = source.stage == "guide" and methods()[row["method"]].takes == "energy"
        assert row["parameters"] == (source.meta["metrics"]["data"]["parameters"] if trained else 0)
        assert (row["training_s"] > 0) == (row["parameters"] > 0) == trained
        if row["method"] == "cep":
            drawing = source.parent("candidates").meta["wall_s"]
            assert row["training_s"] == pytest.approx(source.meta["wall_s"] + drawing, abs=2e-3)
    assert rows[0]["action_ratio"] == 1


def test_the_table_says_where_a_method_asks(everything):
    _, rows = everything
    claims = {(row["method"], row["candidates"]): (row["exact"], row["asks"]) for row in rows}
    assert claims["none", 1] == ("", "")
    assert claims["swg", 1] == claims["ddice", 1] == claims["emse", 1] == ("yes", "data")
    assert claims["mse", 1] == ("linear log w, Gaussian data", "data")
    assert claims["dps", 1] == ("linear log w, Gaussian data", "posterior mean")
    assert claims["cep", 1][1] == "candidates"
    assert claims["swg", 2] == ("no", "data, candidates")  # the best of several is no sample of the target
    assert claims["resample", 2] == ("no", "candidates")


def test_a_second_time_nothing_is_built_and_the_picture_has_the_rows(everything, monkeypatch):
    chain, rows = everything
    monkeypatch.setenv("SWGCTL_SCOPE", "again")
    before = published(chain.store)
    answer = compare(chain, "--store", chain.store)
    assert published(chain.store) == before
    assert {line.split()[1] for line in answer.err.splitlines() if line.endswith(" s")} == {"cached"}
    assert answer.path.parent == Path(chain.store) / "plots"
    drawn = list(csv.DictReader(answer.path.with_suffix(".png.csv").open()))
    for row, shown in zip(rows, drawn, strict=True):
        assert (shown["policy"], float(shown["rho"])) == (row["policy"], row["rho"])
        assert float(shown["return_mean"]) == row["return_mean"]
        assert [float(shown[f"return_ci95_{end}"]) for end in ("low", "high")] == row["return_ci95"]


# -- what is planned ---------------------------------------------------------------------------------------------------


def planned(only: str | None = None, plain: bool = False, *assignments: str) -> dict:
    """Of the demo's recipe: method -> node of its evaluation."""
    resolved, scales = resolve(get("demo"), None, assignments, {})
    nodes = evaluations(get("demo"), resolved, scales, chosen_methods(only.split(",") if only else None), plain)
    return {node.settings.method: node for node in nodes}


def cells_of(node) -> tuple[list[float], list[int]]:
    return node.settings.rho, node.settings.resample


def chain_of(node) -> list[str]:
    return [one.stage.name for one in node.walk()]


def test_all_methods_are_planned_on_the_recipes_scales():
    nodes = planned()
    assert {name: cells_of(node) for name, node in nodes.items()} == {
        "swg": ([0, 5, 10], [1, 8]),
        **{name: ([5, 10], [1]) for name in ("calibrated", "mse", "dps", "emse", "cep", "aepo")},
        "ddice": ([5, 10], [1, 8]),
    }
    assert chain_of(nodes["swg"]) == ["critic", "augment", "diffuse", "eval"]
    assert chain_of(nodes["cep"]) == ["critic", "augment", "diffuse", "candidates", "guide", "eval"]
    assert len({one.identity for node in nodes.values() for one in node.walk() if one.stage.name == "diffuse"}) == 1
    assert all(node.settings.temperature == [0, 0.5] for node in nodes.values())


def test_plain_guides_are_of_the_behaviour_model_by_the_same_weight():
    nodes = planned("swg,cep,resample", True, "augment.scale=3")
    assert {name: cells_of(node) for name, node in nodes.items()} == {
        "resample": ([0], [1, 8]),
        "swg": ([5, 10], [1, 8]),
        "cep": ([5, 10], [1]),
    }
    assert sorted(chain_of(nodes["cep"])) == sorted(methods()["cep"].stages)
    for name in ("resample", "cep"):
        (guide,) = [one.settings for one in nodes[name].walk() if one.stage is GUIDE]
        (weight,) = [one.settings for one in nodes["swg"].walk() if one.stage is AUGMENT]
        assert {field: getattr(guide, field) for field in AUGMENT.settings.model_fields} == weight.model_dump()


def test_without_resampling_nothing_unguided_is_resampled():
    assert {name: cells_of(node) for name, node in planned("dps").items()} == {"swg": ([0], [1]), "dps": ([5, 10], [1])}
    assert list(planned("none")) == ["swg"]


def test_a_draw_by_weight_is_of_the_rows_with_several_candidates():
    nodes = planned(None, False, "eval.select=sample")
    assert {name for name, node in nodes.items() if node.settings.select == "sample"} == {"swg", "ddice"}
    with pytest.raises(UsageError, match="own weight"):
        planned(None, True, "eval.select=self")
    assert EVAL.settings().select == "critic"


# -- what is built -----------------------------------------------------------------------------------------------------


def test_swg_is_what_run_evaluates(chain):
    """The same scales and candidates make the same evaluation, which is then cached."""
    path = chain.run("--resample", "1,2").path
    rows = objects(compare(chain, "--methods", "swg,resample", "--json"))
    assert {row["evaluation"] for row in rows} == {path.name}
    assert [(row["method"], row["candidates"]) for row in rows] == [
        ("none", 1),
        ("resample", 2),
        ("swg", 1),
        ("swg", 2),
    ]


@pytest.mark.slow
def test_plain_guides_have_the_weight_of_the_data_and_the_behaviour_model(chain):
    rows = objects(compare(chain, *BARE, "--plain", "--weight", "exponential", "--set", "augment.beta=2", "--json"))
    assert [(row["method"], row["candidates"], row["rho"]) for row in rows] == [
        ("none", 1, 0.0),
        ("resample", 2, 0.0),
        ("dps", 1, 1.0),
    ]
    store = Store(chain.store)
    (behaviour,) = store.artifacts("behaviour")
    assert {row["denoiser"] for row in rows} == {behaviour.digest}
    assert {(guide.params["weight"], guide.params["beta"]) for guide in store.artifacts("guide")} == {
        ("exponential", 2.0)
    }
    assert not [augmented for augmented in store.artifacts("augment") if augmented.params["weight"] == "exponential"]


def test_another_weight_augments_and_diffuses_anew(chain):
    rows = objects(compare(chain, *BARE, "--weight", "exponential", "--json"))
    store = Store(chain.store)
    assert sorted(augmented.params["weight"] for augmented in store.artifacts("augment")) == [
        "expectile",
        "exponential",
    ]
    (guide,) = store.artifacts("guide")
    assert guide.params["weight"] == "exponential"
    assert {row["denoiser"] for row in rows} == {guide.parent("diffuse").digest}
    assert {row["weight"] for row in rows} == {"exponential"}


@pytest.mark.parametrize(
    ("words", "named", "advice"),
    [
        (["--methods", "dsp"], "did you mean 'dps'?", "swgctl compare TASK --methods dps"),
        (["--rho", "0"], "scale above 0", "swgctl compare TASK --rho 1,4,8"),
        (["--rho", "x"], "--rho 'x'", "swgctl compare demo --rho 1,8"),
        (["--weight", "expectle"], "augment.weight", "swgctl recipe show demo   # lists every key"),
        (["--set", "guide.weight=linex"], "--weight", "swgctl compare TASK --weight linex"),
        (["--set", "eval.method=dps"], "--methods", "swgctl compare TASK --methods dps"),
        (["nowhere"], "nowhere", None),
    ],
)
def test_everything_is_checked_before_anything_is_built(tmp_path, words, named, advice):
    answer = swgctl("compare", "demo", "--store", tmp_path / "empty", *words)
    answer.refused(2, named)
    assert advice is None or answer.helps == [advice]
    assert not published(tmp_path / "empty")


def test_rows_of_another_critic_are_refused(chain):
    path = chain.run("--set", "critic.tau=0.8").path
    store = Store(chain.store)
    evaluations = list(store.artifacts("eval"))
    comparison.check_common(evaluations[:1])
    with pytest.raises(InputError, match="is not of the critic of"):
        comparison.check_common(evaluations)
    assert path.name in {one.id for one in evaluations}


def test_the_mode_error_is_the_newest_toys(tmp_path):
    """Unguided samples of any SWG toy are those of `none`."""
    toy = swgctl("toy", "8gaussians", "--steps", "3", "--beta", "0,5", "--samples", "50", *_tiny_toy()).path
    cells = {(c["beta"], c["method"]): c["total_variation"] for c in Artifact(toy).meta["metrics"]["cells"]}
    store = Store.locate()
    assert comparison.mode_error(store, "swg") == cells[5.0, "guided"]
    assert comparison.mode_error(store, "none") == cells[5.0, "unguided"]
    assert comparison.mode_error(store, "cep") is None
    assert all(math.isfinite(value) for value in cells.values())


def _tiny_toy() -> list[str]:
    settings = ("toy.rows=2000", "toy.width=16", "toy.layers=2", "toy.batch=64", "toy.K=4")
    return [word for text in settings for word in ("--set", text)]
