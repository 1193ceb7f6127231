"""What the papers print of the tasks: the files of papers/, in which every number is as printed."""

from functools import cache
from pathlib import Path

import yaml

PAPERS = Path(__file__).parent / "papers"


@cache
def paper(name: str) -> dict:
    """The tables of a paper: swg or aepo.  `scores` has a section for each family, `tasks` beside `methods`."""
    return yaml.safe_load((PAPERS / f"{name}.yaml").read_text())


def papers() -> list[str]:
    """Those with tables here, SWG before the others."""
    return sorted((path.stem for path in PAPERS.glob("*.yaml")), reverse=True)


def scores(task: str, name: str = "swg") -> dict[str, tuple[float, float | None]]:
    """Of each method that the paper compares on the task: its normalised score and, of the paper's own methods, the
    standard deviation over seeds.  Empty where the paper has no such task."""
    tables = paper(name)
    for family, section in tables["scores"].items():
        if task in section["tasks"]:
            i = section["tasks"].index(task)
            spread = tables.get("deviations", {}).get(family, {})
            found = {method: row[i] for method, row in section["methods"].items() if row[i] is not None}
            return {m: (score, spread[m][i] if m in spread else None) for m, score in found.items()}
    return {}


def guidance_scale(task: str) -> float | None:
    """SWG's rho for the task (Tables 6 to 9)."""
    tables = paper("swg")
    for family, section in tables["scores"].items():
        if task in section["tasks"]:
            return tables["rho"][family][section["tasks"].index(task)]
    return None
