"""Receipts as the vault keeps them: what a rehearsal allows once, who approved it, and each run that used it.

    <source>/receipts/<receipt>/receipt.json         what was rehearsed
    <source>/receipts/<receipt>/approval-0001.json   somebody's approval, signed by that person's own key
    <source>/receipts/<receipt>/run-0001.json        a run: put before its transaction commits, which it names

Each is a record (record.py) whose content is sealed to the vault's recipients: no name, key or value is in the clear.
Put-if-absent of the next number is what makes a receipt work once. What a record means is rehearsal's.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zstandard

from outlast.core.errors import CorruptionError, NotFoundError, OutlastError, Refused, UsageError
from outlast.vault.keys import Identity, seal
from outlast.vault.record import FORMAT, decode_record, digest, encode_record, unverified_fields
from outlast.vault.signature import Signer
from outlast.vault.store import AlreadyExistsError, ObjectMissingError, Store

NAMESPACE_RECEIPT = "outlast-receipt"
NAMESPACE_APPROVAL = "outlast-approval"

_BYTES_MAX = 1 << 31
_ZSTD_LEVEL = 3
_NAME = re.compile(r"(?P<kind>approval|run)-(?P<number>\d{4})\.json")


def receipt_folder(source: str, receipt: str) -> str:
    return f"{source}/receipts/{receipt}"


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it lies there. `data` are its bytes, `content` what was sealed in it."""

    path: str
    data: bytes
    content: Mapping[str, Any]

    @property
    def digest(self) -> str:
        return digest(self.data)


@dataclass(frozen=True, slots=True)
class ReceiptShelf:
    """One source's receipts. `recipients` are who can open what is written, `signers` whose records are believed."""

    store: Store
    source: str
    recipients: tuple[str, ...]
    signers: tuple[str, ...]
    identity: Identity

    def put(self, receipt: str, content: Mapping[str, Any], signer: Signer) -> None:
        """Keep a new receipt; it survives a power cut by then."""
        self._create(receipt, "receipt.json", self._encoded(receipt, content, NAMESPACE_RECEIPT, signer))

    def get(self, receipt: str) -> Record:
        """Raises NotFoundError, or CorruptionError where it is not what was written."""
        path = f"{receipt_folder(self.source, receipt)}/receipt.json"
        try:
            return self._opened(path, receipt, NAMESPACE_RECEIPT, self.signers)
        except ObjectMissingError:
            raise NotFoundError(
                f"there is no receipt {receipt!r} of source {self.source!r} in the vault",
                hint="A rehearsal within its intent prints one: outlast rehearse SCRIPT",
            ) from None

    def find(self, given: str) -> str:
        """The id of the receipt that is, or begins with, `given`."""
        if re.fullmatch(r"[0-9a-z]+", given):
            found = {
                item.path.split("/")[2]
                for item in self.store.list(f"{self.source}/receipts/")
                if item.path.split("/")[2].startswith(given)
            }
            if len(found) > 1 and given not in found:
                raise UsageError(f"{len(found)} receipts begin with {given!r}", hint="Give more of the id.")
            if found:
                return given if given in found else found.pop()
        raise NotFoundError(
            f"there is no receipt {given!r} of source {self.source!r} in the vault",
            hint="A rehearsal within its intent prints one: outlast rehearse SCRIPT",
        )

    def to_approve(self, receipt: str, of: str, content: Mapping[str, Any]) -> bytes:
        """The line that an approver signs: it names the receipt by the SHA-256 of its bytes (`of`)."""
        fields = {**self._fields(receipt, content), "of": of}
        return json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"

    def approve(self, receipt: str, line: bytes, signature: bytes) -> int:
        """Keep an approval, its line signed by the approver. Returns its number."""
        number = len(self._names(receipt, "approval"))
        while True:
            number += 1
            try:
                self._create(receipt, f"approval-{number:04}.json", line + signature)
            except Refused:
                continue
            return number

    def approvals(self, receipt: str, keys: Mapping[str, str]) -> list[Record]:
        """The approvals by people of `keys` (their public keys by name). One by anybody else, or for other bytes than
        the receipt's, is none."""
        of = self.get(receipt).digest
        found = []
        for name in self._names(receipt, "approval"):
            path = f"{receipt_folder(self.source, receipt)}/{name}"
            data = self.store.get(path)
            content = self._unsealed(unverified_fields(data, path), path)
            key = keys.get(str(content.get("by")))
            if key is None:
                continue
            fields = decode_record(data, NAMESPACE_APPROVAL, (key,), path)
            if fields.get("receipt") == receipt and fields.get("of") == of:
                found.append(Record(path, data, content))
        return found

    def runs(self, receipt: str) -> list[Record]:
        """Every run that was about to commit with this receipt, in order; whether one did, its transaction tells."""
        folder = receipt_folder(self.source, receipt)
        return [
            self._opened(f"{folder}/{name}", receipt, NAMESPACE_RECEIPT, self.signers)
            for name in self._names(receipt, "run")
        ]

    def claim(self, receipt: str, number: int, content: Mapping[str, Any], signer: Signer) -> None:
        """Put run `number` of this receipt. Raises Refused where another has taken that number meanwhile."""
        self._create(receipt, f"run-{number:04}.json", self._encoded(receipt, content, NAMESPACE_RECEIPT, signer))

    def _create(self, receipt: str, name: str, data: bytes) -> None:
        path = f"{receipt_folder(self.source, receipt)}/{name}"
        try:
            self.store.create(path, data)
        except AlreadyExistsError:
            if self.store.get(path) == data:  # an answer that was lost
                return
            raise Refused(
                f"receipt {receipt} is being used by another run at this moment",
                hint="Look at what it does: outlast plans",
                code="receipt-used",
            ) from None

    def _names(self, receipt: str, kind: str) -> list[str]:
        items = self.store.list(receipt_folder(self.source, receipt) + "/")
        names = [item.path.rpartition("/")[2] for item in items]
        return sorted(name for name in names if (match := _NAME.fullmatch(name)) and match["kind"] == kind)

    def _fields(self, receipt: str, content: Mapping[str, Any]) -> dict[str, Any]:
        plain = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogateescape")
        sealed = seal(self.recipients, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(plain))
        return {"format": FORMAT, "receipt": receipt, "sealed": base64.b64encode(sealed).decode("ascii")}

    def _encoded(self, receipt: str, content: Mapping[str, Any], namespace: str, signer: Signer) -> bytes:
        return encode_record(self._fields(receipt, content), namespace, signer)

    def _opened(self, path: str, receipt: str, namespace: str, signers: Sequence[str]) -> Record:
        data = self.store.get(path)
        fields = decode_record(data, namespace, signers, path)
        if fields.get("receipt") != receipt:
            raise CorruptionError(f"{path} belongs to another receipt", code="receipt")
        return Record(path, data, self._unsealed(fields, path))

    def _unsealed(self, fields: Mapping[str, Any], path: str) -> Mapping[str, Any]:
        try:
            sealed = base64.b64decode(fields["sealed"], validate=True)
            plain = zstandard.ZstdDecompressor().decompress(self.identity.open(sealed, path), _BYTES_MAX)
            content = json.loads(plain.decode("utf-8", "surrogateescape"))
        except (KeyError, ValueError, TypeError, zstandard.ZstdError) as error:
            raise CorruptionError(f"{path} cannot be read: it is no receipt's record", code="receipt") from error
        if not isinstance(content, dict):
            raise CorruptionError(f"{path} cannot be read: it is no receipt's record", code="receipt")
        return content


def scrub_receipts(store: Store, paths: Sequence[str], signers: Sequence[str]) -> Iterator[tuple[str, OutlastError]]:
    """Read every record of some receipts and check its signature. An approval's is its giver's: that is checked when
    it counts, against the key that outlast.toml then names. Gives what is damaged, by path."""
    for path in paths:
        try:
            data = store.get(path)
            if path.rpartition("/")[2].startswith("approval"):
                unverified_fields(data, path)
            else:
                decode_record(data, NAMESPACE_RECEIPT, signers, path)
        except OutlastError as error:
            yield path, error
