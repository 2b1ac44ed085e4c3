"""`python -m outlast`: the same as the installed command."""

from outlast.cli.main import main

main()
