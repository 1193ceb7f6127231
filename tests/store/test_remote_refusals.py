"""What push and pull refuse: records that lie, places that are none, hosts that do not answer, each in one line."""

import contextlib
import hashlib
import json
import shutil
import sys

import pytest
from support import servers, travel
from support.harness import published, swgctl
from support.travel import write

from swgctl.files import canonical
from swgctl.store import record_checksum
from swgctl.store.filesystems import SCHEMES
from swgctl.store.schema import key_of


def signed(meta: dict) -> dict:
    """The record with the key, the digest and the checksum that follow from its contents."""
    outputs = {name: file["sha256"] for name, file in meta["files"].items() if name not in ("log.txt", "metrics.jsonl")}
    meta["digest"] = hashlib.sha256(canonical(outputs).encode()).hexdigest()
    meta["key"] = key_of(meta)
    meta["sha256"] = record_checksum(meta)
    return meta


def renamed(name: str):
    """A change of a record's first file to another name."""

    def change(meta: dict) -> None:
        meta["files"] = {name: meta["files"]["critic.txt"]}

    return change


def setting(path: str, value):
    """A change of a field by its dotted path."""

    def change(meta: dict) -> None:
        *outer, last = path.split(".")
        for one in outer:
            meta = meta[one]
        meta[last] = value

    return change


LIES = {
    "a file outside": renamed("../../../../evil.txt"),
    "a file by an absolute path": renamed("/evil.txt"),
    "a file in a folder": renamed("a/evil.txt"),
    "a file with another system's separator": renamed("..\\evil.txt"),
    "a hidden file": renamed(".evil.txt"),
    "no name": renamed(""),
    "the record itself": renamed("artifact.json"),
    "a control character": renamed("evil\x1b[2J.txt"),
    "a task outside": setting("task.name", "../../evil"),
    "a task that is a folder up": setting("task.name", ".."),
    "a stage outside": setting("stage", "../evil"),
    "a parent outside": setting(
        "inputs", {"x": {"stage": "../..", "task": "demo", "key": "0" * 64, "digest": "0" * 64, "path": "x"}}
    ),
    "a size that is none": setting("files", {"critic.txt": {"sha256": "0" * 64}}),
    "a negative size": setting("files", {"critic.txt": {"sha256": "0" * 64, "bytes": -1}}),
    "a checksum that is none": setting("files", {"critic.txt": {"sha256": "../../evil", "bytes": 1}}),
    "another place": setting("params", {"number": 7}),
}


@pytest.fixture
def pushed(tmp_path):
    """A remote folder, the place of a critic in it, and the critic's record."""
    critic = travel.artifact(tmp_path / "store", "critic", {"critic.txt": "Q and V"})
    swgctl("push", critic.id, tmp_path / "remote")
    place = tmp_path / "remote/objects/critic/demo" / critic.id
    return tmp_path / "remote", place, json.loads((place / "artifact.json").read_text())


@pytest.mark.parametrize("lie", LIES)
def test_a_record_that_lies_is_refused_before_anything_is_written(lie, pushed, theirs):
    url, place, meta = pushed
    LIES[lie](meta)
    with contextlib.suppress(KeyError):  # it lacks what would be signed
        signed(meta)
    (place / "artifact.json").write_text(json.dumps(meta))
    (place.parent / "evil.txt").write_text("evil")
    before = sorted(theirs.parent.rglob("*"))
    swgctl("pull", url, place.name, "--store", theirs).refused(4, "artifact.json")
    assert sorted(theirs.parent.rglob("*")) == before


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"schema": 1}', "[" * 100_000, '{"schema": true}'])
def test_a_record_that_is_none(text, pushed, theirs):
    url, place, _ = pushed
    (place / "artifact.json").write_text(text)
    swgctl("pull", url, place.name, "--store", theirs).refused(4, "artifact.json")
    swgctl("pull", url, "--store", theirs).refused(4, "artifact.json")


def test_a_record_of_a_later_schema(pushed, theirs):
    url, place, meta = pushed
    (place / "artifact.json").write_text(json.dumps(meta | {"schema": 99}))
    swgctl("pull", url, "--store", theirs).refused(4, "newer swgctl")


def test_a_record_that_was_edited(pushed, theirs):
    url, place, meta = pushed
    (place / "artifact.json").write_text(json.dumps(meta | {"wall_s": 1.0}))
    swgctl("pull", url, "--store", theirs).refused(4, "not what was written")


def test_an_artifact_that_was_made_from_itself(tmp_path, theirs):
    """Keys follow from the digests of the inputs, not from their keys: a circle can be signed."""
    store, outputs = tmp_path / "store", "a" * 64
    critic = travel.artifact(store, "critic", {"critic.txt": "Q"})
    meta = json.loads((critic.path / "artifact.json").read_text())
    record = {"stage": "critic", "task": "demo", "digest": critic.digest, "path": "", "key": outputs}
    meta["inputs"] = {"critic": record}
    record["key"] = key_of(meta)
    signed(meta)
    place = tmp_path / "remote/objects/critic/demo" / meta["key"][:16]
    shutil.copytree(critic.path, place)
    (place / "artifact.json").write_text(json.dumps(meta))
    swgctl("pull", tmp_path / "remote", "--store", theirs).refused(4, "made from itself")
    assert published(theirs) == []


# -- places ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/path", "s4://bucket", "http://host/x", "s3://", "hf://alone", "", "sftp://h", "sftp:///x"),
        *("sftp://[::1/x", "sftp://h:99999/x", "sftp://h:x/x", "sftp://a b/x", "sftp://me:secret@/x", "hf://../x"),
        *("sftp://me:sec/secret@h/x", "hf://me:secret@a/b"),
    ],
)
def test_a_url_of_no_kind(url, ours, theirs):
    critic = travel.artifact(ours, "critic", {"critic.txt": "Q"})
    for args in (["pull", url, "--store", theirs], ["push", critic.id, url]):
        answer = swgctl(*args)
        answer.refused(2)
        assert "secret" not in answer.err


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != "file"])
def test_a_scheme_without_its_package(scheme, theirs, monkeypatch):
    monkeypatch.setitem(sys.modules, SCHEMES[scheme].package, None)
    refusal = swgctl("pull", f"{scheme}://place/path", "--store", theirs)
    refusal.refused(3, SCHEMES[scheme].package)
    assert refusal.helps == [f"pip install 'swgctl[{SCHEMES[scheme].extra}]'"]


@pytest.mark.parametrize("kind", ["s3", "sftp", "hf"])
def test_a_host_that_does_not_answer(kind, make_url, ours, theirs, monkeypatch):
    make_url(kind)  # its settings
    port = servers.free_port()
    for variable in ("AWS_ENDPOINT_URL", "HF_ENDPOINT"):
        monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
    url = {"s3": "s3://place/store", "sftp": f"sftp://127.0.0.1:{port}/store", "hf": "hf://me/place"}[kind]
    critic = travel.artifact(ours, "critic", {"critic.txt": "Q"})
    refusal = swgctl("pull", url, "--store", theirs)
    refusal.refused(3, url)
    assert len(refusal.helps) == 1
    swgctl("push", critic.id, url).refused(3, url)


def test_a_server_whose_key_is_unknown_is_not_spoken_to(make_url, sftp, theirs, tmp_path, monkeypatch):
    url = make_url("sftp")
    shutil.copytree(sftp[2], tmp_path / "home")
    (tmp_path / "home/.ssh/known_hosts").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    swgctl("pull", url, "--store", theirs).refused(3, "known_hosts")


# -- permissions -------------------------------------------------------------------------------------------------------


def test_no_permission_on_an_s3_server(make_url, s3, ours, theirs):
    url, critic = make_url("s3"), travel.artifact(ours, "critic", {"critic.txt": "Q"})
    swgctl("push", critic.id, url)
    servers.keys_are_checked(s3, True)
    try:
        swgctl("pull", url, "--store", theirs).refused(3, "no permission")
        swgctl("push", critic.id, url).refused(3, "no permission")
    finally:
        servers.keys_are_checked(s3, False)


def test_a_bucket_that_does_not_exist(make_url, ours):
    make_url("s3")
    critic = travel.artifact(ours, "critic", {"critic.txt": "Q"})
    swgctl("push", critic.id, "s3://nobody-has-made-this/store").refused(3, "does not exist")


def test_no_permission_on_an_ssh_server(make_url, sftp, ours):
    make_url("sftp")
    url, folder, _ = sftp
    (folder / "closed").mkdir(mode=0o555)
    critic = travel.artifact(ours, "critic", {"critic.txt": "Q"})
    swgctl("push", critic.id, f"{url}{folder}/closed/store").refused(3, "no permission")


def test_no_permission_at_a_hub(make_url, hub, ours, theirs):
    url, critic = make_url("hf"), travel.artifact(ours, "critic", {"critic.txt": "Q"})
    hub[0].refuses = True
    try:
        swgctl("pull", url, "--store", theirs).refused(3, "no permission")
        swgctl("push", critic.id, url).refused(3, "no permission")
    finally:
        hub[0].refuses = False


def test_a_folder_that_cannot_be_one(ours, tmp_path):
    critic = travel.artifact(ours, "critic", {"critic.txt": "Q"})
    (tmp_path / "file").touch()
    refusal = swgctl("push", critic.id, tmp_path / "file/store")
    assert refusal.code in (1, 2, 3)
    assert "internal" not in refusal.error


# -- a hub -------------------------------------------------------------------------------------------------------------


def test_a_policy_on_a_hub_has_a_card_unless_somebody_wrote_one(hub, make_url, ours):
    make_url("hf")
    policy = travel.chain(ours)
    assert "private" in swgctl("push", policy.id, "hf://me/new", "--license", "mit").err
    files = hub[0].repositories["me/new"]
    assert "me/new" in hub[0].private
    text = files["README.md"].decode()
    assert f'swgctl.load_policy("hf://me/new#{policy.id}")' in text
    assert 'license: "mit"' in text
    commits = len(hub[0].commits)
    swgctl("push", policy.id, "hf://me/new", "--license", "mit")
    assert len(hub[0].commits) == commits, "nothing new"
    write("hf://me/new", "README.md", b"# Mine")
    assert "stays" in swgctl("push", policy.id, "hf://me/new").err
    assert files["README.md"] == b"# Mine"
