"""`python -m chemmara`."""

from chemmara.cli.main import main

main()
