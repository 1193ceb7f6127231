"""Which artifacts a stage starts from."""

from collections.abc import Iterable
from pathlib import Path

from swgctl.config import Settings, Stage, a, stages
from swgctl.errors import InputError, UsageError, nearest
from swgctl.seeds import ranges
from swgctl.store import Artifact, Store


def by_role(row: Stage, sources: Iterable[str]) -> dict[str, list[str]]:
    """The REFs of each role, from texts REF, which is the primary one's, and ROLE=REF.

    Raises UsageError for a role that the stage does not have, and for two REFs of a role that takes one.
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
        refs.setdefault(role, []).append(ref)
        if len(refs[role]) > 1 and not row.inputs[role].many:
            raise UsageError(f"{row.name} takes one {role}, and --from names two", f"--from {role}={refs[role][0]}")
    return refs


def choose(store: Store, row: Stage, refs: list[str], task: str | None) -> tuple[list[Artifact], str]:
    """The artifacts of a stage's primary role, and why those.  Never merely the newest.

    Raises InputError when none fits, or several do; then `help` has a line to paste for each.
    """
    assert row.primary
    if refs:
        return [_named(store, row, row.primary, ref, task) for ref in refs], "named by --from"
    return _fitting(store, row, row.primary, task)


def complete(
    store: Store, row: Stage, settings: Settings, refs: dict[str, list[str]], primary: list[Artifact]
) -> dict[str, Artifact]:
    """Every role of the stage that its settings call for or that is named, filled: the second of several is ROLE.2.

    What is not named comes from what the primary input was made from, else as `choose` chooses.
    """
    inputs: dict[str, Artifact] = {}
    lineage = primary[0].ancestors() if len(row.inputs) > 1 and primary else {}
    for role, one in row.inputs.items():
        if role == row.primary:
            given = primary
        elif role in refs:
            given = [_named(store, row, role, ref, None) for ref in refs[role]]
        elif not one.when(settings):
            continue
        elif made := next((lineage[stage] for stage in one.stages if stage in lineage), None):
            given = [made]
        else:
            given, _ = _fitting(store, row, role, primary[0].task if primary else None)
        inputs |= {role if i == 1 else f"{role}.{i}": artifact for i, artifact in enumerate(given, 1)}
    return inputs


def _named(store: Store, row: Stage, role: str, ref: str, task: str | None) -> Artifact:
    """Raises InputError unless the artifact fits the role, and is of the task where one is asked for."""
    artifact, fit = store.resolve(ref), row.inputs[role].stages
    if artifact.stage not in fit:
        wanted = " or ".join(map(a, fit))
        needs = f"starts from {wanted}" if role == row.primary else f"takes {wanted} for its role {role}"
        # one step too early in the chain: the stage in between makes what is needed from it
        between = next((stage for stage in fit if artifact.stage in _starts(stage)), None)
        way = f"{between} --from {ref}" if between else f"ls --stage {fit[0]}"
        raise InputError(f"{row.name} {needs}; {ref} is {a(artifact.stage)}", f"swgctl {way}{store.option}")
    if task and artifact.task != task:
        raise InputError(f"{ref} is of the task {artifact.task}, not {task}", f"swgctl ls --task {task}{store.option}")
    return artifact


def _starts(stage: str) -> tuple[str, ...]:
    """The stages that a stage starts from."""
    row = stages()[stage]
    return row.inputs[row.primary].stages if row.primary else ()


def _fitting(store: Store, row: Stage, role: str, task: str | None) -> tuple[list[Artifact], str]:
    """What this shell made last, else the only artifact that fits."""
    fit = row.inputs[role].stages
    last = store.current(*fit)
    if last and (task is None or last.task == task):
        return [last], "which this shell made last"
    fitting = [artifact for stage in fit for artifact in store.artifacts(stage, task)]
    if len(fitting) == 1:
        return fitting, "the only one that fits"
    of, option = f" of {task}" if task else "", "--from " if role == row.primary else f"--from {role}="
    if not fitting:
        first = fit[0] if stages()[fit[0]].primary else f"{fit[0]} {task or 'TASK'}"
        needs = f"{row.name} needs {' or '.join(map(a, fit))}{of}"
        raise InputError(f"{needs}, and {store.root} has none", f"swgctl {first}{store.option}")
    raise InputError(
        f"{len(fitting)} {' or '.join(fit)} artifacts{of} fit, and this shell made none of them",
        [
            f"swgctl {row.name} {option}{one.id}{store.option}   # {one.task}, seeds {ranges(one.seeds)}"
            for one in fitting
        ],
    )
