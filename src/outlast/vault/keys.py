"""Keys: who may open what. Each tenant has an age identity of its own, wrapped to the vault's recipients.

A backup holds public keys, the naming key and the signing key; it cannot open what it wrote. Opening takes the
operator's or the recovery identity.
"""

from __future__ import annotations

import hmac
import os
import secrets
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pyrage  # type: ignore[import-untyped]
from pyrage import x25519

from outlast.core.errors import CorruptionError, VaultKeyError
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.age import ChangedError, NotOursError, SecretKey, open_age
from outlast.vault.signature import NAMESPACE_MANIFEST, Signer

NAMING_BYTES = 32
COMMAND_TIMEOUT_S = 60


@cache
def _recipient(text: str) -> x25519.Recipient:
    try:
        return x25519.Recipient.from_str(text)
    except pyrage.RecipientError as error:
        raise VaultKeyError(
            f"{text[:16]!r} is not an age recipient", hint="Recipients look like age1…; see [vault] in outlast.toml."
        ) from error


def seal(recipients: Sequence[str], plaintext: bytes) -> bytes:
    """Encrypt to age recipients, in age's binary format."""
    return bytes(pyrage.encrypt(plaintext, [_recipient(recipient) for recipient in recipients]))


class Identity:
    """One or several age identities: what can open."""

    def __init__(self, identities: Sequence[x25519.Identity], origin: str) -> None:
        self._identities = list(identities)
        self._secrets: list[SecretKey] = []  # the same for OpenSSL, made when something is opened
        self.origin = origin  # where it came from, for errors; never the secret

    def __repr__(self) -> str:
        return f"Identity(from {self.origin})"

    @classmethod
    def from_text(cls, text: str, origin: str) -> Identity:
        """Read an age identity file: comments, and AGE-SECRET-KEY-1… lines. Raises VaultKeyError."""
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
        try:
            identities = [x25519.Identity.from_str(line) for line in lines]
        except pyrage.IdentityError as error:
            raise VaultKeyError(
                f"{origin} is not an age identity", hint="It holds a line that begins with AGE-SECRET-KEY-1."
            ) from error
        if not identities:
            raise VaultKeyError(f"{origin} holds no age identity", hint="It holds a line AGE-SECRET-KEY-1….")
        return cls(identities, origin)

    def __reduce__(self) -> tuple[object, ...]:
        """Over a pipe to a worker process, and nowhere else."""
        text = "\n".join(str(identity) for identity in self._identities)
        return Identity.from_text, (text, self.origin)

    @classmethod
    def joined(cls, identities: Sequence[Identity]) -> Identity:
        """One that opens what any of them opens."""
        return cls([one for each in identities for one in each._identities], "the tenant's keys")

    @classmethod
    def load(cls, path: Path) -> Identity:
        """From OUTLAST_IDENTITY (the text itself, or a file's path), else from `path`."""
        given = os.environ.get("OUTLAST_IDENTITY")
        if given and "AGE-SECRET-KEY-" in given:
            return cls.from_text(given, "OUTLAST_IDENTITY")
        path = Path(given) if given else path
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise VaultKeyError(
                f"cannot read the operator's key {path}: {why}",
                hint="Set OUTLAST_IDENTITY to the recovery key's file, or name the file under [keys] operator.",
                code="missing-key",
            ) from error
        return cls.from_text(text, str(path))

    @classmethod
    def from_command(cls, command: str) -> Identity:
        """What a command prints, from a password manager for example."""
        try:
            done = subprocess.run(
                shlex.split(command), capture_output=True, check=False, timeout=COMMAND_TIMEOUT_S, text=True
            )
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise VaultKeyError(
                f"the operator_command could not be run ({type(error).__name__})", hint="Try it by hand."
            ) from error
        if done.returncode != 0:
            raise VaultKeyError(f"the operator_command failed with exit code {done.returncode}", hint="Try it by hand.")
        return cls.from_text(done.stdout, "the output of operator_command")

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(str(identity.to_public()) for identity in self._identities)

    def open(self, sealed: bytes, what: str) -> bytes:
        """Decrypt. Raises VaultKeyError where this is not the key, CorruptionError where the bytes were changed."""
        if len(self._secrets) < len(self._identities):
            self._secrets = [SecretKey.from_text(str(identity)) for identity in self._identities]
        try:
            return open_age(sealed, self._secrets)
        except ChangedError as error:
            raise _changed(what) from error
        except NotOursError:
            pass  # pyrage knows every form, and says what is wrong
        try:
            return bytes(pyrage.decrypt(sealed, self._identities))
        except pyrage.DecryptError as error:
            if "No matching keys" in str(error):
                raise VaultKeyError(
                    f"cannot open {what}: the key from {self.origin} is not one that it was sealed to",
                    hint="Use the operator's or the recovery key of this vault (OUTLAST_IDENTITY=FILE).",
                    code="wrong-key",
                ) from error
            raise _changed(what) from error


def _changed(what: str) -> CorruptionError:
    return CorruptionError(f"cannot open {what}: its bytes were changed after they were written", code="changed-bytes")


@dataclass(frozen=True, slots=True)
class NewKey:
    """A tenant's fresh key: its public half, and the object that holds its private half, wrapped."""

    recipient: str
    wrapped: bytes


@dataclass(frozen=True, slots=True)
class WriterKeys:
    """What a backup holds. Picklable; its repr shows no secret."""

    naming: bytes = field(repr=False)
    signer: Signer
    recipients: tuple[str, ...]

    @classmethod
    def load(cls, directory: Path, recipients: Sequence[str]) -> WriterKeys:
        """Read `naming.key` and `signing.key`. Raises VaultKeyError with the file's name."""
        return cls(read_naming(directory), read_signer(directory), tuple(recipients))

    def save(self, directory: Path) -> None:
        """Write both files, readable by their owner only. Raises VaultKeyError where one exists."""
        save_naming(directory, self.naming)
        write_secret(directory / "signing.key", self.signer.private)

    @classmethod
    def generate(cls, recipients: Sequence[str]) -> WriterKeys:
        return cls(secrets.token_bytes(NAMING_BYTES), Signer.generate(), tuple(recipients))

    @property
    def signers(self) -> tuple[str, ...]:
        return (self.signer.public,)

    def prefix(self, source: str, tenant: TenantKey) -> str:
        """The tenant's folder in the vault: a keyed hash, so that the store's owner learns no name."""
        return prefix_of(self.naming, source, tenant)

    def sign_manifest(self, sealed: bytes) -> bytes:
        return self.signer.sign(NAMESPACE_MANIFEST, sealed)

    def new_key(self, tenant: Tenant) -> NewKey:
        """A key for a tenant: an age identity file with its name in comments, sealed to the vault's recipients."""
        identity = x25519.Identity.generate()
        recipient = str(identity.to_public())
        lines = [
            f"# tenant: {_line(tenant.key)}",
            f"# label: {_line(tenant.label or '')}",
            f"# public key: {recipient}",
        ]
        text = "\n".join([*lines, str(identity), ""])
        return NewKey(recipient, seal(self.recipients, text.encode("utf-8", "surrogateescape")))


def read_naming(directory: Path) -> bytes:
    """The naming key of this host. Raises VaultKeyError with the file's name."""
    path = directory / "naming.key"
    try:
        return bytes.fromhex(_read_key(path).strip())
    except ValueError as error:
        raise VaultKeyError(
            f"{path} is not hexadecimal", hint="Move it away and take it out of the vault again: outlast keys new"
        ) from error


def save_naming(directory: Path, naming: bytes) -> None:
    """Write the naming key, readable by its owner only. Raises VaultKeyError where there is one."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_secret(directory / "naming.key", naming.hex() + "\n")


def read_signer(directory: Path, name: str = "signing.key") -> Signer:
    """A signing key of this host. Raises VaultKeyError with the file's name."""
    return Signer(_read_key(directory / name))


def prefix_of(naming: bytes, source: str, tenant: TenantKey) -> str:
    message = source.encode() + b"\0" + tenant.encode("utf-8", "surrogateescape")
    return hmac.digest(naming, message, "sha256").hex()[:32]


def key_path(source: str, prefix: str, recipient: str) -> str:
    """Where a tenant's wrapped key lies. Its public half names it, so that two hosts can never overwrite one."""
    return f"{source}/{prefix}/keys/{recipient}.age"


def generate_identity(purpose: str) -> tuple[str, str]:
    """A fresh identity file's text, and its recipient."""
    identity = x25519.Identity.generate()
    recipient = str(identity.to_public())
    return f"# Outlast: {purpose}\n# public key: {recipient}\n{identity}\n", recipient


def write_secret(path: Path, text: str) -> None:
    """Write a new file that only its owner can read."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise VaultKeyError(
            f"cannot write the key {path}: {error.strerror}",
            hint="Move what is there out of the way; Outlast overwrites no key.",
        ) from error


def _read_key(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise VaultKeyError(
            f"cannot read the key {path}: {why}",
            hint="Run as the user who owns it, or put it back from a copy. Where there is none: outlast keys",
            code="missing-key",
        ) from error


def _line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
