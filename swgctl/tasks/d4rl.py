"""D4RL's files: its server, and the public copy of some of them.

The official server speaks http alone (its https answers 404).  The copy is asked only for files with a published
checksum, which shows whether it holds the same bytes.
"""

from swgctl.tasks import published, registry
from swgctl.tasks.downloads import Download, from_setting

SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
COPY = "https://huggingface.co/datasets/imone/D4RL/resolve/9ed58d8a76c12f4c1cb5db51fa71389e703d2ec5"
VARIABLE = "SWGCTL_D4RL_URL"


def download(path: str) -> Download:
    """The download of the file `path` of D4RL's server (`gym_mujoco_v2/hopper_medium-v2.hdf5`).

    Its sources: those of $SWGCTL_D4RL_URL, the server, and the copy where it has the file.
    Raises UsageError for a malformed setting, CorruptError for what is no path.
    """
    urls = [*from_setting(VARIABLE, path), f"{SERVER}/{path}"]
    if (known := published.of(path)) and known.copied:
        urls.append(f"{COPY}/{path.rpartition('/')[2]}")
    named = (task.name for task, _ in registry.table().values() if task.source == f"d4rl:{path}")
    return Download(path, tuple(urls), next(named, path), VARIABLE)
