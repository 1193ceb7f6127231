"""`python -m swgctl` is `swgctl`."""

from swgctl.cli import main

main()
