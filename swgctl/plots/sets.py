"""Synthetic data sets in pictures: which are meant, and what they are called."""

from collections import Counter
from collections.abc import Iterable

from swgctl.config import a
from swgctl.config.synthetic import GUIDING
from swgctl.errors import InputError
from swgctl.evaluation.protocols import DYNAMICS, UNGUIDED, agent_label, protocol
from swgctl.files import canonical
from swgctl.reports.sheets import described
from swgctl.store import Artifact, Store

SAMPLE = {"seed", "trajectories"}  # settings of a set that change its sample alone


def select(store: Store, refs: Iterable[str] = (), task: str | None = None) -> list[Artifact]:
    """The synthetic sets of REFs, or all of the store, oldest first; of one task only, where one is named.

    Raises InputError for a REF of another stage, and where no set is left.
    """
    named = store.resolve_all(refs)
    for one in named:
        if one.stage != "synth":
            raise InputError(
                f"{one.id} is {a(one.stage)}, and this picture is of synthetic data sets", "swgctl ls --stage synth"
            )
    chosen = [one for one in named or store.artifacts("synth", task) if task in (None, one.task)]
    if not chosen and named:
        raise InputError(f"the REFs are of {named[0].task}, not of '{task}'", f"leave out --task {task}")
    if not chosen:
        of_task = f" of '{task}'" if task else ""
        raise InputError(f"{store.root} has no synthetic data set{of_task}", f"swgctl synth --lambda 0{store.option}")
    return list({one.key: one for one in chosen}.values())


def agent_of(synth: Artifact) -> str:
    """The digest of a set's agent; "" without one."""
    return synth.meta["inputs"].get("agent", {}).get("digest", "")


def agent_names(sets: Iterable[Artifact]) -> dict[str, str]:
    """Names of the agents of sets, by digest: the algorithm, the task, and what else than its data it learnt from."""
    records = {agent_of(one): (one, one.meta["inputs"]["agent"]) for one in sets if agent_of(one)}
    names = {}
    for digest, (one, record) in records.items():
        try:
            algorithm, _, kinds = (agent_label(protocol(one.parent("agent"))) or "agent").partition(", ")
        except InputError:  # it is gone
            algorithm, kinds = "agent", ""
        names[digest] = f"{algorithm} of {record['task']}" + (f" (data: {kinds})" if kinds else "")
    counts = Counter(names.values())
    return {d: f"{name} ({records[d][1]['key'][:6]})" if counts[name] > 1 else name for d, name in names.items()}


def scale_of(synth: Artifact) -> float:
    """Lambda; 0 for roll-outs of a dynamics model."""
    return synth.params.get("scale", 0.0)


def kind_of(synth: Artifact) -> str:
    """DYNAMICS, UNGUIDED, or the kind of guidance: "shift" or "posterior"."""
    if "dynamics" in synth.meta["inputs"]:
        return DYNAMICS
    return synth.params["guidance"] if scale_of(synth) > 0 else UNGUIDED


def title_of(synth: Artifact, names: dict[str, str]) -> list[str]:
    """What a picture calls a set: its kind with lambda, and the name of the agent that it follows; `names` are those of
    the agents."""
    agent = names.get(agent_of(synth)) if kind_of(synth) != UNGUIDED else None
    return [scaled(synth), *([agent] if agent else [])]


def scaled(synth: Artifact) -> str:
    """A set's kind, with lambda where it is guided."""
    kind, scale = kind_of(synth), scale_of(synth)
    return rf"{kind}, $\lambda$ = {scale:g}" if scale > 0 else kind


def settings_of(synth: Artifact) -> dict:
    """The settings of a set but lambda and its sample's; for guided sets, those of the guidance; and the model."""
    inputs = synth.meta["inputs"]
    model = inputs["dynamics" if "dynamics" in inputs else "trajectories"]["key"][:6]
    left_out = SAMPLE | {"scale"} | (GUIDING if kind_of(synth) == UNGUIDED else set())
    return {name: value for name, value in synth.params.items() if name not in left_out} | {"model": model}


def about_set(synth: Artifact, names: dict[str, str]) -> dict:
    """The columns that say which set a number is of; `names` are those of the agents."""
    scale = None if kind_of(synth) == DYNAMICS else scale_of(synth)
    about = {"task": synth.task, "set": synth.id, "agent": names.get(agent_of(synth))}
    return about | {"guidance": kind_of(synth), "lambda": scale}


def differences(kinds: list[tuple[str, dict]]) -> list[str]:
    """For each (kind, settings), those settings that are not those of most of its kind, as text; "" where all are."""
    texts = []
    for kind, settings in kinds:
        alike = [others for other, others in kinds if other == kind]
        other = {name: settings[name] for name in settings if name != "guidance" and not _usual(name, settings, alike)}
        texts.append(described(other))
    return texts


def _usual(name: str, settings: dict, alike: list[dict]) -> bool:
    """True if more of the settings have this value than any other."""
    counts = Counter(canonical(others.get(name)) for others in alike)
    ours = counts.pop(canonical(settings[name]))
    return ours > max(counts.values(), default=0)


def distinct(sets: list[Artifact]) -> list[Artifact]:
    """The sets without those that are another one's copy, with an agent that did not guide them."""
    seen: dict[str, Artifact] = {}
    for one in sets:
        agent = agent_of(one) if kind_of(one) != UNGUIDED else ""
        sample = {name: one.params.get(name) for name in sorted(SAMPLE)}
        seen.setdefault(canonical([one.task, agent, scale_of(one), settings_of(one), sample]), one)
    return list(seen.values())
