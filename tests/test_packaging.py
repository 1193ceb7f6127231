"""What travels in the wheel."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT]
    subprocess.run(command, check=True)
    (path,) = folder.glob("swgctl-*.whl")
    return path


def test_all_that_is_read_at_run_time_is_inside(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    data = [p for p in (ROOT / "swgctl").rglob("*") if p.suffix in (".py", ".yaml", ".json", ".safetensors")]
    assert {str(p.relative_to(ROOT)) for p in data} <= inside
    assert {f"swgctl/recipes/{p.name}" for p in (ROOT / "recipes").glob("*.yaml")} <= inside
    assert not any(name.startswith("tests") for name in inside)


def test_it_works_outside_of_the_checkout(wheel, tmp_path):
    """Installed into a folder of its own, which comes before this checkout; the dependencies are this environment's."""
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel]
    subprocess.run(command, check=True)
    env = os.environ | {"PYTHONPATH": str(target)}

    def answer(*args):
        command = [target / "bin" / "swgctl", *args]
        return subprocess.run(command, check=True, cwd=tmp_path, env=env, capture_output=True, text=True).stdout

    place = "import swgctl; print(swgctl.__file__)"
    assert subprocess.check_output([sys.executable, "-c", place], env=env, cwd=tmp_path, text=True).startswith(
        str(target)
    )
    assert answer("recipe", "ls").split() == sorted(p.stem for p in (ROOT / "recipes").glob("*.yaml"))
    assert all(line.startswith(str(target)) for line in answer("recipe", "validate", "--all").splitlines())
    assert "steps:" in answer("recipe", "show", "demo")
    assert "demo" in answer("task", "ls")
