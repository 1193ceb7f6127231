"""The training loop, how its steps run, and the optimiser."""

from swgctl.training.loop import Learner, Streams, draws, summary, to_lines, train

__all__ = ["Learner", "Streams", "draws", "summary", "to_lines", "train"]
