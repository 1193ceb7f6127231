"""What the training loop trains, one file each, and the losses.  See `training.Learner`."""

from swgctl.learners.critic import CriticLearner
from swgctl.learners.denoiser import DiffuseLearner
from swgctl.learners.toy import ToyLearner

__all__ = ["CriticLearner", "DiffuseLearner", "ToyLearner"]
