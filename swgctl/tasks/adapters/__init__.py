"""D4RL's environments on today's gymnasium and MuJoCo, as ids `swgctl/...`; importing this only registers them.

What they have to be was read from D4RL (Fu et al., 2020; github.com/Farama-Foundation/D4RL), and each module
says where it still differs.  Every action is in [-1, 1], every observation a float64 vector, and all that is
random comes from the seed of `reset`.  Making Kitchen or Adroit imports gymnasium-robotics.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium
from farama_notifications import notifications

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
    """Imports gymnasium-robotics without its word on stderr that its Adroit rewards changed: they are not used."""
    said = notifications.pop("gymnasium_robotics", {})
    try:
        yield
    finally:
        notifications["gymnasium_robotics"] = said


def old_contacts(model) -> None:
    """Makes the bodies of a compiled model touch as they did in MuJoCo 2, which D4RL ran on.

    Contacts began at the larger of two geoms' margins; from 3.5 on they begin at the sum, and an ant stands 1 cm
    higher.  Halves are right where margins are equal, which they are but for the hammer's board and the Franka's
    links, of margin 0.  And convex shapes met by libccd at one point, not by its successor at several.
    """
    import mujoco

    if mujoco.mj_version() >= 3005000:
        model.geom_margin[:] /= 2
    for successor in ("mjDSBL_NATIVECCD", "mjDSBL_MULTICCD"):
        model.opt.disableflags |= getattr(mujoco.mjtDisableBit, successor, 0)
