"""Protocols of evaluations, and the names of what they evaluate."""

import re
from collections.abc import Iterator, Mapping
from typing import NoReturn

from swgctl.config import EVAL, Method, method_named, methods, stages
from swgctl.console import quoted, shown
from swgctl.errors import CorruptError, InputError
from swgctl.store import Artifact

CELLS = ("eval.rho", "eval.resample", "eval.temperature")
ALGORITHMS = {"td3bc": "TD3+BC", "iql": "IQL"}  # of agents, by `agent.algo`
DATA, UNGUIDED, GUIDED, DYNAMICS = "data", "unguided", "guided", "dynamics model"  # from which an agent learns
CONTINUOUS = "guided, continuous"  # the last sets of many, `agent.keep` > 1


def protocol(evaluation: Artifact) -> dict:
    """Everything that determines an evaluation's numbers except seeds and cells, by dotted name; of a policy likewise.

    The settings of the chain of primary inputs are prefixed by their stage.  Those of another input, such as a critic
    that ranks candidates, are prefixed by its role (`Input.apart`); where its child descends from an artifact of the
    same stage in the chain, only those that differ from that one are listed.  What it was made from itself follows
    under its path of roles.  A parent that is not in the store is named by its key alone.  `data` is the sha256 of the
    file from which the chain starts, then of those from which other inputs do.
    """
    settings = {name: value for name, value in _settings(evaluation, evaluation.stage).items() if name not in CELLS}
    chain = {evaluation.stage: evaluation}
    others: list[tuple[Artifact, str]] = []
    node = evaluation
    while primary := primary_role(node):
        others += [(node, role) for role in sorted(node.meta["inputs"]) if role != primary]
        try:
            node = node.parent(primary)
        except InputError:
            record = node.meta["inputs"][primary]
            return _Settings(evaluation, settings | {record["stage"]: _gone(record)})
        chain[node.stage] = node
        settings |= _settings(node, node.stage)
    sources = [node.meta["source"]["sha256"]]
    digests = {one.digest for one in chain.values()}
    for child, role in reversed(others):  # a guide's critic comes before the one that ranks
        record = child.meta["inputs"][role]
        if record["digest"] in digests:
            continue
        input = stages()[child.stage].inputs.get(role.partition(".")[0])
        prefix = (input and input.apart) or role
        if prefix in EVAL.primaries:  # the name of the policy that is evaluated itself
            prefix = f"{child.stage}.{prefix}"
        try:
            other = child.parent(role)
        except InputError:
            settings[prefix] = _gone(record)
            continue
        order = list(chain)
        below = record["stage"] in chain and order.index(record["stage"]) > order.index(child.stage)
        usual = _settings(chain[record["stage"]], prefix) if below else {}
        settings |= {k: v for k, v in _settings(other, prefix).items() if v != usual.get(k)}
        settings |= _made_from(other, prefix, digests)
        chain.setdefault(other.stage, other)
        digests.add(other.digest)
        sources += _sources(other)
    return _Settings(evaluation, settings | {"data": ",".join(dict.fromkeys(sources))})


class _Settings(dict):
    """An evaluation's protocol: a setting that it lacks is damage, not a fault of whoever reads it."""

    def __init__(self, evaluation: Artifact, values: dict):
        super().__init__(values)
        self.evaluation = evaluation

    def __missing__(self, name: str) -> NoReturn:
        path = self.evaluation.path
        raise CorruptError(
            f"{path}: no record of its lineage has the setting {shown(name)}", f"swgctl tree {quoted(path)}"
        )


def primary_role(artifact: Artifact) -> str | None:
    """The primary role that an artifact's record fills; None for one that was made from a task."""
    row = stages().get(artifact.stage)
    return row.filled(artifact.meta["inputs"]) if row else None


def _settings(artifact: Artifact, prefix: str) -> dict:
    params = artifact.params | {"revision": artifact.meta["revision"]}
    return {f"{prefix}.{name}": value for name, value in params.items()}


def _gone(record: dict) -> str:
    return f"{record['key'][:16]}, which is gone"


def _made_from(artifact: Artifact, prefix: str, known: set[str]) -> dict:
    """The settings of an artifact's ancestors by their paths of roles, without those of the `known` digests."""
    settings = {}
    for role, record in artifact.meta["inputs"].items():
        if record["digest"] in known:
            continue
        path = f"{prefix}.{role}"
        try:
            parent = artifact.parent(role)
        except InputError:
            settings[path] = _gone(record)
            continue
        settings |= _settings(parent, path) | _made_from(parent, path, known)
    return settings


def _sources(artifact: Artifact) -> Iterator[str]:
    """The sha256 of the files from which an artifact's ancestors start, but for those that are gone."""
    if primary_role(artifact) is None and artifact.meta["source"]:
        yield artifact.meta["source"]["sha256"]
    for role in artifact.meta["inputs"]:
        try:
            yield from _sources(artifact.parent(role))
        except InputError:
            continue


def standings(evaluation: Artifact) -> list[str]:
    """How the data files behind an evaluation stand to the published ones (`tasks.published`), as the records say."""
    sources = (one.meta["source"] for one in _lineage(evaluation))
    return sorted({source["checksum"] for source in sources if source and source.get("checksum")})


def learnt_rows(evaluation: Artifact) -> list[int]:
    """The numbers of rows of the data that the artifacts behind an evaluation learnt from."""
    data = (one.meta["metrics"].get("data") for one in _lineage(evaluation))
    return sorted({one["rows"] for one in data if one and "rows" in one})


def devices(evaluation: Artifact) -> set[str]:
    """Kinds of device, or models of GPU, on which an evaluation and all behind it were built."""
    builds = (one.meta["made"] for one in _lineage(evaluation))
    return {build.get("card") or build["device"].partition(":")[0] for build in builds}


def _lineage(evaluation: Artifact) -> list[Artifact]:
    """An evaluation and all behind it; nothing where some of that is gone."""
    try:
        return list(evaluation.ancestors().values())
    except InputError:
        return []


# -- names -------------------------------------------------------------------------------------------------------------


def method_of(settings: Mapping) -> Method:
    """The method of a protocol: PGD of an agent, else SWG where its settings name none."""
    if "agent.algo" in settings:
        return methods()["pgd"]
    return method_named(settings.get("guide.method") or settings.get("eval.method", "swg"))


def policy_label(settings: Mapping, cell: Mapping) -> str:
    """Name of a cell's policy in reports, by its protocol's settings."""
    return agent_label(settings) or method_of(settings).policy(cell)


def agent_label(settings: Mapping) -> str | None:
    """Name of an agent in reports: its algorithm, and what it learnt from if not from the task's data alone.

    None where the settings are of another policy.
    """
    if "agent.algo" not in settings:
        return None
    kinds = learnt_from(settings)
    return ", ".join([ALGORITHMS[settings["agent.algo"]], *(kinds if kinds != [DATA] else [])])


def learnt_from(settings: Mapping) -> list[str]:
    """What an agent learnt from: those of UNGUIDED, GUIDED, CONTINUOUS and DYNAMICS of which its synthetic data is, and
    DATA, the task's, where that makes up a batch or a part of it.

    Synthetic data of a trajectory model is guided if any of its sets is.
    """
    real = settings.get("agent.real", 0)
    if 0 < real == settings.get("agent.batch"):
        return [DATA]
    mixed = [DATA] if real else []
    prefixes = sorted({match[1] for name in settings if (match := re.match(r"(synth(?:\.\d+)?)(?:\.|$)", name))})
    if not prefixes:
        learns = any(name.partition(".")[0] == "trajectories" for name in settings)
        if not learns:
            return [DATA]
        guided = settings["agent.scale"] > 0 and settings.get("agent.epochs", 2) > 1  # the first sets are unguided
        kind = CONTINUOUS if settings.get("agent.keep", 1) > 1 else GUIDED
        return [kind if guided else UNGUIDED, *mixed]
    scales: dict[str, list[float]] = {}
    for prefix in prefixes:
        scale = settings.get(f"{prefix}.scale", settings.get("synth.scale", 0.0))
        scales.setdefault(_model(settings, prefix), []).append(scale)
    kinds = [GUIDED if max(scales["trajectories"]) > 0 else UNGUIDED] if "trajectories" in scales else []
    return kinds + [DYNAMICS] * ("dynamics" in scales) + ["of data that is gone"] * ("" in scales) + mixed


def _model(settings: Mapping, prefix: str) -> str:
    """The stage of the model that made a set of synthetic data; "" where the set is gone."""
    if prefix in settings:
        return ""
    for path in (f"{prefix}.", ""):  # its own, else that of the first set
        for model in ("trajectories", "dynamics"):
            if f"{path}{model}.revision" in settings or isinstance(settings.get(f"{path}{model}"), str):
                return model
    return ""
