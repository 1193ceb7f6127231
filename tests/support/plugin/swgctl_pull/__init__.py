"""A package that extends swgctl without a line changed there: a guidance, a stage and a family of tasks."""

from pathlib import Path

from pydantic import Field

from swgctl.config import Input, Method, Settings, Stage
from swgctl.tasks import Family, Source

HERE = Path(__file__).parent

PULL = Method("pull", "Pull", "Pull-R", "swgctl_pull.guidance:pull")


class ProbeSettings(Settings):
    """A linear model of the advantage."""

    ridge: float = Field(1.0, gt=0)


PROBE = Stage(
    "probe",
    "a probe",
    ProbeSettings,
    1,
    {
        "augment": Input(("augment",), primary=True),
        "other": Input(("critic",), many=True, when=lambda settings, primary: False),
    },
    module="swgctl_pull.probe",
)


def locate(where, say, progress):
    from swgctl_pull.data import make

    return make(where)


SPRINGS = Family(
    tables=(HERE / "springs.yaml",),
    recipes=(HERE / "spring.yaml",),
    sources=(Source("spring", locate, lambda where: locate(where, print, None)[0]),),
)
