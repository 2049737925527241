"""`python -m fusionkit` is the command `fusionkit`."""

from .cli.app import main

main()
