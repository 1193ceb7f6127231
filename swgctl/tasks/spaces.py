"""gymnasium's spaces and specifications, checked to be of the kind that this package relies on."""

import gymnasium
from gymnasium.envs.registration import EnvSpec
from gymnasium.spaces import Box, Space

from swgctl.errors import InputError


def box(space: Space) -> Box:
    """A space of arrays between bounds `low` and `high`.  Raises InputError for any other."""
    if not isinstance(space, Box):
        raise InputError(f"{space} is not a Box, a space of vectors", "swgctl critic FILE --env ENV_ID")
    return space


def spec_of(env: gymnasium.Env) -> EnvSpec:
    """The specification of an environment that gymnasium made by its id.  Raises InputError for any other."""
    if env.spec is None:
        raise InputError(f"{env} has no id in gymnasium's registry", "swgctl critic FILE --env ENV_ID")
    return env.spec
