"""Records with any JSON in the place of any of their fields, signed again: every command that reads them."""

import json

import pytest
from hypothesis import strategies as st
from support.fuzzing import GONE, MANY, anything, asked, holds, put, ways
from support.records import rewrite

pytestmark = pytest.mark.training
READERS = [
    *("ls", "ls --json", "verify", "report", "report --format html", "report --format latex", "report --format csv"),
    *("show REF", "show --json REF", "tree REF", "tree --json REF", "diff REF OTHER", "plot training REF"),
    *("push REF OUT/remote", "log REF --to tensorboard:OUT/log", "augment", "plot compare"),
]
OF_STAGE = {
    "critic": ["augment --force --from REF", "eval --force --from DIFFUSE --critic REF --resample 2 --episodes 1"],
    "augment": ["diffuse --force --from REF --steps 1", "plot weights REF"],
    "diffuse": [
        "eval --force --from REF --rho 1 --episodes 1",
        "export REF --policy OUT/policy --force",
        "candidates --force --from REF --set candidates.M=2 --set candidates.rows=8",
    ],
    "eval": ["plot rho REF", "export REF --policy OUT/policy --force"],
}
ORDER = ("critic", "augment", "diffuse", "eval")


@st.composite
def changes(draw):
    """(stage, a number that picks a field, its new value, a number that picks a command)."""
    new = st.one_of(st.just(GONE), anything)
    return draw(st.sampled_from(ORDER)), draw(st.integers(0, 999)), draw(new), draw(st.integers(0, 999))


@pytest.mark.slow
def test_any_json_in_any_field_of_a_signed_record(chain, tmp_path):
    made = {stage: chain.made(stage) for stage in ORDER}
    texts = {stage: (made[stage] / "artifact.json").read_text() for stage in ORDER}

    def check(change) -> None:
        stage, field, new, reader = change
        artifact, readers = made[stage], [*READERS, *OF_STAGE[stage]]
        every = list(ways(json.loads(texts[stage])))
        named = {"REF": artifact, "OTHER": made["augment"], "DIFFUSE": made["diffuse"]}
        words = readers[reader % len(readers)].replace("OUT", str(tmp_path)).split()
        rewrite(artifact, lambda record: put(record, every[field % len(every)], new))
        try:
            asked(chain.store, *(named.get(word, word) for word in words))
        finally:
            (artifact / "artifact.json").write_text(texts[stage])

    holds(MANY, changes(), check)
