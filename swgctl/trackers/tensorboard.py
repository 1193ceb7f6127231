"""TensorBoard's event files, by tensorboardX: DIR/task/stage-key/seed-N, one event a row.

The files themselves say how far a run was sent, so that nothing is sent twice, also after a crash in the middle of one.
"""

import contextlib
import importlib
import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swgctl.trackers.ending import Ending
from swgctl.trackers.subject import Run


class TensorBoard:
    """Runs in a directory."""

    def __init__(self, directory: str):
        self.directory = Path(directory)

    def open(self, run: Run) -> "Events":
        return Events(self.directory / run.group / f"seed-{run.seed}", run)


class Events:
    """One run: a folder of event files.  A new one is begun when there is something to send.

    last  the greatest step sent so far; -1 where there is none
    """

    def __init__(self, folder: Path, run: Run):
        self.folder, self.run = folder, run
        self.writer: Any = None
        self.last = max(_steps(folder), default=-1)

    def log(self, step: int, values: dict[str, float], clock: float) -> None:
        """Send the numbers of a step, measured at `clock`, in seconds since 1970."""
        proto = _tensorboardx().proto
        scalars = [proto.summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._add(scalars, step, clock)

    def end(self, step: int, ending: Ending, clock: float) -> None:
        summary = _tensorboardx().proto.summary_pb2.Summary
        values = [summary.Value(tag=tag, simple_value=value) for tag, value in ending.numbers.items()]
        for name, png in ending.figures.items():
            width, height = struct.unpack(">II", png[16:24])
            image = summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
            values.append(summary.Value(tag=f"figures/{name}", image=image))
        values.extend(_tensorboardx().summary.text("report", ending.report).value)
        self._add(values, step, clock)

    def close(self) -> None:
        if self.writer:
            self.writer.close()
            self.writer = None

    def _add(self, values: list, step: int, clock: float) -> None:
        x = _tensorboardx()
        if not self.writer:
            count = len(list(self.folder.glob("events.*")))  # names differ also within a second, and sort by age
            self.writer = x.FileWriter(str(self.folder), flush_secs=1, filename_suffix=f".{count:04}")
            if count == 0:
                for summary in _configuration(self.run.config):
                    self.writer.add_summary(summary, 0, clock)
        self.writer.add_summary(x.proto.summary_pb2.Summary(value=values), step, clock)


def _configuration(config: dict) -> list:
    """Summaries for the text and the hparams panel."""
    x = _tensorboardx()
    flat = {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in {**config["params"], "task": config["task"], "seed": config["seed"]}.items()
    }
    text = x.summary.text("configuration", f"```json\n{json.dumps(config, indent=1)}\n```")
    return [text, *x.summary.hparams(flat, {})]


def _tensorboardx() -> Any:
    """The package tensorboardX, imported without PyTorch, which it would use only for what is a tensor."""
    had = "torch" in sys.modules
    if not had:
        sys.modules["torch"] = None  # type: ignore[assignment]  # which makes an import fail
    try:
        for module in ("proto.event_pb2", "proto.summary_pb2", "summary"):
            importlib.import_module(f"tensorboardX.{module}")
    finally:
        if not had:
            del sys.modules["torch"]
    return sys.modules["tensorboardX"]


def _steps(folder: Path) -> Iterator[int]:
    """The steps of the events with numbers or a report in a folder; the end of a file that was cut off is left out."""
    if not folder.is_dir():
        return
    event = _tensorboardx().proto.event_pb2.Event
    for path in sorted(folder.glob("events.*")):
        with contextlib.suppress(OSError):
            for record in _records(path.read_bytes()):
                one = event.FromString(record)
                if any(value.HasField("simple_value") or value.tag.startswith("report") for value in one.summary.value):
                    yield one.step


def _records(raw: bytes) -> Iterator[bytes]:
    """The records of a TFRecord file: length (8 bytes), its checksum (4), the record, its checksum (4)."""
    start = 0
    while start + 12 <= len(raw):
        (length,) = struct.unpack_from("<Q", raw, start)
        if start + 16 + length > len(raw):
            return
        yield raw[start + 12 : start + 12 + length]
        start += 16 + length
