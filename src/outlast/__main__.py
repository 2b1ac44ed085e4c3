"""`python -m outlast`, and the installed command.

A worker process that multiprocessing starts reads this module again and needs nothing of it: so nothing is imported
before it is called.
"""

from __future__ import annotations


def main() -> None:
    from outlast.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
