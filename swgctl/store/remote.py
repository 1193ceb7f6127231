"""A store that travels: artifacts copied to a remote store and back, their lineage first, every byte checked.

A remote store has the layout of a store: `URL/objects/<stage>/<task>/<key>/`.  An artifact is there once its
`artifact.json` is, which is written last.  Every file is read back, before that or, on the Hub, after the commit.  Two
that push one key at once do no harm:

    a folder        is a store: a draft in `work/`, one rename
    sftp://         a draft of each pusher's own in `work/`, one rename on the server
    hf://           one commit
    s3://, gs://    objects appear whole

The files that the digest leaves out differ from pusher to pusher.  In a bucket and on the Hub, where the last record
stays, they have their checksum in their name, so that each record finds its own.
"""

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from pathlib import Path, PurePosixPath

from swgctl import console
from swgctl.console import quoted, say
from swgctl.errors import CorruptError, InputError, NewerError, SwgError, UsageError
from swgctl.files import open_regular, read_regular, sha256, sync
from swgctl.store import entries
from swgctl.store.artifacts import NAMED, Artifact, Store
from swgctl.store.disk import ELSEWHERE, check_root, disk_full, make_folder, remove
from swgctl.store.entries import Entry
from swgctl.store.filesystems import BLOCK, Remote
from swgctl.store.locks import open_plain
from swgctl.store.schema import FILE, KEY_LENGTH, MOST, RECORDS, remedy

Card = Callable[[list[Artifact]], str | None]
Blocks = Generator[bytes, None, None]
CARD = "README.md"
ANOTHER = "swgctl push REF FOLDER   # another folder"
SIGNATURE = "<!-- written by swgctl push -->"  # of a card that another push may replace


def _stored(names: Collection[str], name: str, digest: str) -> str:
    """The name under which a file is stored, of those in its folder."""
    return distinct if (distinct := _distinct(name, digest)) in names else name


def _distinct(name: str, digest: str) -> str:
    """log.txt -> log.3f9a1c2e9b7d.txt, for a file that the digest of its artifact leaves out."""
    stem, suffix = os.path.splitext(name)
    return f"{stem}.{digest[:12]}{suffix}" if name in RECORDS else name


# -- to this machine ---------------------------------------------------------------------------------------------------


def pull(store: Store, url: str, ids: Iterable[str] = (), *, lineage: bool = True) -> list[Artifact]:
    """Copy artifacts of a remote store into a store, all or those of the ids; returns their copies.

    url      of a store, or `URL#ID`
    lineage  bring what they were made from as well
    Raises InputError where one is missing there, and CorruptError where a byte is not what its record says.
    """
    url, _, named = url.partition("#")
    remote = Remote(url)
    if ids := [*ids, *filter(None, [named])]:
        wanted = list({entry.at: entry for entry in (entries.match(remote, id) for id in ids)}.values())
    else:
        wanted, damaged = entries.listed(remote)
        if damaged:
            raise damaged[0]
        if not wanted:
            say(f"{remote.name} has no artifacts")
    for entry in _parents_first(store, remote, wanted) if lineage else wanted:
        held = remote.sizes(str(entry.at))

        def blocks(name: str, entry: Entry = entry, held: dict = held) -> Blocks:
            stored = _stored(held, name, entry.meta["files"][name]["sha256"])
            return (
                _blocks(remote.folder / entry.at / stored) if remote.folder else remote.blocks(f"{entry.at}/{stored}")
            )

        help = f"swgctl push {entry.id} {quoted(remote.name)} --check   # from a store that has it whole"
        if remote.folder:  # which is a store itself
            help = f"{remedy(remote.folder / entry.at)}   # then push it again, from a store that has it whole"
        copied = _receive(store, entry, blocks, f"{remote.name}: {entry.at}", help)
        say(f"{'copied' if copied else 'here already'}: {entry} of {entry.meta['task']['name']}")
    return [Artifact(store.root / entry.at) for entry in wanted]


def fetched(store: Store, url: str) -> Artifact:
    """The artifact of a REF that is a URL, `URL#ID` or `URL`, pulled with its lineage where it is not in the store.

    Without an id it is the one from which no other but an evaluation was made.  Raises InputError where several are.
    """
    base, _, id = url.partition("#")
    if entries.KEY.match(id):  # what a key names is the same everywhere
        with contextlib.suppress(InputError):
            return store.resolve(id)
    remote = Remote(base)
    if not id:
        listed, _ = entries.listed(remote)
        policies = [entry for entry in listed if entry.meta["stage"] != "eval"] or listed
        used = {parent["key"][:KEY_LENGTH] for entry in policies for parent in entry.meta["inputs"].values()}
        last = [entry for entry in policies if entry.id not in used]
        if len(last) != 1:
            names = ", ".join(map(str, last[:NAMED])) + (", ..." if len(last) > NAMED else "")
            which = f"{len(last)} artifacts that none was made from: {names}" if last else "no artifacts"
            raise InputError(
                f"{remote.name} has {which}",
                [f"{quoted(f'{remote.name}#{one.id}')}   # {one}" for one in last[:NAMED]]
                or f"swgctl push REF {quoted(remote.name)}",
            )
        id = last[0].id
    (artifact,) = pull(store, remote.url, [id])
    return artifact


def resolve(store: Store, ref: str | Path) -> Artifact:
    """The artifact of a REF, which may be a URL: `Store.resolve`, `fetched`."""
    ref = os.fspath(ref)
    return fetched(store, ref) if "://" in ref else store.resolve(ref)


def _parents_first(store: Store, remote: Remote, wanted: list[Entry]) -> list[Entry]:
    """The artifacts and all that they were made from, each after its parents.  Raises InputError where one is gone."""
    order: dict[PurePosixPath, Entry] = {}
    open_: set[PurePosixPath] = set()

    def visit(entry: Entry) -> None:
        if entry.at in order:
            return
        if entry.at in open_:
            raise CorruptError(f"{remote.name}: {entry} was made from itself", f"swgctl ls {quoted(remote.name)}")
        open_.add(entry.at)
        for record in entry.meta["inputs"].values():
            at = entries.place(record["stage"], record["task"], record["key"])
            parent = entries.look(remote, at)
            if parent and parent.meta["digest"] == record["digest"]:
                visit(parent)
            elif not _in_store(store, record):
                raise InputError(
                    f"{remote.name} lacks {record['stage']} {at.name} of digest {record['digest'][:KEY_LENGTH]}, from "
                    f"which {entry} was made",
                    f"swgctl pull {quoted(remote.name)} {entry.id} --only",
                )
        order[entry.at] = entry

    for entry in wanted:
        visit(entry)
    return list(order.values())


def _in_store(store: Store, record: dict) -> bool:
    artifact = store.find(record["stage"], record["task"], record["key"])
    return artifact is not None and artifact.digest == record["digest"]


def _receive(store: Store, entry: Entry, blocks: Callable[[str], Blocks], where: str, help: str) -> bool:
    """Publish an artifact in a store by one rename; False if it is there.

    The draft stays where this fails, and its whole files serve the next try.  Raises CorruptError where the bytes are
    not the record's, InputError where the store has another result of the same key.
    """
    meta = entry.meta
    target = store.root / entry.at
    with disk_full(store.root), _alone(store.root, entry.id) as alone:
        if _have(store, meta):
            return False
        draft = store.root / "work" / f"{entry.id}-pull{'' if alone else f'-{secrets.token_hex(4)}'}"
        if draft.is_symlink():
            draft.unlink()
        make_folder(draft, store.root)
        for path in draft.iterdir():
            if path.name not in meta["files"] or not _plain(path):  # of an earlier record, or planted
                remove(path)
        for name, file in meta["files"].items():
            path = draft / name
            if not (path.exists() and path.stat().st_size == file["bytes"] and sha256(path) == file["sha256"]):
                _write(path, blocks(name), file, f"{where}/{name}", help)
        (draft / FILE).write_bytes(entry.raw)
        sync(draft / FILE)
        make_folder(target.parent, store.root)
        try:
            os.rename(draft, target)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(draft, ignore_errors=True)  # somebody has built it meanwhile
            return not _have(store, meta)
    return True


def _plain(path: Path) -> bool:
    """True for a regular file of one name: what is written through a link changes somebody else's file."""
    state = path.lstat()
    return stat.S_ISREG(state.st_mode) and state.st_nlink == 1


def _have(store: Store, meta: dict) -> bool:
    """True if the artifact is in the store.  Raises InputError for another result of its key, CorruptError."""
    artifact = store.find(meta["stage"], meta["task"]["name"], meta["key"])
    if artifact and artifact.digest != meta["digest"]:
        raise InputError(
            f"{artifact.path} is another result of the same key: digest {artifact.digest[:KEY_LENGTH]}, not "
            f"{meta['digest'][:KEY_LENGTH]}",
            "--store DIR   # another store",
        )
    return artifact is not None


def _write(path: Path, blocks: Blocks, file: dict, where: str, help: str) -> None:
    """Write a file of a draft, its bytes compared with the record's.  Raises CorruptError."""
    digest, done = hashlib.sha256(), 0
    with open(path, "wb") as sink, contextlib.closing(blocks), console.downloads(path.name) as update:
        for block in blocks:
            done += len(block)
            if done > file["bytes"]:
                break
            digest.update(block)
            sink.write(block)
            update(done, file["bytes"])
    if (done, digest.hexdigest()) != (file["bytes"], file["sha256"]):
        path.unlink()
        size = f"{done} bytes, recorded {file['bytes']}" if done < file["bytes"] else "more bytes than recorded"
        what = size if done != file["bytes"] else f"sha256 {digest.hexdigest()[:12]}, recorded {file['sha256'][:12]}"
        raise CorruptError(f"{where} is damaged: {what}", help)
    sync(path)


@contextlib.contextmanager
def _alone(root: Path, id: str) -> Iterator[bool]:
    """Exclude other transfers of an artifact; False where the store cannot be written or has no locks."""
    path = root / "locks" / f"{id}.transfer.lock"
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open_plain(path, os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            yield False
            return
        yield True


# -- from this machine -------------------------------------------------------------------------------------------------


def push(
    store: Store, refs: Iterable[str], url: str, *, lineage: bool = True, check: bool = False, card: Card | None = None
) -> list[str]:
    """Copy artifacts to a remote store; returns a REF of each there, that of a URL being `URL#ID`.

    lineage  send what they were made from as well
    check    read what is there already, and replace what is damaged
    card     the text of a repository's README.md, for the Hugging Face Hub
    Raises CorruptError where a file here is damaged, InputError where one cannot be written there, UsageError for a
    folder among the store's artifacts.
    """
    remote = Remote(url)
    if remote.folder:
        check_root(remote.folder, ANOTHER)
    objects = (store.root / "objects").resolve()
    if remote.folder and (there := remote.folder.resolve()) and objects in (there, *there.parents):
        raise UsageError(f"{there} is among the store's artifacts", "swgctl push REF FOLDER   # a folder elsewhere")
    artifacts = store.resolve_all(refs)
    order: dict[tuple[str, str, str], Artifact] = {}
    for artifact in artifacts:
        _with_parents(artifact, order) if lineage else order.setdefault(_name(artifact), artifact)
    if remote.scheme == "hf" and remote.create():
        say(f"made {remote.name}, which is private: open it to others in its settings")
    for artifact in order.values():
        raw = read_regular(artifact.path / FILE, MOST)
        entry = entries.read(raw, str(artifact.path / FILE), f"swgctl verify {quoted(artifact.path)}")
        try:
            sent = _send(store, remote, artifact, entry, check)
        except SwgError as error:
            if error.help == ELSEWHERE and remote.folder:  # it is the folder that cannot be written, and not the store
                raise type(error)(str(error), ANOTHER) from None
            raise
        say(f"{'copied' if sent else 'there already'}: {entry} of {artifact.task}")
    if remote.scheme == "hf" and card and (text := card(artifacts)):
        _write_card(remote, text)
    if remote.folder:
        return [str(Store(remote.folder).place(*_name(artifact))) for artifact in artifacts]
    return [f"{remote.name}#{artifact.id}" for artifact in artifacts]


def _name(artifact: Artifact) -> tuple[str, str, str]:
    return artifact.stage, artifact.task, artifact.key


def _with_parents(artifact: Artifact, order: dict[tuple[str, str, str], Artifact]) -> None:
    """Add an artifact to `order`, after all that it was made from.  Raises InputError where one is gone."""
    if _name(artifact) not in order:
        for role in artifact.meta["inputs"]:
            _with_parents(artifact.parent(role), order)
        order[_name(artifact)] = artifact


def _send(store: Store, remote: Remote, artifact: Artifact, entry: Entry, check: bool) -> bool:
    """Copy one artifact to a remote store; False if it is there whole."""
    if remote.folder:
        if check and (there := Store(remote.folder).find(artifact.stage, artifact.task, artifact.key)):
            there.check_all()
        help = f"swgctl verify {quoted(artifact.path)}"
        return _receive(
            Store(remote.folder), entry, lambda name: _blocks(artifact.path / name), str(artifact.path), help
        )
    if _there(remote, entry, check):
        return False
    artifact.check_all()
    paths = {name: artifact.path / name for name in [*entry.meta["files"], FILE]}
    if remote.scheme == "hf":
        files = {f"{entry.at}/{_distinct(name, file['sha256'])}": name for name, file in entry.meta["files"].items()}
        commit = {stored: paths[name] for stored, name in files.items()} | {f"{entry.at}/{FILE}": paths[FILE]}
        remote.commit(commit, f"{entry} of {artifact.task}")
        for stored, name in files.items():
            _read_back(remote, stored, entry.meta["files"][name])
        return True
    if remote.scheme != "sftp" or remote.sizes(str(entry.at)):  # there in part, or damaged: mended where it is
        _fill(remote, str(entry.at), paths, entry, distinct=remote.scheme != "sftp")
        return True
    ours_alone = artifact.path.is_relative_to(store.root)  # else it is a copy, whose folder is not ours to lock
    with _alone(store.root, entry.id) if ours_alone else contextlib.nullcontext(False) as alone:
        ours = hashlib.sha256(f"{socket.gethostname()} {artifact.path}".encode()).hexdigest()[:8]
        draft = f"work/{entry.id}-push-{ours if alone else secrets.token_hex(4)}"
        if _there(remote, entry, check):  # the one that had the lock has sent it
            return False
        _fill(remote, draft, paths, entry, distinct=False)
        try:
            remote.rename(draft, str(entry.at))
        except InputError:
            if not _there(remote, entry, check):
                raise
            remote.remove(draft)
            return False
    return True


def _there(remote: Remote, entry: Entry, check: bool) -> bool:
    """True if an artifact is in a remote store, of its sizes, and with `check` of its bytes.

    Raises InputError where the store has another result of the same key, NewerError.
    """
    try:
        there = entries.look(remote, entry.at)
    except NewerError:
        raise
    except CorruptError:
        return False
    if there is None:
        return False
    meta = there.meta
    if meta["digest"] != entry.meta["digest"]:
        raise InputError(
            f"{remote.name} has another result of {entry}: digest {meta['digest'][:KEY_LENGTH]}, not "
            f"{entry.meta['digest'][:KEY_LENGTH]}",
            "push to another place, or remove the one that is there",
        )
    held = remote.sizes(str(entry.at))
    stored = {_stored(held, name, file["sha256"]): file for name, file in meta["files"].items()}
    if any(held.get(name) != file["bytes"] for name, file in stored.items()):
        return False
    return not check or all(_holds(remote, f"{entry.at}/{name}", file) for name, file in stored.items())


def _fill(remote: Remote, folder: str, paths: dict[str, Path], entry: Entry, distinct: bool) -> None:
    """Copy an artifact's files into a folder, those that are there whole left out, and the record last.

    distinct  other pushers may write into the same folder, so that some files get their checksum into their name
    """
    held = remote.sizes(folder)
    for name, file in entry.meta["files"].items():
        stored = _distinct(name, file["sha256"]) if distinct else name
        if held.get(stored) != file["bytes"] or not _holds(remote, f"{folder}/{stored}", file):
            remote.put(paths[name], f"{folder}/{stored}")
            _read_back(remote, f"{folder}/{stored}", file)
    with tempfile.TemporaryDirectory() as directory:  # the record may be replaced here meanwhile
        (record := Path(directory) / FILE).write_bytes(entry.raw)
        remote.put(record, f"{folder}/{FILE}")


def _read_back(remote: Remote, path: str, file: dict) -> None:
    if not _holds(remote, path, file):
        raise SwgError(f"{remote.name}: {path} is not what was sent", "the same command sends it again")


def _holds(remote: Remote, path: str, file: dict) -> bool:
    """True if a file of a remote store has the bytes that its record says."""
    digest = hashlib.sha256()
    for block in remote.blocks(path):
        digest.update(block)
    return digest.hexdigest() == file["sha256"]


def _blocks(path: Path) -> Blocks:
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                yield block
    except OSError as error:
        raise CorruptError(f"{path} cannot be read: {error.strerror}", f"swgctl verify {quoted(path.parent)}") from None


def _write_card(remote: Remote, text: str) -> None:
    """Write a repository's README.md, unless it has one that is somebody's own."""
    present = remote.read(CARD)
    if present is not None and SIGNATURE.encode() not in present:
        say(f"{remote.name} has a {CARD} of its own, which stays")
        return
    with tempfile.TemporaryDirectory() as directory:
        (path := Path(directory) / CARD).write_text(f"{text.rstrip()}\n\n{SIGNATURE}\n")
        if present != path.read_bytes():
            remote.commit({CARD: path}, "Model card")
