"""`python -m ams.cli`, the same as `ams`."""

from ams.cli import main

main()
