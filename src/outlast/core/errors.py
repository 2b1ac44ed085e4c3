"""What can go wrong, told for the person at 3 a.m.: what could not be done, to what, why, and the next command.

One base class. A subclass parts the user's mistake, a refusal, a passing fault, corruption and a bug, because the
exit code, a retry and a page all depend on which it was. A message never carries a secret or a customer's row.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; `docs/REFERENCE.md` is checked against this list."""

    DONE = 0
    FAILED = 1  # failed, or could not tell
    USAGE = 2
    REFUSED = 3  # nothing was changed: a conflict, a stale plan, an unclassified table
    FOUND = 4  # a check found a difference or damage
    INTERRUPTED = 130


class OutlastError(Exception):
    """Base of every error a user can cause or meet. `code` is stable, for machines; `hint` names what to do next."""

    exit_code: ExitCode = ExitCode.FAILED
    default_code: str = "failed"
    retryable: bool = False

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process boundaries (one worker process a connection), so they must survive pickling whole.
        return _rebuild, (type(self), self.message, self.hint, self.code, self.__dict__)


def _rebuild(
    kind: type[OutlastError], message: str, hint: str | None, code: str, attributes: dict[str, object]
) -> OutlastError:
    error = kind.__new__(kind)
    OutlastError.__init__(error, message, hint=hint, code=code)
    error.__dict__.update(attributes)
    return error


class UsageError(OutlastError):
    """The command, its options or outlast.toml are wrong. Nothing was done."""

    exit_code = ExitCode.USAGE
    default_code = "usage"


class Refused(OutlastError):  # noqa: N818 - a refusal is an outcome, and reads as one
    """Outlast will not do it as things stand. Nothing was changed."""

    exit_code = ExitCode.REFUSED
    default_code = "refused"


class NotFoundError(OutlastError):
    """The tenant, table, moment, plan or run that was named does not exist."""

    exit_code = ExitCode.USAGE
    default_code = "not-found"


class SourceError(OutlastError):
    """The source could not be reached, or did not do what was asked of it."""

    default_code = "source"


class TransientError(OutlastError):
    """A passing fault (a cut connection, a timed-out lock, a throttled store): trying again may help."""

    default_code = "transient"
    retryable = True


class VaultError(OutlastError):
    """The vault could not be read or written: absent, full, read-only, of a newer format."""

    default_code = "vault"


class VaultKeyError(VaultError):
    """A key is missing, is the wrong one, or cannot open what it should."""

    default_code = "key"


class CorruptionError(VaultError):
    """Bytes in the vault are not the bytes that were written: missing, changed, or rolled back."""

    exit_code = ExitCode.FOUND
    default_code = "corrupt"


class BugError(OutlastError):
    """An invariant of ours does not hold. The operation stopped before it could do harm; please report it."""

    default_code = "bug"
