"""A tool: Jira with 100,000 issues and 300,000 comments (`python -m bench 1 tools`).

A server in a process of its own answers as Jira does, fast enough not to be what is measured.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import statistics
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

from bench.figures import Figure

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
    return {"id": str(10_000_000 + number), "key": f"OPS-{number}", "fields": fields}


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
            self._send(self._answer(parts.path, query))

        def do_POST(self) -> None:
            """Changelogs, one change an issue."""
            requests.value += 1
            wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["issueIdsOrKeys"]
            change = {"created": _stamp(_START), "items": [{"field": "status", "toString": "Open"}]}
            logs = [{"issueId": one, "changeHistories": [{"id": f"{one}9", **change}]} for one in wanted]
            self._send({"issueChangeLogs": logs})

        def _send(self, answer: Any) -> None:
            data = json.dumps(answer).encode()
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


def measure(share: float) -> list[Figure]:
    """The issue's figures, at `share` of its size."""
    count = int(ISSUES * share)
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as name, serving(count) as (url, changed, requests):
        folder = Path(name)
        project.write(folder, "desk", "jira", site=url, user=USER, skip=["remote_links"], reconcile="30d")
        _, memory, _ = run(folder, "backup", "desk")
        whole = requests.value
        requests.value = 0
        run(folder, "backup", "desk")
        quiet = requests.value
        changed.value, requests.value = CHANGED, 0
        _, again, _ = run(folder, "backup", "desk")
        more = requests.value - quiet
        key = str(10_000_000 + count // 2)
        show = ("show", "--source", "desk", "acme", "jira.issues", "--key", key)
        seconds = statistics.median(run(folder, *show)[0] for _ in range(3))
        slowest, words = _search(folder, count)
    size = f"{count:,} issues with {COMMENTS * count:,} comments"
    return [
        Figure(
            "a tool: search",
            f"{slowest:.0f} ms",
            "100 ms",
            slowest < 100,
            f"Jira, {size}: the slowest of {words} questions (rare, common, several words, beginnings of a word that "
            "each ticket has one of, nothing found), each the best of three, in a running process.",
        ),
        Figure("a tool: show", f"{seconds:.2f} s", "1 s", seconds < 1, f"One of {size}, with start-up; median of 3."),
        Figure(
            "a tool: memory",
            f"{max(memory, again):.0f} MB",
            "300 MB",
            max(memory, again) < 300,
            f"Peak of `outlast backup` of {size}, the local copy filled too; the first and the incremental run.",
        ),
        Figure(
            "a tool: requests for a change",
            f"{more / CHANGED:.1f}",
            "2",
            more <= 2 * CHANGED,
            f"Requests of a second run after {CHANGED} of {count:,} issues changed, less those of a run after none did "
            f"({quiet}), for each that changed. The first run made {whole:,}.",
        ),
    ]


def _search(folder: Path, count: int) -> tuple[float, int]:
    """The slowest question's best time in milliseconds, and how many there were. None may find nothing wrongly."""
    from outlast.library.copy import FILE_NAME, LocalCopy

    there = {
        f"unique{count // 3}": COMMENTS + 1,
        "disk": 20,
        "payment invoice replica": 20,
        "certifi": 20,
        "disk quota uniq": 20,
        "disk quota unique": 20,
        "disk memory network checkout payment": 20,
        "nowhere": 0,
    }
    slowest = 0.0
    with LocalCopy.open(folder / ".outlast" / FILE_NAME) as copy:
        for words, wanted in there.items():
            times = []
            for _ in range(3):
                began = time.perf_counter()
                found = copy.search(words, 20)
                times.append(1000 * (time.perf_counter() - began))
                assert len(found) >= min(wanted, count), words
            slowest = max(slowest, min(times))
    return slowest, len(there)
