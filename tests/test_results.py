"""READMEs' tables are those of the packed reports, and every table says what it is built from."""

import itertools
import json
import os
import re
from statistics import mode

import pytest

from tests.support import results
from tests.support.results import PAGE, RESULTS, ROOT, Table, one, pack, read, returned, scored, succeeded, within

UPDATE = os.environ.get("SWGCTL_UPDATE_RESULTS") == "1"


def guidances(rows, *, rhos, costs=False, shown=returned):
    """A line a method and number of candidates, in the file's order: what the rows show at each scale.

    costs  what it asks, what it adds to be learnt, and the time of an action
    """
    lines = []
    for policy, candidates in dict.fromkeys((row["policy"], row["candidates"]) for row in rows):
        cells = [one(rows, policy=policy, candidates=candidates, rho=rho) for rho in rhos]
        first = next(cell for cell in cells if cell)
        line = [policy, *map(shown, cells)]
        if costs:
            line[1:1] = [str(candidates), first["exact"], first["asks"]]
            learnt = (f"{first['parameters']:,}", f"{first['training_s']:,.0f}") if first["parameters"] else ("", "")
            line += [*learnt, f"{first['action_ratio']:.1f}"]
        lines.append(line)
    return lines


def temperatures(rows, *, rhos, shown=returned):
    """The lines of `guidances` of each temperature, which comes first in them, with the number of candidates."""
    lines = []
    for temperature in sorted({row["temperature"] for row in rows}):
        here = tuple(row for row in rows if row["temperature"] == temperature)
        pairs = dict.fromkeys((row["policy"], row["candidates"]) for row in here)
        for (_, candidates), line in zip(pairs, guidances(here, rhos=rhos, shown=shown), strict=True):
            lines.append([f"{temperature:g}", line[0], str(candidates), *line[1:]])
    return lines


def scales(rows, *, axes, shown=returned):
    """A line for each place on the axes, in the file's order: these, then what the rows show at each scale."""
    rhos = sorted({row["rho"] for row in rows})
    text = lambda value: value.removeprefix("local-") if isinstance(value, str) else f"{value:g}"  # noqa: E731
    lines = []
    for values in dict.fromkeys(tuple(row[axis] for axis in axes) for row in rows):
        cells = [one(rows, **dict(zip(axes, values, strict=True)), rho=rho) for rho in rhos]
        lines.append([*map(text, values), *map(shown, cells)])
    return lines


def tasks(rows, *, rhos):
    """A line a task, temperature and number of candidates: scores at each scale, then those of calibrated guidance."""
    lines = []
    levels = ("medium-expert", "medium", "medium-replay")
    order = [f"local-{body}-{level}" for body in ("halfcheetah", "hopper", "walker2d") for level in levels]
    places = dict.fromkeys((row["task"], row["temperature"], row["candidates"]) for row in rows)
    for task, temperature, candidates in sorted(places, key=lambda place: (order.index(place[0]), place)):
        line = [task.removeprefix("local-"), f"{temperature:g}", str(candidates)]
        for calibrated in (False, True):
            of = tuple(row for row in rows if (row["guidance"] == "calibrated") == calibrated)
            at = {"task": task, "temperature": temperature, "candidates": candidates}
            line += [scored(one(of, **at, rho=rho)) for rho in rhos if rho or not calibrated]
        lines.append(line)
    return lines


def ablations(rows, *, temperatures, rhos, names=()):
    """A line a group, in order of the settings in which it differs from most: these, then what the rows show at each
    temperature and scale.

    names  of the settings; none: all of them
    """
    groups = {row["group"]: row["differs"] for row in rows if row["row"] == "cell"}
    names = names or [name for name in next(iter(groups.values())) if name != "guide.tau"]
    usual = {name: mode(values.get(name) for values in groups.values()) for name in names}
    lines = []
    for group, values in groups.items():
        other = {name: values[name] for name in sorted(names) if values.get(name) not in (None, usual[name])}
        places = itertools.product(temperatures, rhos)
        cells = [one(rows, group=group, temperature=temperature, rho=rho) for temperature, rho in places]
        lines.append((list(other), _label(other), [_label(other), *map(returned, cells)]))
    return [line for *_, line in sorted(lines)]


def channels(raw, standard, *, shown=returned):
    """The lines of `scales` of both forms of the weight's channel, each form named, in turns."""
    lines = []
    for pair in zip(
        *(scales(rows, axes=("temperature", "candidates"), shown=shown) for rows in (raw, standard)), strict=True
    ):
        lines += [[*line[:2], form, *line[2:]] for form, line in zip(("raw", "standard"), pair, strict=True)]
    return lines


def synthetic(rows, *, agents):
    """A line a guidance and scale, then the ensemble: of each agent the likelihood, and the errors after one step and
    after the last, of sets that differ in nothing else."""
    usual = _usual(rows)
    lines = {}
    for row in rows:
        if all(row["differs"].get(name, value) == value for name, value in usual.items()):
            lines.setdefault(_guidance(row), {})[row["agent"]] = row
    order = ["unguided", "shift", "posterior", "ensemble"]
    labels = sorted(lines, key=lambda label: (order.index(label[0]), float(label[1] or 0)))
    return [[*label, *(text for agent in agents for text in _measured(lines[label].get(agent)))] for label in labels]


def synthetic_ablations(rows, *, agent, scale):
    """A line for each setting of the walk that differs from most, then the other guidance, at one scale."""
    usual, lines = _usual(rows), []
    for row in rows:
        if row["agent"] == agent and row["differs"].get("scale") == scale:
            differs = row["differs"]
            other = {f"synth.{name}": differs[name] for name in usual if differs.get(name, usual[name]) != usual[name]}
            other |= {"synth.guidance": "posterior"} if differs["guidance"] == "posterior" else {}
            lines.append([_label(other), *_measured(row)])
    return sorted(lines, key=lambda line: (line[0].startswith("`"), line[0]))


def agents(rows):
    """A line a task and algorithm: the score by what the agent learnt from, and p against the task's data."""
    against = {(row["task"], row["policy"]): row["p_value"] for row in rows if row["row"] == "against data"}
    lines = []
    for task, algorithm in dict.fromkeys((row["task"], row["policy"].partition(",")[0]) for row in rows):
        line = [task.removeprefix("local-"), algorithm]
        for kind in ("", ", unguided", ", guided", ", guided, continuous"):
            p = against.get((task, algorithm + kind))
            shown = within(one(rows, task=task, policy=algorithm + kind))
            line.append(shown + (f", p = {p:.1f}" if p is not None else ""))
        lines.append(line)
    return lines


def _usual(rows):
    """The settings of most guided sets in which sets differ, but for guidance and scale."""
    guided = [row["differs"] for row in rows if row["model"] == "trajectories" and row["differs"]["scale"] > 0]
    names = dict.fromkeys(name for differs in guided for name in differs if name not in ("guidance", "scale"))
    return {name: mode(differs[name] for differs in guided if name in differs) for name in names}


def _label(settings):
    """Settings and their values, as `--set` takes them."""
    texts = (f"`{name}={json.dumps(value).strip(chr(34)).removesuffix('.0')}`" for name, value in settings.items())
    return ", ".join(texts) or "none of these"


def _guidance(row):
    scale = row["differs"].get("scale")
    if scale is None:
        return "ensemble", ""
    return (row["differs"]["guidance"], f"{scale:g}") if scale else ("unguided", "")


def _measured(row):
    if row is None:
        return "", "", ""
    return f"{row['likelihood']:.1f}", *(
        f"{row[name]:.3f}"[1:] if row[name] < 1 else f"{row[name]:.3f}" for name in ERRORS
    )


def variants(rows, whole, *, rhos):
    """A line a task and setting of VARIANTS: scores at each scale, first those of the task's group without any, of the
    second report."""
    lines = []
    for task in sorted(dict.fromkeys(row["task"] for row in rows)):
        plain = {"guidance": "swg", "temperature": 0, "candidates": 1}
        lines.append([task, _label({}), *(scored(one(whole, task=task, **plain, rho=rho)) for rho in rhos)])
        groups = {row["group"]: row["differs"] for row in rows if row["task"] == task}
        labels = {
            group: _label({name: differs[name] for name in VARIANTS if differs.get(name) is not None})
            for group, differs in groups.items()
        }
        for group, label in sorted(labels.items(), key=lambda item: item[1]):
            lines.append([task, label, *(scored(one(rows, group=group, rho=rho)) for rho in rhos)])
    return [[task.removeprefix("local-"), *line] for task, *line in lines]


def raw_and_standard(raw, whole, *, rhos):
    """Two lines a task: the scores without noise of one sample by the raw channel, and by the second report's."""
    lines = []
    for task in sorted(dict.fromkeys(row["task"] for row in raw)):
        for channel, rows in (("raw", raw), ("standard", whole)):
            place = {"task": task, "temperature": 0, "candidates": 1}
            cells = [one(rows, **place, guidance="swg", rho=rho) if rho else one(rows, **place, rho=0) for rho in rhos]
            lines.append([task.removeprefix("local-"), channel, *map(scored, cells)])
    return lines


def weights(rows, *, rhos):
    """A line a temperature and weight, of groups that differ in nothing else: what the rows show at each scale."""
    rows = [row for row in rows if all(row["differs"].get(name) is None for name in VARIANTS)]
    places = dict.fromkeys((row["temperature"], row["differs"]["augment.weight"]) for row in rows)
    lines = []
    for temperature, weight in sorted(places):
        of = tuple(row for row in rows if row["differs"]["augment.weight"] == weight)
        cells = [one(of, temperature=temperature, rho=rho) for rho in rhos]
        lines.append([f"{temperature:g}", weight, *map(returned, cells)])
    return lines


VARIANTS = ("augment.share", "diffuse.weight_form", "eval.kmax", "guide.method")
ERRORS = ("one_step", "after")
TARGETS = {
    "random": "iql of local-halfcheetah-random",
    "demo": "iql of demo",
    "expert": "iql of local-halfcheetah-expert",
}
TABLES = [
    Table(
        "guidances",
        ("demo-guidances",),
        ("temperature", "method", "M", "rho = 0", "5", "10"),
        lambda rows: temperatures(rows, rhos=(0, 5, 10)),
    ),
    Table(
        "guidances-noise",
        ("demo-guidances-noise",),
        ("method", "M", "exact at rho = 1", "asks Q at", "rho = 0", "rho = 10", "parameters", "seconds", "time"),
        lambda rows: guidances(rows, rhos=(0, 10), costs=True),
    ),
    Table(
        "guidances-exponential",
        ("demo-guidances-exponential",),
        ("method", "rho = 0", "rho = 4"),
        lambda rows: guidances(rows, rhos=(0, 4)),
    ),
    Table(
        "aepo-ablations",
        ("aepo-ablations",),
        ("differs in", "T = 0: rho = 1", "3", "5", "10", "T = 1: rho = 1", "3", "5", "10"),
        lambda rows: ablations(rows, temperatures=(0, 1), rhos=(1, 3, 5, 10)),
    ),
    Table(
        "local-agents",
        ("local-agents",),
        ("task", "algorithm", "data", "unguided", "guided", "continuous"),
        agents,
    ),
    Table(
        "synthetic",
        ("demo-synthetic",),
        ("guidance", "lambda", *(f"{who}: {what}" for who in TARGETS for what in ("likelihood", "one step", "15"))),
        lambda rows: synthetic(rows, agents=TARGETS.values()),
    ),
    Table(
        "synthetic-ablations",
        ("demo-synthetic",),
        ("differs in", "likelihood", "one step", "15 steps"),
        lambda rows: synthetic_ablations(rows, agent=TARGETS["random"], scale=1),
    ),
    Table(
        "adroit-pen",
        ("adroit-pen-expert",),
        ("temperature", "M", "rho = 0", "1", "10", "25"),
        lambda rows: scales(rows, axes=("temperature", "candidates")),
    ),
    Table(
        "adroit-door",
        ("adroit-door-expert",),
        ("temperature", "M", "rho = 0", "1", "10", "25"),
        lambda rows: scales(rows, axes=("temperature", "candidates")),
    ),
    Table(
        "local-cube-single",
        ("local-cube-single-play",),
        ("temperature", "M", "rho = 0", "1", "5"),
        lambda rows: scales(rows, axes=("temperature", "candidates"), shown=succeeded),
    ),
    Table(
        "demo",
        ("demo",),
        ("temperature", "M", "rho = 0", "5", "10"),
        lambda rows: scales(rows, axes=("temperature", "candidates")),
    ),
    Table(
        "demo-channel",
        ("demo-channel-raw", "demo-channel-standard"),
        ("temperature", "M", "channel", "rho = 0", "1", "2", "5", "10", "20"),
        channels,
    ),
    Table(
        "demo-variants",
        ("demo-variants",),
        ("differs in", "T = 0: rho = 0", "5", "10", "20", "T = 0.5: rho = 0", "5", "10", "20"),
        lambda rows: ablations(
            [row for row in rows if row["differs"]["augment.weight"] == "expectile"],
            temperatures=(0, 0.5),
            rhos=(0, 5, 10, 20),
            names=VARIANTS,
        ),
    ),
    Table(
        "local-variants",
        ("local-variants", "local-nine"),
        ("task", "differs in", "rho = 5", "10", "20"),
        lambda *reports: variants(*reports, rhos=(5, 10, 20)),
    ),
    Table(
        "demo-weights",
        ("demo-variants",),
        ("T", "weight", "rho = 0", "1", "2", "5", "10", "20"),
        lambda rows: weights(rows, rhos=(0, 1, 2, 5, 10, 20)),
    ),
    Table(
        "local-cube-channel",
        ("local-cube-single-play", "local-cube-channel-standard"),
        ("temperature", "M", "channel", "rho = 0", "1", "5"),
        lambda *reports: channels(*reports, shown=succeeded),
    ),
    Table(
        "local-hopper-channel",
        ("local-hopper-channel-raw", "local-hopper-channel-standard"),
        ("temperature", "M", "channel", "rho = 0", "5", "10", "20"),
        lambda *reports: channels(*reports, shown=scored),
    ),
    Table(
        "local-channel",
        ("local-channel", "local-nine"),
        ("task", "channel", "rho = 0", "5", "10", "20"),
        lambda *reports: raw_and_standard(*reports, rhos=(0, 5, 10, 20)),
    ),
    *(
        Table(
            f"local-{task}-guidances",
            (f"local-{task}-guidances",),
            ("temperature", "method", "M", "rho = 0", "5", "10", "20"),
            lambda rows: temperatures(rows, rhos=(0, 5, 10, 20), shown=scored),
        )
        for task in ("halfcheetah", "hopper", "walker2d")
    ),
    Table(
        "local-nine",
        ("local-nine",),
        ("task", "T", "M", "rho = 0", "5", "10", "20", "calibrated: 5", "10", "20"),
        lambda rows: tasks(rows, rhos=(0, 5, 10, 20)),
    ),
    Table(
        "local-mazes",
        ("local-mazes",),
        ("task", "T", "M", "rho = 0", "5", "10", "20"),
        lambda rows: scales(rows, axes=("task", "temperature", "candidates"), shown=scored),
    ),
    *(
        Table(
            name,
            (name,),
            ("T", "M", "rho = 0", "5", "10", "20"),
            lambda rows: scales(rows, axes=("temperature", "candidates")),
        )
        for name in ("pendulum-medium", "pendulum-replay")
    ),
    Table(
        "local-cube-guidances",
        ("local-cube-guidances",),
        ("method", "rho = 0", "rho = 1", "rho = 5"),
        lambda rows: guidances(rows, rhos=(0, 1, 5), shown=succeeded),
    ),
]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_built_from_its_packed_report(table):
    text = table.page.read_text()
    shown = re.search(re.escape(table.anchor) + r"\n((?:\|.*\n)*)", text)
    assert shown, f"{table.page.relative_to(ROOT)} has no line {table.anchor}"
    if UPDATE:
        table.page.write_text(text[: shown.start(1)] + table.markdown() + "\n" + text[shown.end(1) :])
    else:
        assert shown[1].rstrip("\n") == table.markdown(), "SWGCTL_UPDATE_RESULTS=1 writes it anew"


def test_every_packed_report_has_a_table_and_every_table_a_report():
    files = {file for table in TABLES for file in table.files}
    assert {file.stem for file in RESULTS.glob("*.json")} == files
    anchors = re.findall(r"<!-- table .* -->", PAGE.read_text())
    assert sorted(anchors) == sorted(table.anchor for table in TABLES)


def test_packed_reports_are_small():
    assert sum(file.stat().st_size for file in RESULTS.glob("*.json")) < 200_000


def test_a_packed_report_has_the_cells_of_its_groups_and_what_the_groups_differ_in(tmp_path, monkeypatch):
    digest = "0123456789abcdef" * 4
    groups = [
        {"group": 1, "settings": {"eval.seed": 0, "agent.algo": "iql"}, "evaluations": [{"digest": digest}]},
        {"group": 2, "settings": {"eval.seed": 0, "agent.algo": "td3bc", "agent.noise": 0.2}, "evaluations": []},
    ]
    cells = [
        {"row": "cell", "task": "demo", "group": 1, "rho": None, "return_mean": 1234.56789, "paper_rho": False},
        {"row": "missing", "task": "demo", "group": 1, "rho": 5, "return_mean": None},
        {"row": "against data", "task": "demo", "group": 2, "p_value": 0.1},
    ]
    text = pack(json.dumps({"groups": groups, "rows": cells}))
    (tmp_path / "small.json").write_text(text)
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    assert json.loads(text)["settings"] == {"eval.seed": 0}
    assert json.loads(text)["groups"]["1"]["evaluations"] == ["0123456789ab"]
    nothing = dict.fromkeys(("row", "group", "return_mean", "p_value"))
    assert read("small") == (
        {"task": "demo"}
        | nothing
        | {"row": "cell", "group": 1, "return_mean": 1234.568, "differs": {"agent.algo": "iql"}},
        {"task": "demo"}
        | nothing
        | {"row": "against data", "group": 2, "p_value": 0.1, "differs": {"agent.algo": "td3bc", "agent.noise": 0.2}},
    )
