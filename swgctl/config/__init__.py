"""Stages, methods and their settings, and the merging of a configuration's layers."""

from swgctl.config.merge import Resolved, merge, resolve
from swgctl.config.method import Method, methods
from swgctl.config.recipes import (
    read_recipe,
    read_yaml,
    recipe_names,
    recipe_path,
    recipes_folder,
    task_sections,
)
from swgctl.config.settings import (
    LOSS,
    AugmentSettings,
    CriticSettings,
    DiffuseSettings,
    EvalSettings,
    Settings,
    ToySettings,
)
from swgctl.config.stage import AUGMENT, CRITIC, DIFFUSE, EVAL, TOY, Input, Stage, a, stage_named, stages

__all__ = [
    "AUGMENT",
    "CRITIC",
    "DIFFUSE",
    "EVAL",
    "LOSS",
    "TOY",
    "AugmentSettings",
    "CriticSettings",
    "DiffuseSettings",
    "EvalSettings",
    "Input",
    "Method",
    "Resolved",
    "Settings",
    "Stage",
    "ToySettings",
    "a",
    "merge",
    "methods",
    "read_recipe",
    "read_yaml",
    "recipe_names",
    "recipe_path",
    "recipes_folder",
    "resolve",
    "stage_named",
    "stages",
    "task_sections",
]
