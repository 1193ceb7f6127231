"""The numbers that papers print for the tasks, read from the files of papers/, where each is as printed."""

from functools import cache
from pathlib import Path
from typing import Literal

import yaml

PAPERS = Path(__file__).parent / "papers"
ORDER = ("swg", "aepo", "pgd", "fql")  # in which papers are asked for a task: the first that has it is its home
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's takes a fifth of the time


@cache
def paper(name: str) -> dict:
    """The tables of a paper, one of ORDER.  `scores` has a section for each family, with `tasks` and `methods`."""
    return yaml.load((PAPERS / f"{name}.yaml").read_text(), LOADER)


def papers() -> list[str]:
    """The names of the papers with tables here, SWG's first."""
    return list(ORDER)


def home(task: str, name: str | None = None, agent: bool = False) -> tuple[str, str] | None:
    """The first paper that has the task, or the paper `name` if it does, and the task's family there; else None.

    agent  beside an agent PGD's comes first, whose Table 2 is of agents
    """
    for paper_name in [name] if name else ["pgd", *papers()] if agent else papers():
        for family, section in paper(paper_name)["scores"].items():
            if task in section["tasks"]:
                return paper_name, family
    return None


def position(task: str) -> tuple:
    """A key to sort tasks by: the papers' tasks in their order, then the others by name."""
    where = home(task)
    if where is None:
        return len(papers()), 0, 0, task
    name, family = where
    tables = paper(name)["scores"]
    return papers().index(name), list(tables).index(family), tables[family]["tasks"].index(task), task


def scores(task: str, name: str = "swg") -> dict[str, tuple[float, float | None]]:
    """{method: (normalised score, its `spread` over seeds or None)} on the task, the paper's own runs first.

    Papers print the spread of their own runs only.  Empty where the paper does not have the task.
    """
    where = home(task, name)
    if where is None:
        return {}
    tables, (_, family) = paper(name), where
    section, deviations = tables["scores"][family], tables.get("deviations", {}).get(family, {})
    i = section["tasks"].index(task)
    printed = {method: section["methods"][method][i] for method in methods(name, family)}
    printed_spread = {method: values[i] for method, values in deviations.items()}
    return {method: (score, printed_spread.get(method)) for method, score in printed.items() if score is not None}


def averages(task: str, name: str) -> dict[str, float]:
    """{method: mean score over the tasks of the task's family there}; empty where the paper does not have the task."""
    where = home(task, name)
    return paper(name)["scores"][where[1]]["averages"] if where else {}


def spread(name: str) -> Literal["sd", "se"]:
    """The number that a paper prints behind its scores: their standard deviation over the seeds, or standard error."""
    return paper(name).get("spread", "sd")


def label(name: str) -> str:
    """The paper by name and number: AEPO, arXiv 2505.01822."""
    return f"{name.upper()}, {paper(name)['source']}"


def methods(name: str, family: str) -> list[str]:
    """The methods that a paper compares on a family, those that it ran itself first."""
    ours, listed = paper(name)["ours"], paper(name)["scores"][family]["methods"]
    return [*(m for m in ours if m in listed), *(m for m in listed if m not in ours)]


def ours(name: str) -> list[str]:
    """The methods that the paper ran itself; SWG's: without resampling, then with it."""
    return paper(name)["ours"]


def guidance_scale(task: str) -> float | None:
    """SWG's rho for the task (Tables 6 to 9)."""
    where = home(task, "swg")
    if where is None:
        return None
    tables, (_, family) = paper("swg"), where
    return tables["rho"][family][tables["scores"][family]["tasks"].index(task)]
