"""What the papers print of the tasks: the files of papers/, in which every number is as printed."""

from functools import cache
from pathlib import Path

import yaml

PAPERS = Path(__file__).parent / "papers"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a fifth of the time


@cache
def paper(name: str) -> dict:
    """The tables of a paper: swg or aepo.  `scores` has a section for each family, `tasks` beside `methods`."""
    return yaml.load((PAPERS / f"{name}.yaml").read_text(), LOADER)


def papers() -> list[str]:
    """Those with tables here, SWG before the others."""
    return sorted((path.stem for path in PAPERS.glob("*.yaml")), reverse=True)


def home(task: str, name: str | None = None) -> tuple[str, str] | None:
    """The paper that has the task, and its family there: of all papers the first, or of that one; None for none."""
    for paper_name in [name] if name else papers():
        for family, section in paper(paper_name)["scores"].items():
            if task in section["tasks"]:
                return paper_name, family
    return None


def position(task: str) -> tuple:
    """To sort by: the papers' tasks in their order, then the others by name."""
    place = home(task)
    if place is None:
        return len(papers()), 0, 0, task
    tables = paper(place[0])["scores"]
    return papers().index(place[0]), list(tables).index(place[1]), tables[place[1]]["tasks"].index(task), task


def scores(task: str, name: str = "swg") -> dict[str, tuple[float, float | None]]:
    """Of each method that the paper compares on the task, its own first: its normalised score and, of its own, the
    standard deviation over seeds.  Empty where the paper has no such task."""
    place = home(task, name)
    if place is None:
        return {}
    tables, (_, family) = paper(name), place
    section, spread = tables["scores"][family], tables.get("deviations", {}).get(family, {})
    i = section["tasks"].index(task)
    found = {method: section["methods"][method][i] for method in methods(name, family)}
    return {m: (score, spread[m][i] if m in spread else None) for m, score in found.items() if score is not None}


def methods(name: str, family: str) -> list[str]:
    """Those that a paper compares on a family, its own first."""
    ours, listed = paper(name)["ours"], paper(name)["scores"][family]["methods"]
    return [*(m for m in ours if m in listed), *(m for m in listed if m not in ours)]


def ours(name: str) -> list[str]:
    """The paper's own methods: of SWG's the one without resampling, then the one with it."""
    return paper(name)["ours"]


def guidance_scale(task: str) -> float | None:
    """SWG's rho for the task (Tables 6 to 9)."""
    place = home(task, "swg")
    if place is None:
        return None
    tables, (_, family) = paper("swg"), place
    return tables["rho"][family][tables["scores"][family]["tasks"].index(task)]
