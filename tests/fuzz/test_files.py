"""Data files, tensors and checkpoints of which bytes were changed, cut or put in, and files signed with them."""

import shutil

import pytest
from hypothesis import strategies as st
from support.fuzzing import MANY, asked, both, edited, edits, holds
from support.records import rewrite

from swgctl.files import sha256

pytestmark = pytest.mark.training


@st.composite
def headers(draw, size: int, header: int):
    """Changes of a file of which most are in its header."""
    return draw(st.one_of(edits(header), edits(header), edits(size)))


@both
def test_headers_of_hdf5(examples, chain, tmp_path):
    content, path = chain.data.read_bytes(), tmp_path / "changed.hdf5"

    def check(change) -> None:
        changes, words = change
        path.write_bytes(edited(content, changes))
        asked(
            tmp_path / "store",
            *words,
            path,
            *(["--env", "Pendulum-v1", "--until", "critic"] if words == ["plan"] else []),
        )

    words = st.sampled_from([["data", "info"], ["plan"]])
    holds(examples, st.tuples(headers(len(content), 4096), words), check)


READ = {  # a file of an artifact -> a command that reads it
    ("critic", "critic.safetensors"): "augment --force --from REF",
    ("critic", "metrics.jsonl"): "plot training REF",
    ("augment", "data.hdf5"): "plot weights REF",
    ("diffuse", "policy.safetensors"): "export REF --policy OUT/policy --force",
    ("eval", "episodes.csv"): "report REF",
}


@both
def test_files_that_were_signed_again(examples, chain, tmp_path):
    made = {stage: chain.made(stage) for stage, _ in READ}
    contents = {(stage, name): (made[stage] / name).read_bytes() for stage, name in READ}
    texts = {stage: (path / "artifact.json").read_text() for stage, path in made.items()}

    def check(change) -> None:
        (stage, name), edit, show = change
        artifact = made[stage]
        file = artifact / name
        words = "show REF" if show else READ[stage, name]
        file.write_bytes(edited(contents[stage, name], edit))
        signed = {"sha256": sha256(file), "bytes": file.stat().st_size}
        rewrite(artifact, lambda record: record["files"].update({name: signed}))
        try:
            named = {"REF": artifact}
            asked(chain.store, *(named.get(word, word) for word in words.replace("OUT", str(tmp_path)).split()))
        finally:
            file.write_bytes(contents[stage, name])
            (artifact / "artifact.json").write_text(texts[stage])

    files = [st.tuples(st.just(key), headers(len(content), 600), st.booleans()) for key, content in contents.items()]
    holds(examples, st.one_of(files), check)


@pytest.mark.slow
def test_checkpoints(chain, start, tmp_path):
    """Bytes of the checkpoint of a training that was killed, which the same command finds."""
    args = ["critic", chain.data, "--env", "Pendulum-v1", "--recipe", chain.recipe, "--seeds", "7", "--steps", "2000"]
    process = start(*args, env={"SWGCTL_CHECKPOINT_EVERY": "0"})
    process.wait_for(lambda: list(chain.store.glob("work/*/checkpoint.safetensors")))
    process.send(9)
    process.answer()
    (path,) = chain.store.glob("work/*/checkpoint.safetensors")
    content = path.read_bytes()
    for left in (path.parent, *chain.store.glob("tmp/*")):
        shutil.rmtree(left)

    def check(edit) -> None:
        path.parent.mkdir()
        path.write_bytes(edited(content, edit))
        try:
            if path.read_bytes() != content:
                assert asked(chain.store, *args).code == 4
        finally:
            shutil.rmtree(path.parent, ignore_errors=True)

    holds(MANY, st.one_of(edits(1_000), edits(len(content))), check)
