"""`python -m outlast`, and the installed command.

A worker process that multiprocessing starts reads this module again and needs nothing of it: so nothing is imported
before it is called.
"""

from __future__ import annotations


def main() -> None:
    _open_streams()
    from outlast.cli.main import main as command

    command()


def _open_streams() -> None:
    """Stdin, stdout and stderr lead nowhere where whoever started us had closed them (`>&-`): otherwise the first file
    that is opened would take their number, and get what is printed."""
    import os
    import sys

    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


if __name__ == "__main__":
    main()
