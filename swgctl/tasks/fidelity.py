"""How near each environment is to D4RL's own, as reports say it; the adapters' modules have the details.

The returns of the Adroit experts were measured over 60 episodes each, with the four policies that DAPG published and
that D4RL's expert data is from.
"""

D4RL_EXACT = "model and steps equal D4RL's, to rounding"
# (with the expert's own noise, of its mean action, D4RL's reference for an expert)
ADROIT = {"Pen": (3_282, 3_422, 3_077), "Door": (2_954, 3_012, 2_881)} | {
    "Hammer": (9_979, 16_332, 12_794),
    "Relocate": (4_216, 4_408, 4_234),
}
LIKE = {  # the start of an environment's id -> a line
    "HalfCheetah-v4": "gymnasium's v4, which agrees with D4RL's v2 over ten seeds (openai/gym, PR 2595)",
    "Walker2d-v4": "gymnasium's v4, which agrees with D4RL's v2 over ten seeds (openai/gym, PR 2595)",
    "swgctl/Hopper-v4": "gymnasium's v4 with the contacts of MuJoCo 2, as in D4RL's v2",
    "swgctl/AntMaze": D4RL_EXACT,
    "swgctl/Maze2d": D4RL_EXACT,
    "swgctl/Kitchen": "D4RL's, but for how boxes touch in today's MuJoCo",
} | {
    f"swgctl/Adroit{name}": (
        "D4RL's, but for how capsules and boxes touch boxes in today's MuJoCo; the published expert has a mean return "
        f"of {noisy:,} with its own noise and {mean:,} without, D4RL's reference is {reference:,}"
    )
    for name, (noisy, mean, reference) in ADROIT.items()
}


def fidelity(environment: str) -> str | None:
    """How near an environment is to D4RL's, in a line; None for one that D4RL does not have."""
    return next((line for start, line in LIKE.items() if environment.startswith(start)), None)
