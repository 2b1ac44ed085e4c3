"""`outlast serve`: the relay, the pages and the API, in one process."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from outlast.web.services import Services

_STOP_WITHIN_S = 10


def serve(
    context: typer.Context,
    bind: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Listen there, and not where outlast.toml says.")
    ] = None,
) -> ExitCode:
    """Take alerts, pass them on, page where the vendor does not, and serve the desk, until told to stop.

    It needs neither the vendor nor the vault nor the protected database to start. The first login is made by
    `outlast user add`, and what monitoring sends with by `outlast integration add`. It can be killed at any time: what
    was answered as accepted is on disk, and is gone on with.
    """
    from outlast.cli.serving import opened_services

    invocation = Invocation.of(context)
    address = bind or invocation.config.document.serve.bind
    with opened_services(invocation) as services, _listening(address) as listener:
        host, port = listener.getsockname()[:2]
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        _run(services, listener, lambda: invocation.output.note(f"Outlast serves {url}"))
    return invocation.output.finish({"served": url}, "")


def _listening(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(1024)
    except (OSError, ValueError, OverflowError) as error:
        raise OutlastError(
            f"cannot listen on {address}: {error}", hint="Is another one running? Else: outlast serve --bind HOST:PORT"
        ) from None
    return listener


def _run(services: Services, listener: socket.socket, ready: Callable[[], None]) -> None:
    import gc
    import logging
    from contextlib import suppress

    import uvicorn

    from outlast.web.app import create_app

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    server = uvicorn.Server(
        uvicorn.Config(
            create_app(services, ready),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_STOP_WITHIN_S,
            timeout_keep_alive=75,
            backlog=1024,
        )
    )
    # What was made to start is there to stay. Looked through by the collector again and again, all of it in one go, it
    # would hold up every alert that comes meanwhile.
    gc.collect()
    gc.freeze()
    with suppress(KeyboardInterrupt):  # how it ends: by SIGTERM or Ctrl-C, with everything closed
        server.run(sockets=[listener])
