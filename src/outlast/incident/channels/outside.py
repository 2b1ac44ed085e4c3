"""Connections that lead outside: to public addresses alone, so that nobody's web hook reaches into our own network.

A name is resolved once, every address of it is looked at, and the connection is made to one that was: what the name
says a moment later does not matter. Hosts inside that are meant are named in the settings.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

import httpcore

if TYPE_CHECKING:
    from httpcore import SOCKET_OPTION, NetworkBackend, NetworkStream

Resolve = Callable[[str, int], list[str]]
"""A host's addresses, as text. Raises OSError."""

_WITHIN = ipaddress.ip_network("64:ff9b::/96")  # IPv4 by way of NAT64: the last 32 bits are the address
_LIKE_INNER = tuple(
    ipaddress.ip_network(one)
    for one in (
        "168.63.129.16/32",  # answered by Azure's host to each of its machines
        "192.0.0.0/24",  # Oracle's metadata; Python before 3.11.9 takes most of it for public
        "192.88.99.0/24",
        "64:ff9b:1::/48",
        "3fff::/20",
        "5f00::/16",
    )
)
"""Public by what Python knows, but not by IANA's registries or the clouds."""


class InsideError(OSError):
    """An address that is not public."""


def resolve(host: str, port: int) -> list[str]:
    """By the system's resolver."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet: not private, loopback, link-local, shared, multicast or
    reserved, nor an IPv6 address that carries such an IPv4 one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        carried = ip.ipv4_mapped or ip.sixtofour
        if carried is None and ip in _WITHIN:
            carried = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if carried is not None:
            return is_public(str(carried))
        if ip.teredo is not None or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not any(ip in one for one in _LIKE_INNER)


class Outside(httpcore.NetworkBackend):
    """Makes the connections of an httpcore pool. `inside` names hosts that may be anywhere."""

    def __init__(
        self, inside: Collection[str] = (), resolve: Resolve = resolve, backend: NetworkBackend | None = None
    ) -> None:
        self._inside = frozenset(name.casefold().rstrip(".") for name in inside)
        self._resolve = resolve
        self._backend = backend or httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> NetworkStream:
        """Raises InsideError before anything is sent, and httpcore's errors where no address answers."""
        failed: Exception = httpcore.ConnectError("the name has no address")
        for address in self.addresses(host, port):
            try:
                return self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed

    def addresses(self, host: str, port: int) -> list[str]:
        """Where a host may be connected to. One address that is not public is enough to refuse it."""
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name is not known") from error
        if host.casefold().rstrip(".") not in self._inside and not all(is_public(one) for one in found):
            raise InsideError("it leads to an address that is not public")
        return found

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[SOCKET_OPTION] | None = None
    ) -> NetworkStream:
        raise InsideError("a socket of this machine")
