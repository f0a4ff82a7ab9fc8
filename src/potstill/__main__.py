"""`python -m potstill` is the command line."""

from potstill.cli.main import main

main()
