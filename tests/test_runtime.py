"""Importing the package changes nothing in its host; the command and training prepare the process that they run in."""

import os
import subprocess
import sys

IMPORT = """
import os, sys
before = dict(os.environ)
import swgctl
assert dict(os.environ) == before
assert "ctypes" not in sys.modules  # through which the allocator would be told
assert "torch" not in sys.modules
"""
PREPARE = """
import os
from swgctl import runtime
runtime.prepare()
print(os.environ["GOMP_SPINCOUNT"])
"""


def python(code: str, **env: str) -> str:
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", code], env=kept | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_import_changes_nothing():
    python(IMPORT)


def test_what_the_user_has_set_stays():
    assert python(PREPARE) == "3000"
    assert python(PREPARE, GOMP_SPINCOUNT="7") == "7"


COMMAND = """
import os, sys
from swgctl.cli import main
sys.argv = ["swgctl", "recipe", "ls"]
try:
    main()
finally:
    print(os.environ["GOMP_SPINCOUNT"])
"""


def test_the_command_prepares_its_process():
    assert python(COMMAND).endswith("3000")
