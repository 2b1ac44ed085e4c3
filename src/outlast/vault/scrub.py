"""Scrubbing: every byte of a vault is read, and everything that is not as it was written is named.

Without a key: names are the hashes of bytes, signatures, the chains of runs and marks, that what is pointed to is
there. With a key: every wrapped key opens, every manifest, every box, and every chunk has the rows that its digest
says. One damaged object never hides another: each check catches its own. `scrub_tenant.py` does one tenant's folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from outlast.core.errors import CorruptionError, OutlastError
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.header import HEADER_PATH, NAMING_PATH, verify_header
from outlast.vault.keys import Identity, prefix_of
from outlast.vault.lineage import Span, trace
from outlast.vault.manifest import Head
from outlast.vault.marks import Ledger, Mark, mark_path, read_mark
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.receipt import scrub_receipts
from outlast.vault.record import digest
from outlast.vault.run import RunRecord, read_run, run_path
from outlast.vault.scrub_findings import Finding as Finding
from outlast.vault.scrub_findings import Level as Level
from outlast.vault.scrub_log import LogAnchor, check_marks, scrub_log
from outlast.vault.scrub_tenant import TenantFolder, scrub_folder
from outlast.vault.segment import SegmentHeader
from outlast.vault.undo import scrub_undo

_FOLDERS_AT_ONCE = 4
_PATH = re.compile(
    r"(?P<source>[^/]+)/(?:(?:runs/(?P<run>\d{10})|marks/(?P<mark>\d{10}))\.json"
    r"|(?P<prefix>[0-9a-f]{32})/(?:packs/(?P<pack>[0-9a-f]{64})|keys/(?P<key>age1[0-9a-z]+)\.age)"
    r"|undo/(?P<undo>[0-9a-z]+/[0-9a-f]{64})"
    r"|receipts/(?P<receipt>[0-9a-z]+/(?:receipt|(?:approval|run)-\d{4})\.json)"
    r"|log/(?P<log>\d{12}(?:-\d{12})?))"
)


@dataclass(frozen=True, slots=True)
class Anchor:
    """What is known from outside the vault to have been written: a run, and the SHA-256 of its record if that is known;
    the newest segment of the log (0: none), and its header's."""

    run: int
    digest: str | None = None
    segment: int = 0
    segment_digest: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a scrub found. `newest` is each source's newest run, to be kept as the next scrub's anchor."""

    findings: tuple[Finding, ...]
    objects: int
    size_bytes: int
    newest: Mapping[str, Anchor]
    keyed: bool

    @property
    def damaged(self) -> bool:
        return any(finding.level is Level.DAMAGE for finding in self.findings)


@dataclass(slots=True)
class _Source:
    """One source's objects as they were listed: run and mark numbers, and each tenant folder's paths with sizes."""

    name: str
    runs: list[int]
    marks: list[int]
    folders: dict[str, dict[str, int]]
    undo: dict[str, int] = field(default_factory=dict)
    receipts: dict[str, int] = field(default_factory=dict)
    log: bool = False


@dataclass(slots=True)
class _Named:
    """What runs and segments say of others: the runs that were folded from the log, and the marks that they saw."""

    folds: dict[int, RunRecord] = field(default_factory=dict)
    marks: dict[int, tuple[str | None, str]] = field(default_factory=dict)

    def note(self, record: RunRecord) -> None:
        if record.folded is not None:
            self.folds[record.run] = replace(record, heads={}, recipients={}, sealed=b"")
        self.note_mark(record.mark, f"run {record.run}")

    def note_mark(self, mark: tuple[int, str | None] | None, where: str) -> None:
        if mark is not None:
            self.marks[mark[0]] = (mark[1], where)


Progress = Callable[[int], None]
"""Called with bytes that were read since the last call."""


def scrub(
    vault: Vault,
    *,
    expect: Mapping[str, Anchor] | None = None,
    only: tuple[str, str] | None = None,
    progress: Progress = lambda _: None,
) -> Report:
    """Read and check everything, or `only` one (source, prefix) and what leads to it. Raises where nothing can be read.

    `expect` holds, by source, a run that must be there.
    """
    findings = list(_header(vault))
    objects = 0
    size_bytes = 0
    sources: dict[str, _Source] = {}
    for item in vault.store.list():
        objects += 1
        size_bytes += item.size_bytes
        if finding := _sort(sources, item.path, item.size_bytes):
            findings.append(finding)
    for name in expect or {}:
        sources.setdefault(name, _Source(name, [], [], {}))
    newest: dict[str, Anchor] = {}
    for source in sources.values():
        if only is None or only[0] == source.name:
            anchor = (expect or {}).get(source.name)
            findings += _source(vault, source, anchor, only and only[1], newest, progress)
    if not vault.has_identity:
        findings.append(
            Finding(
                Level.NOTE, "keyless", "", "checked without a key: names, signatures and chains, not what is inside"
            )
        )
    return Report(tuple(findings), objects, size_bytes, newest, vault.has_identity)


def _header(vault: Vault) -> Iterator[Finding]:
    naming = None
    try:
        naming = verify_header(vault.store, vault.pin)["naming"]
    except OutlastError as error:
        yield Finding.of(error, HEADER_PATH)
    try:
        sealed = vault.store.get(NAMING_PATH)
        if naming not in (None, digest(sealed)):
            raise CorruptionError(f"the bytes of {NAMING_PATH} are not those that were written", code="changed-bytes")
        if vault.has_identity:
            vault.naming()
    except OutlastError as error:
        yield Finding.of(error, NAMING_PATH)


def _sort(sources: dict[str, _Source], path: str, size_bytes: int) -> Finding | None:
    if path in (HEADER_PATH, NAMING_PATH):
        return None
    match = _PATH.fullmatch(path)
    if match is None:
        return Finding(Level.NOTE, "foreign", path, f"{path} is nothing that Outlast wrote; it does no harm")
    source = sources.setdefault(match["source"], _Source(match["source"], [], [], {}))
    if match["run"]:
        source.runs.append(int(match["run"]))
    elif match["mark"]:
        source.marks.append(int(match["mark"]))
    elif match["undo"]:
        source.undo[path] = size_bytes
    elif match["receipt"]:
        source.receipts[path] = size_bytes
    elif match["log"]:
        source.log = True
    else:
        source.folders.setdefault(match["prefix"], {})[path] = size_bytes
    return None


def _undo(vault: Vault, source: _Source, ledger: Ledger, progress: Progress) -> Iterator[Finding]:
    """Before-images of applied plans: all their bytes, and with a key every row. Those of erased tenants stay shut."""

    def key_of(name: str, prefix: str, recipient: str) -> Identity:
        return vault.key(name, TenantEntry(Tenant(TenantKey(prefix)), prefix, recipient, Head(0, "", 0, 0)))

    opened = key_of if vault.has_identity else None
    # A sweep that was interrupted may have left an object and not its parts
    kept = sorted(source.undo.keys() - ledger.swept)
    for path, error in scrub_undo(vault.store, kept, vault.pin.signers, opened):
        if error.code != "erased":
            yield Finding.of(error, path)
    progress(sum(source.undo.values()))


def _receipts(vault: Vault, source: _Source, ledger: Ledger, progress: Progress) -> Iterator[Finding]:
    kept = sorted(source.receipts.keys() - ledger.swept)
    for path, error in scrub_receipts(vault.store, kept, vault.pin.signers):
        yield Finding.of(error, path)
    progress(sum(source.receipts.values()))


def _source(
    vault: Vault,
    source: _Source,
    anchor: Anchor | None,
    only: str | None,
    newest: dict[str, Anchor],
    progress: Progress,
) -> list[Finding]:
    findings: list[Finding] = []
    ledger = _marks(vault, source, findings)
    digests: dict[int, str] = {}
    names: dict[str, Tenant] = {}
    named = _Named()
    lineage = trace(_noted(_runs(vault, source, ledger, findings, digests, names), named))
    findings += _newest(source, digests, anchor)
    end = _log(vault, source, ledger, named, anchor, findings, progress, only)
    findings += check_marks(ledger, named.marks)
    if digests:
        newest[source.name] = Anchor(max(digests), digests[max(digests)])
        if end is not None:
            newest[source.name] = replace(newest[source.name], segment=end.segment, segment_digest=end.digest)
    findings += _names(vault, source, names)
    if only is None:
        findings += _undo(vault, source, ledger, progress)
        findings += _receipts(vault, source, ledger, progress)
    spans: dict[str, list[Span]] = {}
    for span in lineage.spans:
        spans.setdefault(span.prefix, []).append(span)
    prefixes = [prefix for prefix in sorted({*spans, *source.folders}) if only in (None, prefix)]
    folders = [
        TenantFolder(
            source.name, prefix, names.get(prefix), tuple(spans.get(prefix, ())), source.folders.get(prefix, {})
        )
        for prefix in prefixes
    ]
    with ThreadPoolExecutor(_FOLDERS_AT_ONCE, "scrub") as pool:
        for found in pool.map(lambda folder: scrub_folder(vault, folder, ledger, lineage, progress), folders):
            findings += found
    return findings


def _noted(records: Iterable[RunRecord], named: _Named) -> Iterator[RunRecord]:
    for record in records:
        named.note(record)
        yield record


def _log(
    vault: Vault,
    source: _Source,
    ledger: Ledger,
    named: _Named,
    anchor: Anchor | None,
    findings: list[Finding],
    progress: Progress,
    only: str | None,
) -> SegmentHeader | None:
    """Scrub the source's log, if it has one or should have. Returns its newest header."""
    known = LogAnchor(anchor.segment, anchor.segment_digest) if anchor is not None and anchor.segment else None
    if not (source.log or known or named.folds):
        return None
    found, headers = scrub_log(vault, source.name, ledger, named.folds, known, progress, only)
    findings += found
    for header in headers:
        named.note_mark(header.mark, f"log segment {header.path}")
    return headers[-1] if headers else None


def _marks(vault: Vault, source: _Source, findings: list[Finding]) -> Ledger:
    """The ledger of the marks that can be trusted; every other is a finding."""
    marks: list[Mark] = []
    before: str | None = None
    present = set(source.marks)
    for number in range(1, max(present, default=0) + 1):
        path = mark_path(source.name, number)
        if number not in present:
            findings.append(Finding(Level.DAMAGE, "missing-object", path, f"mark {path} is gone"))
            before = None
            continue
        try:
            mark, found = read_mark(vault.store, source.name, number, vault.pin.signers)
        except OutlastError as error:
            findings.append(Finding.of(error, path))
            before = None
            continue
        if before is not None and mark.previous != before:
            findings.append(Finding(Level.DAMAGE, "chain", path, f"mark {path} does not follow the one before it"))
        marks.append(mark)
        before = found
    return Ledger.of(source.name, marks, before)


def _runs(
    vault: Vault,
    source: _Source,
    ledger: Ledger,
    findings: list[Finding],
    digests: dict[int, str],
    names: dict[str, Tenant],
) -> Iterator[RunRecord]:
    """Every run record that can be trusted, ascending; every other, and every gap, is a finding."""
    present = set(source.runs)
    swept = ledger.swept
    for number in range(1, max(present, default=0) + 1):
        path = run_path(source.name, number)
        if number not in present:
            if path not in swept:
                findings.append(Finding(Level.DAMAGE, "missing-object", path, f"run record {path} is gone"))
            continue
        try:
            record, found = read_run(vault.store, source.name, number, vault.pin.signers)
            if vault.has_identity:
                tenants = vault.details_of(record).tenants
                names.update((prefix, Tenant(TenantKey(key), label)) for prefix, key, label in tenants)
        except OutlastError as error:
            findings.append(Finding.of(error, path))
            continue
        digests[number] = found
        if number - 1 in digests and record.previous != digests[number - 1]:
            findings.append(
                Finding(Level.DAMAGE, "chain", path, f"run record {path} does not follow the one before it")
            )
        yield record


def _newest(source: _Source, digests: Mapping[int, str], anchor: Anchor | None) -> Iterator[Finding]:
    newest = max(source.runs, default=0)
    folder = f"{source.name}/runs/"
    if anchor is None:
        yield Finding(
            Level.NOTE,
            "no-anchor",
            folder,
            f"the newest run of {source.name!r} is {newest}; without an anchor (--expect RUN) a rollback of the whole "
            "store to an earlier state cannot be excluded",
        )
    elif newest < anchor.run:
        yield Finding(
            Level.DAMAGE,
            "rolled-back",
            run_path(source.name, anchor.run),
            f"the newest run of {source.name!r} in the store is {newest}, but run {anchor.run} had been seen: "
            "runs were taken away",
        )
    elif anchor.digest is not None and digests.get(anchor.run) not in (None, anchor.digest):
        yield Finding(
            Level.DAMAGE,
            "replaced",
            run_path(source.name, anchor.run),
            f"run record {run_path(source.name, anchor.run)} is another one than had been seen",
        )


def _names(vault: Vault, source: _Source, names: Mapping[str, Tenant]) -> Iterable[Finding]:
    """Whether every folder is the one that its tenant's name gives."""
    if not vault.has_identity or not names:
        return []
    try:
        naming = vault.naming()
    except OutlastError:
        return []  # a finding of the header's already
    wrong: Sequence[str] = [
        prefix for prefix, tenant in names.items() if prefix_of(naming, source.name, tenant.key) != prefix
    ]
    return [
        Finding(
            Level.DAMAGE, "prefix", f"{source.name}/{prefix}/", f"{source.name}/{prefix} is not its tenant's folder"
        )
        for prefix in wrong
    ]
