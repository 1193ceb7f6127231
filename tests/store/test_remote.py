"""Stores that travel, by folder, S3 server, sshd and hub on loopback: what arrives, and what breaks off."""

import json
import signal
import time

import pytest
from support import servers, travel
from support.harness import flip, published, swgctl
from support.travel import write

from swgctl.errors import InputError
from swgctl.reports import remote as reports
from swgctl.store import Artifact, Store, remote
from swgctl.store.filesystems import Remote


def files_of(url: str, at: str) -> dict:
    return Remote(url).sizes(at)


def place_of(artifact: Artifact) -> str:
    return f"objects/{artifact.stage}/demo/{artifact.id}"


# -- there and back ----------------------------------------------------------------------------------------------------


def test_what_is_pushed_can_be_pulled_with_all_that_it_was_made_from(url, ours, theirs):
    policy = travel.chain(ours)
    pushed = swgctl("push", policy.id, url)
    assert len(pushed.lines) == 1
    pulled = swgctl("pull", url, policy.id[:6], "--store", theirs)
    assert pulled.path == theirs / place_of(policy)
    assert travel.contents(theirs) == travel.contents(ours)
    assert len(swgctl("verify", "--store", theirs).lines) == 3
    assert [path.name for path in (theirs / "work").iterdir()] == []
    assert "copied" not in swgctl("push", policy.id, url).err
    assert "copied" not in swgctl("pull", url, "--store", theirs).err


def test_what_push_prints_is_a_ref(url, ours, theirs):
    policy = travel.chain(ours)
    (ref,) = swgctl("push", policy.id, url).lines
    assert remote.resolve(Store(theirs), ref).digest == policy.digest


def test_only_leaves_the_lineage_behind(url, ours, theirs):
    policy = travel.chain(ours)
    assert swgctl("push", policy.id, url, "--only").lines
    swgctl("pull", url, policy.id, "--store", theirs).refused(3, "augment", "was made")
    assert published(theirs) == []
    assert swgctl("pull", url, policy.id, "--only", "--store", theirs).path.name == policy.id


def test_parents_that_are_here_already_need_not_be_there(url, ours):
    policy = travel.chain(ours)
    swgctl("push", policy.id, url, "--only")
    assert swgctl("pull", url, policy.id).path == policy.path


def test_a_listing_of_a_remote_store(url, ours, capsys):
    policy = travel.chain(ours)
    swgctl("push", policy.id, url)
    reports.ls(url)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert all(stage in err for stage in ("critic", "augment", "diffuse"))
    reports.ls(url, stage="diffuse", as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["digest"] == policy.digest
    assert remote.resolve(Store(ours), json.loads(line)["path"]).digest == policy.digest


def test_a_folder_among_the_stores_own_artifacts_is_refused(chain):
    for folder in (chain.store / "objects", chain.store / "objects" / "critic"):
        answer = swgctl("push", chain.made("critic"), folder)
        answer.refused(2, "is among the store's artifacts")
    assert swgctl("verify").code == 0


# -- wrong bytes -------------------------------------------------------------------------------------------------------


def test_wrong_bytes_there_are_refused_and_can_be_mended(url, ours, theirs):
    policy = travel.chain(ours)
    swgctl("push", policy.id, url)
    name = f"{place_of(policy)}/policy.txt"
    content = (policy.path / "policy.txt").read_bytes()
    write(url, name, b"A" + content[1:])
    refusal = swgctl("pull", url, policy.id, "--store", theirs)
    refusal.refused(4, "policy.txt", "sha256")
    assert [path.parent.parent.name for path in published(theirs)] == ["augment", "critic"]
    if not Remote(url).folder:  # a folder is a store, which is mended by `rm -r`
        assert "copied: diffuse" in swgctl("push", policy.id, url, "--check").err
        assert swgctl("pull", url, policy.id, "--store", theirs).path.name == policy.id
        assert travel.contents(theirs) == travel.contents(ours)


def test_more_bytes_than_recorded_are_not_fetched(url, ours, theirs):
    policy = travel.chain(ours)
    swgctl("push", policy.id, url, "--only")
    write(url, f"{place_of(policy)}/policy.txt", b"x" * 5_000_000)
    swgctl("pull", url, policy.id, "--only", "--store", theirs).refused(4, "policy.txt", "more bytes")


def test_a_damaged_artifact_is_not_pushed(url, ours):
    policy = travel.chain(ours)
    flip(policy.path / "policy.txt")
    swgctl("push", policy.id, url, "--only").refused(4, "policy.txt")
    assert "artifact.json" not in files_of(url, place_of(policy))


@pytest.mark.parametrize("kind", ["s3", "sftp"])
def test_a_part_that_is_there_is_replaced_if_it_is_not_whole(kind, make_url, ours, theirs):
    url, policy = make_url(kind), travel.chain(ours)
    write(url, f"{place_of(policy)}/policy.txt", b"cut off")
    assert "copied: diffuse" in swgctl("push", policy.id, url).err
    swgctl("pull", url, "--store", theirs)
    assert travel.contents(theirs) == travel.contents(ours)


def test_another_result_of_the_same_key_stays(url, ours, theirs):
    policy = travel.artifact(ours, "critic", {"critic.txt": "one"})
    other = travel.artifact(theirs, "critic", {"critic.txt": "another"})
    assert policy.key == other.key
    swgctl("push", policy.id, url)
    swgctl("push", other.id, url, "--store", theirs).refused(3, "another result", other.digest[:16])
    swgctl("pull", url, "--store", theirs).refused(3, "another result", other.digest[:16])


# -- broken off --------------------------------------------------------------------------------------------------------


def until(condition, process) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.001)


def kill(process) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.training  # seconds
def test_a_pull_that_was_killed_goes_on(url, ours, theirs):
    critic = travel.many_files(ours, url)
    swgctl("push", critic.id, url)
    process = travel.process("pull", url, store=theirs)
    until(lambda: len(list(theirs.glob("work/*/file*"))) > 5, process)
    kill(process)
    assert published(theirs) == []
    (draft,) = theirs.glob("work/*")
    whole = {path.name: path.stat().st_mtime_ns for path in sorted(draft.iterdir())[:-1]}
    path = swgctl("pull", url, "--store", theirs).path
    assert {name: (path / name).stat().st_mtime_ns for name in whole} == whole, "copied once"
    assert travel.contents(theirs) == travel.contents(ours)


@pytest.mark.training
@pytest.mark.parametrize("kind", ["folder", "s3", "sftp"])  # to a hub it is one commit
def test_a_push_that_was_killed_goes_on(kind, make_url, ours, theirs):
    url = make_url(kind)
    critic = travel.many_files(ours, url)
    process = travel.process("push", critic.id, url, store=ours)
    place = Remote(url)

    def sent() -> int:
        drafts = [f"work/{name}" for name in place.folders("work")]
        return sum(name.startswith("file") for at in [*drafts, place_of(critic)] for name in place.sizes(at))

    until(lambda: sent() > 3, process)
    kill(process)
    assert "artifact.json" not in files_of(url, place_of(critic))
    if "objects" in place.sizes(""):
        reports.ls(url)  # lists none
    assert "copied" in swgctl("push", critic.id, url).err
    if place.scheme == "s3":
        client, (bucket, _, _) = servers.client(), place.root.partition("/")
        versions = client.list_object_versions(Bucket=bucket)["Versions"]
        again = [one["Key"] for one in versions if not one["IsLatest"]]
        assert len(again) <= 1, "those that were whole are not sent again"
    swgctl("pull", url, "--store", theirs)
    assert travel.contents(theirs) == travel.contents(ours)


@pytest.mark.slow
def test_eight_pushers_at_once(url, tmp_path, theirs):
    """Each from a store of its own, whose artifacts are the same but for their logs."""
    stores = [tmp_path / f"store{i}" for i in range(8)]
    policies = [travel.chain(store, log=f"the log of {store.name}") for store in stores]
    assert len({policy.digest for policy in policies}) == 1
    assert len({(policy.path / "artifact.json").read_bytes() for policy in policies}) == 8
    processes = [travel.process("push", policies[0].id, url, store=store) for store in stores]
    for process in processes:
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    swgctl("pull", url, "--store", theirs)
    assert len(swgctl("verify", "--store", theirs).lines) == 3
    assert Remote(url).folders("work") == [], "no draft is left"


@pytest.mark.slow
def test_eight_pushers_of_one_store(url, ours, theirs):
    policy = travel.chain(ours)
    processes = [travel.process("push", policy.id, url, store=ours) for _ in range(8)]
    for process in processes:
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    swgctl("pull", url, "--store", theirs)
    assert travel.contents(theirs) == travel.contents(ours)


@pytest.mark.slow
def test_eight_that_pull_the_same(url, ours, theirs):
    policy = travel.chain(ours)
    swgctl("push", policy.id, url)
    processes = [travel.process("pull", url, store=theirs) for _ in range(8)]
    for process in processes:
        _, err = process.communicate(timeout=400)
        assert process.returncode == 0, err
    assert travel.contents(theirs) == travel.contents(ours)


# -- which -------------------------------------------------------------------------------------------------------------


def test_a_place_that_is_no_store(url, theirs):
    swgctl("pull", url, "--store", theirs).refused(3, "not a store")
    write(url, "notes.txt", b"hello")
    swgctl("pull", url, "--store", theirs).refused(3, "not a store")
    assert not theirs.exists()


def test_an_id_that_is_ambiguous_there(url, ours, theirs):
    ids: dict[str, list[str]] = {}
    for number in range(17):  # two of them share a first character
        one = travel.artifact(ours, "critic", {"critic.txt": f"{number}"}, number=number)
        ids.setdefault(one.id[0], []).append(one.id)
    first, both = next((first, ids) for first, ids in ids.items() if len(ids) > 1)
    swgctl("push", *both, url)
    refusal = swgctl("pull", url, first, "--store", theirs)
    refusal.refused(3, f"fits {len(both)}", *both)
    swgctl("pull", url, "0" * 16, "--store", theirs).refused(3, "no artifact")
    assert published(theirs) == []


def test_a_url_names_the_artifact_from_which_no_other_was_made(url, ours, theirs):
    url = Remote(url).url
    ref = f"file://{url}" if url.startswith("/") else url
    policy = travel.chain(ours)
    evaluation = travel.artifact(ours, "eval", {"episodes.csv": "return"}, policy)
    swgctl("push", evaluation.id, url)
    assert remote.resolve(Store(theirs), ref).digest == policy.digest
    assert remote.resolve(Store(theirs), f"{ref}#{evaluation.id}").digest == evaluation.digest
    other = travel.artifact(ours, "critic", {"critic.txt": "another"}, number=1)
    swgctl("push", other.id, url)
    with pytest.raises(InputError, match="2 artifacts") as raised:
        remote.resolve(Store(theirs), ref)
    assert any(policy.id in line for line in raised.value.help)


def test_a_ref_that_is_no_url_is_one_of_the_store(ours):
    policy = travel.chain(ours)
    assert remote.resolve(Store(ours), policy.id[:8]) == policy
