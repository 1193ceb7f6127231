"""The training loop, the execution of its steps, and the optimiser."""

from swgctl.training.loop import Learner, Streams, begun_in, draws, summary, to_lines, train

__all__ = ["Learner", "Streams", "begun_in", "draws", "summary", "to_lines", "train"]
