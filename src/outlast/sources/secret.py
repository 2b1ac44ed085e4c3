"""A secret that a command of the user's prints: a password, a token. It is in no error and in no argument list."""

from __future__ import annotations

import shlex
import subprocess

from outlast.core.errors import SourceError

TIMEOUT_S = 30


def secret_of(command: str, what: str, *, timeout_s: float = TIMEOUT_S) -> str:
    """The first line that the command prints. `what` ("password") names it in errors.

    The command is split without a shell. Raises SourceError where it fails or prints nothing.
    """
    hint = f"it must print the {what} as its first line and exit with 0."
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, check=False, timeout=timeout_s, text=True)
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            f"the {what} command could not be run ({type(error).__name__})", hint=f"Try it by hand; {hint}"
        ) from None  # the error's own text has the command, and perhaps what it printed
    secret = done.stdout.partition("\n")[0].rstrip("\r")
    if done.returncode != 0 or not secret:
        told = f"failed with exit code {done.returncode}" if done.returncode else "printed nothing"
        raise SourceError(f"the {what} command {told}", hint=hint[0].upper() + hint[1:])
    return secret
