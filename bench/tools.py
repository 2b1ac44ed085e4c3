"""Jira with 100,000 issues and 300,000 comments: `python -m bench.tools [ISSUES]`.

A server of its own process answers as Jira does, fast enough not to be what is measured. What is printed: the first
backup, the second one's requests after ten issues changed, memory, `search`, and `show` with its start-up.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.tools import project
from tests.tools.fake import TOKEN
from tests.tools.jira import USER

ISSUES = 100_000
COMMENTS = 3
CHANGED = 10
_WORDS = (
    *("disk", "memory", "network", "checkout", "payment", "invoice", "login"),
    *("queue", "replica", "cache", "certificate", "quota", "index"),
)
_START = datetime(2025, 1, 1, tzinfo=UTC)


def issue(number: int, updated: datetime) -> dict[str, Any]:
    """An issue of about two kilobytes with its comments, the same for the same number."""
    chosen = random.Random(number)

    def text(count: int) -> str:
        return " ".join(chosen.choice(_WORDS) for _ in range(count)) + f" unique{number}"

    comments = [
        {"id": f"{number}{n}", "body": text(30), "author": {"displayName": f"Person {n}"}, "created": _stamp(_START)}
        for n in range(COMMENTS)
    ]
    fields = {
        "summary": text(6),
        "description": {"type": "doc", "content": [{"type": "text", "text": text(120)}]},
        "updated": _stamp(updated),
        "created": _stamp(_START),
        "status": {"name": "Open"},
        "priority": {"name": "High"},
        "comment": {"comments": comments, "total": COMMENTS},
        "worklog": {"worklogs": [], "total": 0},
        "attachment": [],
    }
    log = {"histories": [], "total": 0}
    return {"id": str(10_000_000 + number), "key": f"OPS-{number}", "fields": fields, "changelog": log}


def _stamp(time_: datetime) -> str:
    return f"{time_:%Y-%m-%dT%H:%M:%S}.000+0000"


def serve(count: int, changed: Synchronized[int], requests: Synchronized[int], port: Synchronized[int]) -> None:
    """Jira's search over `count` issues, one a minute; `changed` of them were changed just now."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1024 * 1024

        def do_GET(self) -> None:
            requests.value += 1
            parts = urlsplit(self.path)
            query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
            data = json.dumps(self._answer(parts.path, query)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _answer(self, path: str, query: dict[str, str]) -> Any:
            if path.endswith("/search/jql"):
                return self._search(query)
            if "remotelink" in path or path.endswith(("/issuetype", "/field", "/role", "/users/search")):
                return []
            if path.endswith("/myself"):
                return {"accountId": "me"}
            return {"values": [], "total": 0, "issueLinkTypes": [], "permissionSchemes": [], "issueSecuritySchemes": []}

        def _search(self, query: dict[str, str]) -> Any:
            found = re.search(r"-(\d+)m", query["jql"])
            assert found is not None
            now = datetime.now(UTC)
            since = now - timedelta(minutes=int(found[1]))
            first = max(0, int((since - _START).total_seconds() // 60))
            start, size = int(query.get("nextPageToken", "0")), int(query["maxResults"])
            fresh = changed.value
            numbers = [*range(min(first, count), count - fresh), *range(count - fresh, count)]
            page = numbers[start : start + size]
            issues = [issue(one, now if one >= count - fresh else _START + timedelta(minutes=one)) for one in page]
            more = {"nextPageToken": str(start + size)} if start + size < len(numbers) else {}
            return {"issues": issues, **more}

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    port.value = server.server_address[1]
    server.serve_forever()


@contextmanager
def serving(count: int) -> Iterator[tuple[str, Any, Any]]:
    context = multiprocessing.get_context("fork")
    changed, requests, port = context.Value("i", 0), context.Value("i", 0), context.Value("i", 0)
    process = context.Process(target=serve, args=(count, changed, requests, port), daemon=True)
    process.start()
    while port.value == 0:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port.value}", changed, requests
    finally:
        process.terminate()
        process.join()


def run(folder: Path, *arguments: str) -> tuple[float, float, str]:
    """Seconds, peak memory in MB, and what it printed."""
    began = time.monotonic()
    process = subprocess.Popen(
        [Path(sys.executable).parent / "outlast", *arguments],
        cwd=folder,
        env={**os.environ, "OUTLAST_DESK_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, out
    return time.monotonic() - began, used.ru_maxrss / 1024, out


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ISSUES
    with tempfile.TemporaryDirectory() as name, serving(count) as (url, changed, requests):
        folder = Path(name)
        project.write(folder, "desk", "jira", site=url, user=USER, skip=["remote_links"], reconcile="30d")
        seconds, memory, _ = run(folder, "backup", "desk")
        print(f"first backup: {seconds:.0f} s, {memory:.0f} MB, {requests.value:,} requests")
        changed.value, requests.value = CHANGED, 0
        seconds, memory, _ = run(folder, "backup", "desk")
        print(f"second backup, {CHANGED} issues changed: {seconds:.1f} s, {memory:.0f} MB, {requests.value} requests")
        key = str(10_000_000 + count // 2)
        seconds, memory, _ = run(folder, "show", "--source", "desk", "acme", "jira.issues", "--key", key)
        print(f"show of one ticket: {seconds:.2f} s with start-up, {memory:.0f} MB")
        _search(folder, count)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        parts = {path.name: path.stat().st_size >> 20 for path in (folder / ".outlast").glob("*.sqlite")}
        print(f"on disk: {size >> 20} MB in all; local: {parts}")


def _search(folder: Path, count: int) -> None:
    from outlast.library.copy import FILE_NAME, LocalCopy

    with LocalCopy.open(folder / ".outlast" / FILE_NAME) as copy:
        copy.search("warm")
        for words in (
            f"unique{count // 3}",
            "disk",
            "payment invoice replica",
            "certifi",
            "disk quota uniq",
            "nowhere",
        ):
            times = []
            for _ in range(5):
                began = time.perf_counter()
                found = copy.search(words, 20)
                times.append(1000 * (time.perf_counter() - began))
            print(f"search {words!r}: {min(times):.1f} to {max(times):.1f} ms, {len(found)} found")


if __name__ == "__main__":
    main()
