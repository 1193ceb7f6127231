"""The commands on tasks and data: describe a task, fetch and verify its file, and survey what is in it."""

import json
import os
import shutil
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from swgctl import console, tasks
from swgctl.console import say
from swgctl.errors import CorruptError, InputError, SwgError, UsageError
from swgctl.files import write_atomically
from swgctl.tasks import Task, published, quoted, registry
from swgctl.tasks.cache import cache_folder, digest, make_parent, pin, pin_of, pinned, refuse_link
from swgctl.tasks.fidelity import fidelity
from swgctl.tasks.task import Facts

if TYPE_CHECKING:
    from swgctl.tasks.downloads import Download

REWARDS = {
    "none": "as recorded",
    "minus_one": "r - 1",
    "return_range": "1000 r / (best - worst return)",
}

STANDARD = {"sd": "", "se": " (standard error)"}  # what a paper's spread is
LABELS = {
    "dimensions": "observation, action",
    "not_finite": "values",
    "ranges": "least, greatest",
    "lengths": "least, mean, greatest",
    "returns": "least, mean, greatest",
    "scores": "least, mean, greatest",
    "unknown_next": "rows that a critic does not learn from",
    "assumed": "what the file does not say",
}


# -- tasks -------------------------------------------------------------------------------------------------------------


def ls(as_json: bool, family: str | None = None) -> None:
    """List the tasks, or those of a family: a table on stderr, and the names on stdout unless that is a terminal."""
    named = [tasks.get(name) for name in tasks.names(family)]
    if as_json:
        for task in named:
            print(json.dumps(describe(task)))
        return
    columns = ["task", "environment", "horizon", "obs/act", "rows", "rewards", "random", "expert", *quoted.ours("swg")]
    console.table("tasks", [*columns, "recipe"], [_row(task) for task in named])
    if not sys.stdout.isatty():
        for task in named:
            print(task.name)


def _row(task: Task) -> list[str]:
    facts, paper = registry.facts(task), quoted.scores(task.name)
    return [
        task.name,
        task.environment,
        str(task.horizon),
        "/".join(map(str, facts.dimensions or ())),
        f"{facts.rows:,}" if facts.rows else "",
        task.rewards,
        *([f"{reference:,.1f}" for reference in task.references] if task.references else ["", ""]),
        *(f"{paper[method][0]:.1f}" if method in paper else "" for method in quoted.ours("swg")),
        task.recipe,
    ]


def show(name: str, environment: str | None, as_json: bool) -> None:
    """Print the description of a task, as YAML or as one JSON object, on stdout."""
    description = describe(_without_download(name, environment))
    if as_json:
        print(json.dumps(description))
    else:
        print(yaml.safe_dump(description, sort_keys=False, width=10_000, allow_unicode=True), end="")


def describe(task: Task) -> dict:
    """A task's fields, facts and quoted scores.  Reads no data: the checksum is the one kept beside the file."""
    facts, path = registry.facts(task), tasks.at_hand(task)
    papers = {name: quoted.scores(task.name, name) for name in quoted.papers()}
    return {
        "task": task.name,
        "source": task.source,
        "file": path and str(path),
        "sha256": (sha256 := pin(path) if path else None),
        "checksum": _checksum(task, sha256),
        "rows": facts.rows,
        "dimensions": facts.dimensions and dict(zip(("observation", "action"), facts.dimensions, strict=True)),
        "environment": task.environment,
        "adapter": _adapter(task.environment),
        "fidelity": fidelity(task.environment),
        "horizon": task.horizon,
        "terminal": facts.terminal,
        "rewards": {"transform": task.rewards, "means": REWARDS[task.rewards]},
        "references": task.references and dict(zip(("random", "expert"), task.references, strict=True)),
        "scores": {
            quoted.label(name): {
                method: score if spread is None else f"{score} ± {spread}{STANDARD[quoted.spread(name)]}"
                for method, (score, spread) in scores.items()
            }
            for name, scores in papers.items()
            if scores
        }
        | {
            f"{quoted.label(name)}, the mean of its family": averages
            for name, scores in papers.items()
            if not scores and (averages := quoted.averages(task.name, name))
        },
        "rho": quoted.guidance_scale(task.name),
        "recipe": task.recipe,
    }


def _checksum(task: Task, sha256: str | None) -> str | None:
    """A line on the checksum of a task's download; None for data that is made here or a person's own."""
    source, where = tasks.source_of(task)
    return published.text(source.download(where).path, sha256) if source.download else None


def _without_download(name: str, environment: str | None = None) -> Task:
    """The task of a name.  Raises InputError for a Minari set that is elsewhere: a look downloads nothing."""
    if name.startswith("minari:"):
        from swgctl.tasks import minari_folder

        if minari_folder.local(name.removeprefix("minari:")) is None:
            raise InputError(f"{name} is not on this machine", f"swgctl data fetch {console.quoted(name)}")
    return tasks.get(name, environment)


def _adapter(environment: str) -> str:
    if environment.startswith("swgctl/"):
        return "swgctl.tasks.adapters: D4RL's observation, reward, episode ends and horizon"
    if environment.startswith("minari:"):
        return "the environment that the data set records, flattened"
    return "none: the environment as gymnasium makes it"


# -- data --------------------------------------------------------------------------------------------------------------


def fetch(names: list[str], trust: bool = False) -> None:
    """Bring the files of tasks to this machine, and print their paths.

    trust  takes other files than the published ones, and records that
    """
    from swgctl.tasks import downloads

    for task in [tasks.get(name) for name in names]:  # all names are checked before the first of D4RL's downloads
        with console.downloads(f"fetching {task.name}") as update:
            if trust:
                downloads.fetch(_download(task), say, update, trust=True)
            path, _ = tasks.locate(task, say, update)
        print(path)


def sources(name: str) -> None:
    """Show where a task's file would come from, asking each source without downloading; print the first that has it.

    Raises UsageError for data that is not downloaded, InputError where no source has the file.
    """
    from swgctl.tasks import downloads

    task = tasks.get(name)
    download = _download(task)
    here = downloads.find(download)
    say(f"{task.name}: {download.name}, {_checksum(task, None)}")
    have = []
    if here:
        sha256 = pin(here) or digest(here)
        say(f"  {here}: here, {published.text(download.path, sha256)}")
        have += [str(here)] if published.standing(download.path, sha256) else []
    for url, answer, fits in downloads.sources(download):
        say(f"  {url}: {answer}")
        have += [url] if fits else []
    if not have:
        raise InputError(f"no source has {download.name}", f"export {download.variable}=URL   # of a mirror")
    print(have[0])


def _download(task: Task) -> "Download":
    """The download of a task's data.  Raises UsageError where that is made here, or a person's own."""
    source, where = tasks.source_of(task)
    if source.download is None:
        raise UsageError(
            f"{task.name} downloads no file: its data is made here", f"swgctl data fetch {tasks.argument(task)}"
        )
    return source.download(where)


def verify(names: list[str]) -> None:
    """Compare files with the checksums kept beside them and with the published ones, and print the paths of the sound.

    names  of tasks; none: every file of the cache folder that has a checksum
    Raises CorruptError where any is damaged or another one than was published, after all have been read; InputError for
    a task without a file, and for a file that may not be read.
    """
    from swgctl.tasks import downloads

    known: dict[Path, tuple[str, str]] = {}  # a file -> its path in the table of published ones, a task that has it
    for task in map(_without_download, names or tasks.names()):
        source, where = tasks.source_of(task)
        path = tasks.at_hand(task) if source.download else None
        if path and source.download and path == downloads.find(download := source.download(where)):
            known[path] = download.path, task.name
    if names:
        files = {name: tasks.at_hand(tasks.get(name)) for name in names}
        if missing := [name for name, path in files.items() if path is None]:
            fetch_them = " ".join(["swgctl data fetch", *map(console.quoted, missing)])
            raise InputError(f"no file of {', '.join(missing)} is here", fetch_them)
        paths = [path for path in files.values() if path]
    else:
        paths = [kept.with_suffix("") for kept in sorted(cache_folder().rglob("*.sha256"))]
        say(f"{cache_folder()}: {len(paths)} file(s) with a checksum")
    whole, damaged = [], []
    for path in paths:
        try:
            if not os.path.isfile(path):
                raise CorruptError(f"{path} is gone, but its checksum is here", f"rm {console.quoted(pin_of(path))}")
            kept = pin_of(path).exists()
            actual = pinned(path) if kept else digest(path)
            here = path.relative_to(cache_folder()).as_posix() if path.is_relative_to(cache_folder()) else ""
            if path in known or kept:
                place, task_name = known.get(path, (here, ""))
                published.check(place, path, actual, published.advice(task_name or "TASK", path, not here))
                say(f"{published.standing(place, actual)}: {path}")
            else:
                say(f"{path}: no checksum is kept beside it to compare with")
            whole.append(path)
        except (CorruptError, InputError) as error:
            say(f"damaged: {error}")
            damaged.append(error)
    if damaged:
        raise CorruptError(f"{len(damaged)} of {len(paths)} file(s) are damaged: {damaged[0]}", damaged[0].help)
    for path in whole:
        print(path)


def bring(name: str, file: Path, trust: bool = False) -> None:
    """Adopt a file that was downloaded by other means as the data of a D4RL task; prints its path in the cache.

    trust  takes another file than the published one, and records that
    Raises InputError where its content is not that task's, or where the task has another file already, which stays.
    """
    from swgctl.tasks import environments, transitions

    task = tasks.get(name)
    download = _download(task)
    if not download.name.endswith(".hdf5"):
        raise UsageError(
            f"{task.name} is not D4RL's: name the folder that holds its files, such as that of {console.quoted(file)}",
            f"SWGCTL_DATA=DIR swgctl data fetch {task.name}",
        )
    data = transitions.read(file, clip_actions=True, horizon=task.horizon)
    facts = registry.facts(task)
    as_file, remark = f"swgctl critic {console.quoted(file)} --env", "   # as a data set of your own"
    if facts.dimensions:
        environments.check_dimensions(data, facts.dimensions, task.name, f"{as_file} ENV_ID{remark}")
    if facts.rows and not _agree(len(data), facts.rows):
        raise InputError(
            f"{file} has {len(data):,} rows, D4RL's {task.name} {facts.rows:,}",
            f"{as_file} {task.environment}{remark}",
        )
    target, content = cache_folder() / download.path, digest(file)
    refuse_link(target)
    if not trust:
        again = f"swgctl data import {task.name} {console.quoted(file)} --trust   # to take it, recorded as such"
        published.check(download.path, file, content, [f"swgctl data sources {task.name}   # where to get it", again])
    if target.exists():
        if pinned(target) != content:
            raise InputError(
                f"{task.name} has another file already: {target}",
                f"rm {console.quoted(target)} {console.quoted(pin_of(target))}",
            )
    else:
        try:
            make_parent(target)
            write_atomically(target, lambda draft: shutil.copyfile(file, draft))
        except OSError as error:
            raise SwgError(f"{target} cannot be written: {error.strerror}", "make room, or set SWGCTL_CACHE") from None
        pinned(target)
    if trust:
        published.trust(download.path, content)
    say(f"{task.name}: {published.text(download.path, content)}")
    print(target)


def export(name: str, environment: str | None, identity: str | None, clip_actions: bool) -> None:
    """Write a task's data as a Minari data set, and print its id."""
    from swgctl.tasks import minari_export, transitions

    task = tasks.get(name, environment)
    with console.downloads(f"fetching {task.name}") as update:
        path, _ = tasks.locate(task, say, update)
    data = transitions.read(path, clip_actions=clip_actions, horizon=task.horizon)
    print(minari_export.export(task, data, identity, say))


def info(name: str, environment: str | None, as_json: bool) -> None:
    """Print the survey of a task's file, or of a file, on stdout: as lines, or as one JSON object."""
    contents = survey(name, environment)
    if as_json:
        print(json.dumps(contents))
        return
    for key, value in contents.items():
        key = f"{key} ({LABELS[key]})" if key in LABELS else key
        if isinstance(value, dict):
            print(f"{key}:")
            for inner, text in value.items():
                print(f"  {inner}: {_text(text)}")
        else:
            print(f"{key}: {_text(value)}")


def survey(name: str, environment: str | None) -> dict:
    """`transitions.survey` of a task's file, or of a file, with scores and a comparison to what D4RL published.

    Raises InputError where the file is not on this machine: a look downloads nothing.
    """
    from swgctl.tasks import transitions

    file = Path(name)
    task = None if os.path.isfile(file) and environment is None else _without_download(name, environment)
    path = tasks.at_hand(task) if task else file
    if task and path is None:
        raise InputError(f"the data of {task.name} is not on this machine", f"swgctl data fetch {tasks.argument(task)}")
    assert path
    facts = registry.facts(task) if task else Facts()
    contents = transitions.survey(path, task.horizon if task else None)
    problems = contents.pop("problems")
    result: dict = {"task": task and task.name, "file": str(path), "sha256": (sha256 := digest(path))}
    result |= ({"checksum": _checksum(task, sha256)} if task else {}) | contents
    if task and environment and len(contents["dimensions"]) == 2:
        problems += _misfits(contents["dimensions"], task.environment)
    if task and task.references and "returns" in contents:
        result["scores"] = [round(tasks.normalized_score(task, r), 2) for r in contents["returns"]]
    if task and tasks.source_of(task)[0].download:
        wrong = []
        if tuple(contents["dimensions"]) != facts.dimensions:
            wrong.append(f"dimensions {contents['dimensions']}, published {facts.dimensions}")
        if facts.rows and not _agree(contents["rows"], facts.rows):
            wrong.append(f"rows {contents['rows']:,}, published {facts.rows:,}")
        rows = f"rows {facts.rows:,}" if facts.rows else "no rows"
        result["published"] = {"rows": facts.rows, "dimensions": facts.dimensions, "agrees": not wrong}
        say(f"{task.name}: " + ("; ".join(wrong) if wrong else f"agrees with what was published ({rows})"))
    return result | {"problems": problems}


def _misfits(dimensions: tuple[int, int], environment: str) -> list[str]:
    """Why data of these dimensions (O, A) does not fit an environment, as far as that can be made here."""
    from swgctl.tasks import environments

    try:
        with closing(environments.make(environment)) as world:
            return environments.misfits(dimensions, environments.dimensions(world), environment)
    except SwgError as error:
        return [str(error)]


def _agree(rows: int, published: int) -> bool:
    """Equality within 1 %: D4RL published most numbers of rows rounded to powers of ten."""
    return abs(rows - published) <= 0.01 * published


def _text(value) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
