"""Live logs: what artifacts measured, in TensorBoard, trackio or Weights & Biases.

`metrics.jsonl` is the one truth, and a tracker's process is a reader of it: training neither imports a tracker nor
waits for one.  Importing this package is cheap: no tracker, no PyTorch.

    targets      names of trackers: tensorboard:DIR, trackio[:PROJECT], wandb[:PROJECT]
    subject      an artifact, finished or being built, as runs: one for each seed, in a group
    ending       what is sent of a finished artifact: numbers, figures and a report
    tensorboard  event files                   hosted  trackio and wandb, which share an interface
    follow       rows that are new, to each tracker      child   the process that a stage starts for it
"""

from swgctl.trackers.child import start
from swgctl.trackers.subject import announced
from swgctl.trackers.targets import Target, chosen, named

__all__ = ["Target", "announced", "chosen", "named", "start"]
