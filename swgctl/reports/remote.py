"""What a remote store holds, as `ls` lists it, and the model card of policies that are pushed to a hub."""

import json
import sys
from pathlib import Path

from swgctl import console
from swgctl.config import EVAL, a
from swgctl.console import say
from swgctl.errors import InputError
from swgctl.evaluation.groups import Group, gather
from swgctl.evaluation.protocols import policy_label, primary_role, protocol
from swgctl.files import line
from swgctl.reports import look
from swgctl.seeds import ranges
from swgctl.store import Artifact, entries
from swgctl.store.filesystems import Remote
from swgctl.tasks import Task, published

LOADED = {stage for role in ("diffuse", "behaviour", "guide") for stage in EVAL.primaries[role]}  # by load_policy


def ls(url: str, stage: str | None = None, task: str | None = None, as_json: bool = False) -> None:
    """List the artifacts of a remote store; a damaged record is raised after all others.

    The table goes to stderr; unless stdout is a terminal, a REF of each, `URL#ID`, goes there.
    """
    remote = Remote(url)
    listed, damaged = entries.listed(remote, stage, task)
    lines, rows = [], []
    for entry in listed:
        artifact = Artifact(Path(entry.at))
        vars(artifact)["meta"] = entry.meta  # which is not on this machine
        ref = str(remote.folder / entry.at) if remote.folder else f"{remote.name}#{entry.id}"
        lines.append(line(look.brief(artifact) | {"path": ref}) if as_json else ref)
        rows.append(look.row(artifact))
    if rows and not as_json:
        console.table(remote.name, ["id", "stage", "task", "seeds", "size", "made", "from"], rows)
    elif not rows and not damaged:
        say(f"{remote.name} has no artifacts")
    if damaged:
        raise damaged[0]
    if lines and (as_json or not sys.stdout.isatty()):
        print("\n".join(lines))


# -- model card --------------------------------------------------------------------------------------------------------


def card(url: str, artifacts: list[Artifact], licence: str) -> str | None:
    """The README.md of a repository of policies, in Markdown with the Hub's front matter; None without a policy.

    artifacts  those that are pushed: policies, and evaluations, whose policies count as well
    licence    an identifier of the Hub, such as mit
    """
    evaluations = [one for one in artifacts if one.stage == EVAL.name]
    fit = {stage for stages in EVAL.primaries.values() for stage in stages}
    policies = {one.digest: one for one in artifacts if one.stage in fit}
    for one in evaluations:
        role = primary_role(one)
        assert role
        policies.setdefault((policy := one.parent(role)).digest, policy)
    if not policies:
        return None
    groups = gather(evaluations)
    tasks = list(dict.fromkeys(one.task for one in policies.values()))
    head = [
        "---",
        f"license: {json.dumps(licence)}",
        "library_name: swgctl",
        "pipeline_tag: reinforcement-learning",
        "tags: [offline-reinforcement-learning, diffusion-policy, swgctl]",
        "---",
        "",
        f"# {'Policies' if len(policies) > 1 else 'A policy'} for {', '.join(tasks)}",
        "",
        "Made with swgctl: every file's SHA-256 is in the `artifact.json` beside it.",
    ]
    sections = ["\n".join(_policy(url, policy, groups)) for policy in policies.values()]
    return "\n".join(head) + "\n\n" + "\n\n".join(sections) + f"\n\n## Licence\n\n{_cell(licence)}\n"


def _policy(url: str, policy: Artifact, groups: list[Group]) -> list[str]:
    """The section of one policy: what it is, how to load it, its scores, its lineage."""
    own = [group for group in groups if policy.digest in group.policies.values()]
    task = Task.from_json(policy.meta["task"])
    text = [
        f"## {a(policy.stage).partition(' ')[2].capitalize()} {policy.id}",
        "",
        f"- task: `{policy.task}`, environment `{_code(task.environment)}`",
        f"- method: {_cell(_method(policy, own))}",
        f"- seeds: {ranges(policy.seeds)}",
        "",
        *_loading(url, policy),
        "",
        "### Scores",
        "",
    ]
    for group in own:
        text += [*_scores(group), ""]
    if not own:
        text += ["No evaluation was pushed with it.", ""]
    return [*text, "### Lineage", "", *_lineage(policy)]


def _method(policy: Artifact, groups: list[Group]) -> str:
    if groups:
        labels = [cell["policy"] for cell in groups[0].cells if cell["seeds"]]
        return ", ".join(dict.fromkeys(labels))
    return policy_label(protocol(policy), {"rho": 1.0 if policy.stage != "behaviour" else 0.0, "candidates": 1})


def _loading(url: str, policy: Artifact) -> list[str]:
    ref = f"{url}#{policy.id}"
    if policy.stage in LOADED:
        return ["```python", "import swgctl", "", f"policy = swgctl.load_policy({json.dumps(ref)})", "```"]
    return ["```sh", f"swgctl eval --from {console.quoted(ref)}", "```"]


def _scores(group: Group) -> list[str]:
    """The cells of a group with their intervals, and the protocol that they were measured under."""
    measure = group.measure
    rows = [
        f"| {measure}, mean | 95 % interval | over | seeds | episodes a seed | policy | rho | M | T |",
        "|---:|---|---|---:|---:|---|---:|---:|---:|",
    ]
    for cell in group.cells:
        if cell["seeds"]:
            low, high = cell[f"{measure}_ci95"]
            where = ("" if cell[name] is None else f"{cell[name]:g}" for name in ("rho", "candidates", "temperature"))
            numbers = f"| {cell[f'{measure}_mean']:.1f} | {low:.1f} to {high:.1f} | {cell['interval_over']} "
            counts = f"| {cell['seeds']} | {cell['episodes']} "
            rows.append(f"{numbers}{counts}| {' | '.join((_cell(cell['policy']), *where))} |")
    settings = [f"{name}: {json.dumps(value)}".replace("`", "'") for name, value in sorted(group.settings.items())]
    details = ["<details><summary>Protocol: all settings behind these numbers</summary>", ""]
    return [*rows, "", *details, "```text", *settings, "```", "", "</details>"]


def _lineage(policy: Artifact) -> list[str]:
    try:
        chain = policy.ancestors().values()
    except InputError as error:
        return [f"Incomplete: {_cell(error)}"]
    lines = [f"- {one.stage} `{one.id}`, seeds {ranges(one.seeds)}, digest `{one.digest[:16]}`" for one in chain]
    sources = {
        one.meta["source"]["sha256"]: published.remark(one.meta["source"]) for one in chain if one.meta["source"]
    }
    kind, _, name = Task.from_json(policy.meta["task"]).source.partition(":")
    data = f"{kind}:{name if kind != 'file' else Path(name).name}"  # not the folders of the machine
    return lines + [f"- data `{_code(data)}`, sha256 `{digest}`{sources[digest]}" for digest in sorted(sources)]


def _cell(text: object) -> str:
    """Text that neither ends a cell of a Markdown table nor is read as HTML."""
    plain = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return plain.replace("|", "\\|").replace("`", "'")


def _code(text: str) -> str:
    return " ".join(text.split()).replace("`", "'")
