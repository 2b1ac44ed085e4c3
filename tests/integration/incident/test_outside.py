"""Web hooks reach no address of our own network, whatever a subscriber writes into a URL or into the DNS."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpcore
import pytest
from httpcore import SOCKET_OPTION, NetworkStream

from outlast.incident.channels.outcome import Outcome, Went
from outlast.incident.channels.outside import Outside, Resolve, is_public, resolve
from outlast.incident.channels.webhook import Webhooks
from outlast.incident.letters import Letter
from outlast.incident.subscribers import Channel

PUBLIC = "93.184.215.14"


@dataclass
class Inner:
    """A server on this host that no web hook is meant for; it sends whoever asks for /elsewhere on to itself."""

    port: int = 0
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)


@pytest.fixture
def inner() -> Iterator[Inner]:
    found = Inner()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            found.asked.append(self.path)
            found.hosts.append(self.headers["Host"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307 if self.path == "/elsewhere" else 200)
            self.send_header("Location", f"http://127.0.0.1:{found.port}/taken")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        found.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield found
        server.shutdown()
        thread.join()


@dataclass
class Route(httpcore.NetworkBackend):
    """Where connections to public addresses end up in these tests: at `inner`. `dialed` are those asked for."""

    port: int
    dialed: list[str] = field(default_factory=list)
    away: str | None = None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        self.dialed.append(host)
        if host == self.away:
            raise httpcore.ConnectError("refused")
        return httpcore.SyncBackend().connect_tcp("127.0.0.1", self.port, timeout, local_address, socket_options)


def call(url: str, outside: Outside) -> Outcome:
    with closing(Webhooks(lambda _: None, outside)) as hooks:
        return hooks.send(Letter("letter-1", Channel.WEBHOOK, url, "subject", "{}"))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.8.8",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.3.4",
        "192.168.1.1",
        "169.254.169.254",  # metadata of AWS, Google, Azure and others
        "100.100.100.200",  # Alibaba's
        "192.0.0.192",  # Oracle's
        "192.0.0.9",
        "168.63.129.16",  # Azure's host
        "100.64.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "fd00:ec2::254",  # AWS's by IPv6
        "fec0::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",  # 169.254.169.254 by way of NAT64
        "2002:7f00:1::",  # 127.0.0.1 by way of 6to4
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",  # Teredo
    ],
)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    """Private, loopback, link-local, metadata, shared, multicast, reserved, and IPv6 that carries one of them."""
    assert not is_public(address)


@pytest.mark.parametrize("address", [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_a_public_address_is_called(address: str) -> None:
    """By IPv4, by IPv6, and by IPv6 that carries a public IPv4."""
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]", "0"])
def test_this_host_is_not_called_however_it_is_written(host: str, inner: Inner) -> None:
    """The system's resolver reads them all as this machine; not a byte arrives there."""
    outcome = call(f"http://{host}:{inner.port}/hook", Outside())
    assert outcome.went is Went.REFUSED
    assert "[incident] inside" in (outcome.problem or "")
    assert inner.asked == []


def test_a_name_that_changes_between_check_and_connection_gains_nothing(inner: Inner) -> None:
    """It is resolved once, and what was looked at is what is connected to; the next time it is refused."""
    answers = iter([[PUBLIC], ["127.0.0.1"]])
    route = Route(inner.port)
    outside = Outside(resolve=lambda host, port: next(answers), backend=route)
    assert call("http://rebinding.example/hook", outside).went is Went.SENT
    assert (route.dialed, inner.hosts) == ([PUBLIC], ["rebinding.example"])
    assert call("http://rebinding.example/hook", outside).went is Went.REFUSED
    assert route.dialed == [PUBLIC]


def test_one_inner_address_among_public_ones_is_enough_to_refuse(inner: Inner) -> None:
    """Which of them is tried first is not left to chance."""
    route = Route(inner.port)
    outside = Outside(resolve=lambda host, port: [PUBLIC, "10.0.0.1"], backend=route)
    assert call("http://both.example/hook", outside).went is Went.REFUSED
    assert route.dialed == []


def test_the_next_address_of_a_name_is_tried(inner: Inner) -> None:
    """An address that does not answer does not lose the letter."""
    route = Route(inner.port, away="8.8.4.4")
    outside = Outside(resolve=lambda host, port: ["8.8.4.4", PUBLIC], backend=route)
    assert call("http://two.example/hook", outside).went is Went.SENT
    assert route.dialed == ["8.8.4.4", PUBLIC]


def test_a_redirect_is_not_followed(inner: Inner) -> None:
    """A public host that sends us on to an inner one is asked once, and nobody else."""
    outside = Outside(resolve=lambda host, port: [PUBLIC], backend=Route(inner.port))
    outcome = call("http://public.example/elsewhere", outside)
    assert outcome.went is Went.LATER
    assert inner.asked == ["/elsewhere"]


def test_a_host_that_is_named_may_be_inside(inner: Inner) -> None:
    """By its name or its address, as it stands in the URL, and no other."""
    assert call(f"http://127.0.0.1:{inner.port}/hook", Outside(("127.0.0.1",))).went is Went.SENT
    assert call(f"http://LocalHost:{inner.port}/hook", Outside(("localhost",))).went is Went.SENT
    assert call(f"http://localhost:{inner.port}/hook", Outside(("127.0.0.1",))).went is Went.REFUSED


def test_a_proxy_that_the_environment_names_is_not_asked(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would resolve the name once more, inside."""
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{inner.port}")
    route = Route(inner.port)
    outside = Outside(resolve=lambda host, port: [PUBLIC], backend=route)
    assert call("http://public.example/hook", outside).went is Went.SENT
    assert (route.dialed, inner.asked) == ([PUBLIC], ["/hook"])


def unknown(host: str, port: int) -> list[str]:
    raise socket.gaierror(socket.EAI_NONAME, "not known")


def nothing(host: str, port: int) -> list[str]:
    return []


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://nowhere.invalid/hook", unknown),
        ("http://empty.example/hook", nothing),
        ("http://a..b/hook", resolve),
        ("http://host:99999/hook", resolve),
        ("http://[::1/hook", resolve),
    ],
)
def test_a_name_that_is_none_is_tried_again_later(url: str, found: Resolve) -> None:
    """The resolver may be away as well: no bounce, and no traceback."""
    outcome = call(url, Outside(resolve=found))
    assert outcome.went is Went.LATER
    assert "could not be reached" in (outcome.problem or "")
