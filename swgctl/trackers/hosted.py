"""trackio and Weights & Biases, by the interface that they share: init, log, finish."""

import contextvars
import html
import importlib
import json
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from swgctl.console import say
from swgctl.errors import InputError
from swgctl.trackers.ending import Ending
from swgctl.trackers.subject import Run

MARK = "swgctl.json"  # in the folder of an offline run of wandb: the last step that it holds
REACH, FINISH = 30, 60  # seconds to reach a server, and to end a run there


class Trackio:
    """Runs of a project in trackio's database, or where TRACKIO_SPACE_ID or TRACKIO_SERVER_URL says."""

    def __init__(self, project: str):
        self.project, self.library = project, importlib.import_module("trackio")

    def open(self, run: Run) -> "Hosted":
        # init ends the run of its context, and the runs of an artifact's seeds are open side by side
        live = contextvars.copy_context().run(
            self.library.init,
            project=self.project,
            name=run.id,
            group=run.group,
            config=run.config,
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        return Hosted(lambda: live, live._next_step - 1, self.library.Image, self.library.Markdown)


class Wandb:
    """Runs of a project, which the group, the stage as job type and the key as id order.

    Offline (WANDB_MODE=offline) the library does not know what it holds already: a mark in each run's folder does.
    """

    def __init__(self, project: str):
        self.entity, _, self.project = project.rpartition("/")
        self.library = importlib.import_module("wandb")
        self.folder = Path(os.environ.get("WANDB_DIR", ".")) / "wandb"
        self.offline = os.environ.get("WANDB_MODE", "online") in ("offline", "dryrun")
        self.library.setup(self.library.Settings(silent=True))
        if not (self.offline or self.library.login(prompt=False)):
            raise InputError("wandb has no API key", "wandb login   # or: export WANDB_MODE=offline")

    def open(self, run: Run) -> "Hosted":
        if not self.offline:
            live = self._init(run)
            hosted = Hosted(lambda: live, live.starting_step - 1, self.library.Image, self._text, patience=FINISH)
            hosted.live = live  # to be ended also where nothing is sent
            return hosted
        marks = [json.loads(path.read_text()) for path in self.folder.glob(f"offline-run-*-{run.id}/{MARK}")]
        return Hosted(lambda: self._init(run), max(marks, default=-1), self.library.Image, self._text, self._mark)

    def _init(self, run: Run) -> Any:
        settings = self.library.Settings(
            console="off",
            disable_git=True,
            init_timeout=REACH,
            save_code=False,
            silent=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        return self.library.init(
            entity=self.entity or None,
            project=self.project,
            id=run.id,
            name=run.name,
            group=run.group,
            job_type=run.stage,
            config=run.config,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def _text(self, markdown: str) -> Any:
        return self.library.Html(f"<pre>{html.escape(markdown)}</pre>", inject=False)

    @staticmethod
    def _mark(live: Any, step: int) -> None:
        (Path(live.settings.sync_dir) / MARK).write_text(json.dumps(step))


class Hosted:
    """One run.

    begin     gives the library's run, when there is something to send
    last      the greatest step sent so far; -1 where there is none
    mark      is called with the run and each step sent
    patience  seconds to wait for the end of a run, whose server may not answer; None: no limit
    """

    def __init__(
        self,
        begin: Callable[[], Any],
        last: int,
        image: Callable[[str], Any],
        text: Callable[[str], Any],
        mark: Callable[[Any, int], None] = lambda live, step: None,
        patience: float | None = None,
    ):
        self.last = last
        self._begin, self._image, self._text, self._mark, self._patience = begin, image, text, mark, patience
        self.live: Any = None

    def log(self, step: int, values: dict[str, Any], clock: float) -> None:
        """Send the numbers of a step."""
        self.live = self.live or self._begin()
        self.live.log(values, step=step)
        self._mark(self.live, step)

    def end(self, step: int, ending: Ending, clock: float) -> None:
        values: dict[str, Any] = dict(ending.numbers)
        with tempfile.TemporaryDirectory() as folder:
            for name, png in ending.figures.items():
                path = Path(folder) / f"{name}.png"
                path.write_bytes(png)
                values[f"figures/{name}"] = self._image(str(path))
            self.log(step, values | {"report": self._text(ending.report)}, clock)

    def close(self) -> None:
        """End the run.  Raises TimeoutError where a server does not answer."""
        live, self.live = self.live, None
        if live is None:
            return
        thread = threading.Thread(target=_finish, args=(live,), daemon=True)
        thread.start()
        thread.join(self._patience)
        if thread.is_alive():
            raise TimeoutError(f"no answer within {self._patience:g} s; wandb sync --sync-all sends the rest")


def _finish(live: Any) -> None:
    try:
        live.finish()
    except Exception as error:
        say(f"warning: log: {type(error).__name__}: {error}")
