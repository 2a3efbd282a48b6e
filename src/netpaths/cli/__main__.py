"""``python -m netpaths.cli``: the command line where its script is not on the path."""

from netpaths.cli import main

main()
