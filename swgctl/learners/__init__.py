"""Learners of the training loop (`training.Learner`), one file each, and their losses."""

from swgctl.learners.critic import CriticLearner
from swgctl.learners.denoiser import DiffuseLearner
from swgctl.learners.guide import GuideLearner
from swgctl.learners.toy import ToyLearner

__all__ = ["CriticLearner", "DiffuseLearner", "GuideLearner", "ToyLearner"]
