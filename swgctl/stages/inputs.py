"""The artifacts that a stage starts from: named by --from, else found by lineage, shell or uniqueness."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from swgctl.config import GUIDE, EvalSettings, Settings, Stage, a, methods, stages
from swgctl.console import quoted, say, shown
from swgctl.errors import InputError, SwgError, UsageError, nearest
from swgctl.stages.job import locate_source
from swgctl.store import Artifact, Store, remote
from swgctl.tasks import Task, argument, named, names


def by_role(row: Stage, sources: Iterable[str]) -> dict[str, list[str]]:
    """The REFs of each role, from texts ROLE=REF; all of primary roles stand under the first, as they were written.

    Raises UsageError for an unknown role, and for two REFs of a role that takes one.
    """
    refs: dict[str, list[str]] = {}
    for text in sources:
        role, equals, ref = text.partition("=")
        if not equals or (role not in row.inputs and Path(text).exists()):
            role, ref = row.primary or "", text
        if role not in row.inputs:
            raise UsageError(
                f"{row.name} has no input '{role}'{nearest(role, row.inputs)}",
                f"swgctl {row.name} --from {row.primary}=REF" if row.primary else f"swgctl {row.name} TASK",
            )
        if role in row.primaries and row.primary:
            role, ref = row.primary, text
        refs.setdefault(role, []).append(ref)
        many = any(row.inputs[one].many for one in row.primaries) if role in row.primaries else row.inputs[role].many
        if len(refs[role]) > 1 and not many:
            what = " or ".join(row.primaries) if role in row.primaries else role
            raise UsageError(
                f"{row.name} takes one {what}, and --from names two",
                f"swgctl {row.name} --from {'' if role in row.primaries else f'{role}='}{refs[role][0]}",
            )
    return refs


def choose(store: Store, row: Stage, refs: list[str], task: str | None) -> tuple[list[Artifact], str]:
    """The artifacts of one of a stage's primary roles, and the reason for the choice, which is never merely the newest.

    Raises InputError where none fits, or several do; then `help` has a line to paste for each.  Raises UsageError where
    none fits a stage that could start from a task.
    """
    fit = tuple(stage for stages in row.primaries.values() for stage in stages)
    if not refs:
        return _fitting(store, row, "", fit, task)
    named = [_named(store, row, *_primary(row, text, fit), task) for text in refs]
    many = {stage for input in row.inputs.values() if input.many for stage in input.stages}
    if len(named) > 1 and not {one.stage for one in named} <= many:
        single = next(one for one in named if one.stage not in many)
        raise UsageError(
            f"{row.name} takes several of {', '.join(map(a, many))}, and {a(single.stage)} by itself",
            f"swgctl {row.name} --from {single.id}",
        )
    return list({one.key: one for one in named}.values()), "named by --from"


def _primary(row: Stage, text: str, fit: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    """The role that a text of `by_role` names, "" for none, the stages that fit it, and its REF."""
    role, equals, ref = text.partition("=")
    return (role, row.primaries[role], ref) if equals and role in row.primaries else ("", fit, text)


def complete(
    store: Store, row: Stage, settings: Settings, refs: dict[str, list[str]], primary: list[Artifact]
) -> dict[str, Artifact]:
    """The artifact of every role that is named or that the settings call for; the second of several is ROLE.2.

    A role that is not named is filled from the lineage of the primary input (`Input.behind`), else as `choose` does.
    """
    inputs: dict[str, Artifact] = {}
    lineage = primary[0].ancestors() if len(row.inputs) > 1 and primary else {}
    of_primary = next((role for role, fit in row.primaries.items() if primary and primary[0].stage in fit), None)
    for role, input in row.inputs.items():
        if role == of_primary:
            artifacts = primary
        elif input.primary:
            continue
        elif role in refs:
            artifacts = [_named(store, row, role, input.stages, ref, None) for ref in refs[role]]
        elif not input.when(settings, of_primary):
            continue
        elif input.behind and (ancestor := next((lineage[stage] for stage in input.stages if stage in lineage), None)):
            artifacts = [ancestor]
        else:
            artifacts, why = _fitting(store, row, role, input.stages, primary[0].task if primary else None, primary)
            say(f"{row.name}: {role} {artifacts[0].id} ({artifacts[0].task}), {why}")
        inputs |= {role if i == 1 else f"{role}.{i}": artifact for i, artifact in enumerate(artifacts, 1)}
    return inputs


def _named(store: Store, row: Stage, role: str, fit: tuple[str, ...], ref: str, task: str | None) -> Artifact:
    """The artifact of a REF.  Raises InputError unless it fits the role ("": a primary one) and the task, if given."""
    artifact = remote.resolve(store, ref)
    if artifact.stage not in fit:
        nouns = " or ".join(map(a, fit))
        needs = f"starts from {nouns}" if not role else f"takes {nouns} for its role {role}"
        # One step too early in the chain: the stage in between turns it into one that fits.
        between = next((stage for stage in fit if artifact.stage in _starts(stage)), None)
        command = f"{between} --from {ref}" if between else f"ls --stage {fit[0]}"
        raise InputError(f"{row.name} {needs}; {ref} is {a(artifact.stage)}", f"swgctl {command}{store.option}")
    if task and artifact.task != task:
        listed = f"swgctl ls --task {quoted(task)}{store.option}"
        raise InputError(f"{ref} is of the task {artifact.task}, not {task}", listed)
    return artifact


def _starts(stage: str) -> tuple[str, ...]:
    """The stages whose artifacts fit a stage's primary roles."""
    return tuple(one for fit in stages()[stage].primaries.values() for one in fit)


def _fitting(
    store: Store, row: Stage, role: str, fit: tuple[str, ...], task: str | None, primary: Sequence[Artifact] = ()
) -> tuple[list[Artifact], str]:
    """The artifact that this shell made last, else the only one that fits; and which of the two it is.

    primary  the stage's primary inputs, where it is another role that is to be filled
    """
    option = "".join(f"--from {one.id} " for one in primary) + (f"--from {role}=" if role else "--from ")
    command = f"{row.name} METHOD" if row is GUIDE else row.name
    only = store.only(f"{command} {option}", *fit, task=task)
    if only is None:
        raise _missing(store, row, role, fit, task, primary)
    return [only[0]], only[1]


def _missing(
    store: Store, row: Stage, role: str, fit: tuple[str, ...], task: str | None, primary: Sequence[Artifact]
) -> SwgError:
    """The error of a stage for which the store has no artifact that fits, with the command that makes one."""
    starts = row.optional and not role  # from a task, which is not named
    needs = f"{row.name} needs {'a task, or ' if starts else ''}{' or '.join(map(a, fit))}"
    if task and not primary and not named(task) and task not in (known := store.tasks()):
        near = nearest(task, [*known, *names()])  # the task's name is wrong, rather than its input missing
        return InputError(
            f"{needs} of {shown(task)}, of which {store.root} has nothing{near}", f"swgctl ls{store.option}"
        )
    stage = row if starts else stages()[fit[0]]
    words = argument(Task.from_json(primary[0].meta["task"])) if primary else quoted(task) if task else "TASK"
    before = _starts(stage.name)
    first = stage.name
    if stage.starts:
        first = f"{stage.name} {words}"
    elif primary and primary[0].stage in before:
        first = f"{stage.name} --from {primary[0].id}"
    elif task and any(store.directories(one, task) for one in before):
        first = f"{stage.name} --task {words}"
    elif words != "TASK" and stage.name in methods()[EvalSettings.model_fields["method"].default].stages:
        first = f"run {words} --until {stage.name}"
    failure = UsageError if starts else InputError
    return failure(
        f"{needs}{f' of {task}' if task else ''}, and {store.root} has none", f"swgctl {first}{store.option}"
    )


def data_of(artifact: Artifact) -> str:
    """The sha256 of the data file that an artifact learnt from.  Raises InputError where an ancestor is gone."""
    return _reader(artifact).meta["source"]["sha256"]


def locate_data(artifact: Artifact) -> tuple[Path, str]:
    """The data file that an artifact learnt from, synthetic or its task's, and its sha256.

    Raises InputError where it has changed or is gone, CorruptError.
    """
    reader = _reader(artifact)
    digest = reader.meta["source"]["sha256"]
    if "synth" in reader.meta["inputs"]:
        return reader.parent("synth").file("data.hdf5"), digest
    return locate_source(Task.from_json(reader.meta["task"]), reader)


def check_measured(artifact: Artifact, stage: str) -> None:
    """Refuse an artifact of synthetic data, for a stage that takes every member's rows for all.  Raises InputError."""
    if "synth" in _reader(artifact).meta["inputs"]:
        task = Task.from_json(artifact.meta["task"])
        raise InputError(
            f"{stage} takes all rows for every seed, and {artifact.id} learnt from synthetic rows, each of one seed",
            f"swgctl {stage} --from REF   # a denoiser of: swgctl critic {argument(task)}",
        )


def check_drawn(candidates: Artifact, task: Task, source: str, help: str) -> None:
    """Refuse candidates of another task or environment, or of other data than that whose sha256 is `source`.

    Those at states of the data are the same for all environments that evaluate it.  Raises InputError.
    """
    of_states = candidates.params["of"] == "states"
    for what, theirs, ours in (
        ("of the task", candidates.task, task.name),
        ("of", task.environment if of_states else candidates.meta["task"]["environment"], task.environment),
        ("of data whose sha256 is", candidates.meta["source"]["sha256"][:12], source[:12]),
    ):
        if theirs != ours:
            raise InputError(f"the candidates {candidates.id} are {what} {theirs}, not {ours}", help)


def check_states(candidates: Artifact) -> None:
    """Refuse candidates that are not at states of the data themselves.  Raises InputError."""
    if candidates.params["of"] != "states":
        (denoiser,) = candidates.meta["inputs"].values()
        raise InputError(
            f"the candidates {candidates.id} are of next states, for critics",
            f"swgctl candidates --from {denoiser['key'][:16]} --of states",
        )


def _reader(artifact: Artifact) -> Artifact:
    """The artifact, first of the line of primary inputs, whose stage read a data file or a synthetic set."""
    while (role := stages()[artifact.stage].filled(artifact.meta["inputs"])) not in (None, "synth"):
        assert role
        artifact = artifact.parent(role)
    return artifact
