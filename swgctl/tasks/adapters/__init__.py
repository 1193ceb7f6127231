"""D4RL's environments on today's gymnasium and MuJoCo, as ids `swgctl/...`; importing this only registers them.

They follow the code of D4RL (Fu et al., 2020; github.com/Farama-Foundation/D4RL), and each module lists the
differences that remain.  Every action is in [-1, 1], every observation a float64 vector, and all randomness
comes from the seed of `reset`.  Making Kitchen or Adroit imports gymnasium-robotics.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium
from farama_notifications import notifications  # type: ignore[import-untyped]  # the package has no stubs

for _id, _entry, _steps, _settings in (
    ("AntMazeUMaze-v2", "antmaze:AntMaze", 700, {"maze": "UMaze"}),
    ("AntMazeMedium-v2", "antmaze:AntMaze", 1000, {"maze": "Medium"}),
    ("AntMazeLarge-v2", "antmaze:AntMaze", 1000, {"maze": "Large"}),
    ("Maze2dUMaze-v1", "maze2d:Maze2D", 300, {"maze": "UMaze"}),
    ("Maze2dMedium-v1", "maze2d:Maze2D", 600, {"maze": "Medium"}),
    ("Maze2dLarge-v1", "maze2d:Maze2D", 800, {"maze": "Large"}),
    ("Maze2dUMazeDense-v1", "maze2d:Maze2D", 300, {"maze": "UMaze", "dense": True}),
    ("Maze2dMediumDense-v1", "maze2d:Maze2D", 600, {"maze": "Medium", "dense": True}),
    ("Maze2dLargeDense-v1", "maze2d:Maze2D", 800, {"maze": "Large", "dense": True}),
    (
        "KitchenMicrowaveKettleLightSlider-v0",
        "kitchen:Kitchen",
        280,
        {"elements": ("microwave", "kettle", "light switch", "slide cabinet")},
    ),
    (
        "KitchenMicrowaveKettleBottomBurnerLight-v0",
        "kitchen:Kitchen",
        280,
        {"elements": ("microwave", "kettle", "bottom burner", "light switch")},
    ),
    ("Hopper-v4", "hopper:Hopper", 1000, {}),
    ("AdroitPen-v1", "adroit:Pen", 100, {}),
    ("AdroitDoor-v1", "adroit:Door", 200, {}),
    ("AdroitHammer-v1", "adroit:Hammer", 200, {}),
    ("AdroitRelocate-v1", "adroit:Relocate", 200, {}),
):
    gymnasium.register(f"swgctl/{_id}", f"{__name__}.{_entry}", max_episode_steps=_steps, kwargs=_settings)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence gymnasium-robotics' notice, on import, that its Adroit rewards changed: they are not used here."""
    said = notifications.pop("gymnasium_robotics", {})
    try:
        yield
    finally:
        notifications["gymnasium_robotics"] = said


def old_contacts(model) -> None:
    """Restore the contacts of MuJoCo 2, on which D4RL ran, in a compiled model.

    Contacts began at the larger of two geoms' margins; from 3.5 on they begin at the sum, and an ant stands 1 cm
    higher.  Halving is exact where margins are equal, which they are except for the hammer's board and the
    Franka's links, of margin 0.  Convex shapes met at one point, found by libccd; its successor gives several.
    """
    import mujoco

    if mujoco.mj_version() >= 3005000:
        model.geom_margin[:] /= 2
    for successor in ("mjDSBL_NATIVECCD", "mjDSBL_MULTICCD"):
        model.opt.disableflags |= getattr(mujoco.mjtDisableBit, successor, 0)
