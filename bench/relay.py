"""The relay under load, and the desk over much: `python -m bench SCALE relay`.

Creations are sent by a process of its own over real connections, at a steady rate, to the installed `outlast serve`
with an upstream that takes everything, on the same cores, over all the alerts that are there already; each is on disk
when it is answered. A latency is counted from when its request was due, so a pause of the server is not hidden by the
sender waiting for it.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

from tests.copies import fill_copy
from tests.serving import Serving, serving
from tests.vendors import vendor

from bench.figures import Figure
from outlast.library.copy import FILE_NAME
from outlast.relay import tables
from outlast.state.database import Database

CONNECTIONS = 32
RATE = 1000
SECONDS = 5
ALERTS = 1_000_000
TICKETS = 100_000


async def _connection(port: int, key: str, number: int, start: float, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for sent in range(RATE * SECONDS // CONNECTIONS):
        due = start + (sent * CONNECTIONS + number) / RATE
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        alert = {
            "message": f"disk {number}-{sent} is full", "alias": f"{number}-{sent}", "description": "x" * 300,
            "tags": ["db", "disk"], "details": {"host": "db1", "mount": "/var"}, "priority": "P2",
        }  # fmt: skip
        body = json.dumps(alert).encode()
        head = (
            f"POST /v2/alerts HTTP/1.1\r\nHost: outlast\r\nAuthorization: GenieKey {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 202"), answer
        length = next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.partition(b":")[2]))
        latencies.append(time.perf_counter() - due)
    writer.close()


async def _load(port: int, key: str) -> tuple[list[float], float]:
    latencies: list[float] = []
    start = time.perf_counter() + 0.5
    await asyncio.gather(*(_connection(port, key, number, start, latencies) for number in range(CONNECTIONS)))
    return sorted(latencies), time.perf_counter() - start


def _vendor(pipe: Connection) -> None:
    with vendor() as one:
        pipe.send(one.url)
        pipe.recv()


def creations(folder: Path, alerts: int) -> Figure:
    """A thousand durable creations a second, with so many alerts there."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_vendor, args=(theirs,), daemon=True)
    process.start()
    try:
        with serving(folder, upstreams={"og": ("opsgenie", ours.recv())}) as one:
            key = one.integration("load", "opsgenie")
            one.start()
            latencies, seconds = asyncio.run(_load(int(one.url.rpartition(":")[2]), key))
    finally:
        ours.send(None)
        process.join()
    rate, p99_ms = len(latencies) / seconds, 1000 * latencies[len(latencies) * 99 // 100]
    return Figure(
        "durable alert creations, p99",
        f"{p99_ms:.0f} ms at {rate:.0f}/s",
        f"50 ms at {RATE}/s",
        p99_ms < 50 and rate > RATE * 0.98,
        f"{CONNECTIONS} connections for {SECONDS} s, median {1000 * latencies[len(latencies) // 2]:.0f} ms, with "
        f"{alerts:,} alerts there; sender, server and upstream share the cores; every alert is fsynced, then passed on "
        "meanwhile.",
    )


def _fill_alerts(folder: Path, count: int) -> None:
    """Alerts as the relay keeps them, written past it: what is measured is reading them."""
    with Database.file(folder / "state" / "serve.sqlite") as database:
        database.install(tables.SCHEMA)
        now = time.time()
        for start in range(1, count + 1, 10_000):
            rows = [_row(number, now) for number in range(start, min(start + 10_000, count + 1))]
            with database.write() as connection:
                connection.execute(tables.alerts.insert(), rows)


def _row(number: int, now: float) -> dict[str, object]:
    is_open = number % 50 == 0
    return {
        "id": f"alert-{number}", "tiny": number, "scope": "opsgenie", "alias": f"a{number}", "integration": "load",
        "open_key": f"opsgenie\x1fa{number}" if is_open else None, "status": "open" if is_open else "closed",
        "acknowledged": number % 100 == 0, "owner": "", "priority": "P3", "message": f"disk {number} is full",
        "count": 1, "created_at": now - number, "updated_at": now, "last_at": now, "fields": '{"tags":["db"]}',
    }  # fmt: skip


def pages(folder: Path, alerts: int, tickets: int) -> list[Figure]:
    """Each page over so many alerts and tickets, and the memory of the process that shows them."""
    words = ("disk", "memory", "replica", "failover", "checkout", "payment", "queue", "certificate")
    issues = {
        f"{number}": {
            "key": f"OPS-{number}",
            "fields": {
                "summary": f"{words[number % 8]} {words[number // 8 % 8]} {number}",
                "description": "text " * 40,
            },
        }
        for number in range(tickets)
    }
    fill_copy(folder / "state" / FILE_NAME, {"jira.issues": issues})
    with serving(folder) as one:
        one.user("bench", "operator")
        one.start()
        slowest = _slowest(one, alerts, tickets)
        assert one.process is not None
        status = Path(f"/proc/{one.process.pid}/status").read_text()
    peak_mb = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    path, seconds = slowest
    return [
        Figure(
            "slowest page of the desk", f"{1000 * seconds:.0f} ms", "100 ms", seconds < 0.1,
            f"{path}; median of 9, over HTTP, with {alerts:,} alerts and {tickets:,} tickets.",
        ),
        Figure(
            "memory of `serve` meanwhile", f"{peak_mb:.0f} MB", "300 MB", peak_mb < 300,
            f"peak resident, with {alerts:,} alerts in the list, after every page of it was asked for.",
        ),
    ]  # fmt: skip


def _slowest(one: Serving, alerts: int, tickets: int) -> tuple[str, float]:
    found = []
    with one.browser("bench") as browser:
        for path in (
            "/", "/?view=all", "/?view=closed", "/?view=all&query=priority:+P3", f"/?view=all&before={alerts // 2}",
            f"/alerts/alert-{alerts // 2}", "/documents", "/documents?query=failover+replica", "/documents?query=disk",
            f"/documents/main/jira.issues/{tickets // 2}", "/oncall", "/upstreams",
        ):  # fmt: skip
            taken = []
            for _ in range(9):
                started = time.perf_counter()
                assert browser.get(path).status_code == 200, path
                taken.append(time.perf_counter() - started)
            found.append((path, sorted(taken)[4]))
            print(f"  {path}: {1000 * found[-1][1]:.1f} ms", file=sys.stderr)
    return max(found, key=lambda one: one[1])


def measure(share: float) -> list[Figure]:
    """Creations at the whole rate whatever the `share`, which is of the alerts and tickets that are there."""
    alerts = int(ALERTS * share)
    with tempfile.TemporaryDirectory(prefix="outlast-bench-") as name:
        folder = Path(name)
        _fill_alerts(folder, alerts)
        return [creations(folder, alerts), *pages(folder, alerts, int(TICKETS * share))]
