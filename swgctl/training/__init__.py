"""The training loop, the execution of its steps, and the optimiser."""

from swgctl.training.loop import Learner, Streams, draws, summary, to_lines, train

__all__ = ["Learner", "Streams", "draws", "summary", "to_lines", "train"]
