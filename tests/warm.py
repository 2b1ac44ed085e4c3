"""Commands without their start: a process that has imported all of Outlast forks itself for each of them.

Most of a command's time is the interpreter's and the imports', the same every time and shown once by what starts
commands itself (`Outlast.start`, tests/serving.py). Here a command still is a process of its own (folder, environment,
standard streams, exit code, its ending) that runs the installed script: only the imports are done before.

`run` is used by tests, and stands in for `subprocess.run`. `serve` is the other side, one process a test process; it
ends when the test process does. Nothing is imported in it that starts a thread: a fork would lose it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

EXECUTABLE = Path(sys.executable).parent / "outlast"

_ROOT = Path(__file__).resolve().parent.parent
_REQUEST_MAX = 1 << 20
_INTERPRETER = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_", "COVERAGE_")
"""What is read when an interpreter starts: a command that is given something else of it starts one."""


_LATE = ("dlt.sources.helpers.rest_client.client", "dlt.common.configuration.specs.runtime_configuration")
"""What talks to tools: as slow to import as all the rest, which only imports it where it is needed."""


def run(
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdin: str,
    timeout_s: float,
    started: Callable[[int], None] = lambda pid: None,
) -> subprocess.CompletedProcess[str]:
    """Run `outlast` to its end, as `subprocess.run` would with its output captured. `started` hears its process id."""
    command = [str(EXECUTABLE), *arguments]
    if any(_is_of_interpreter(name) and value != os.environ.get(name) for name, value in environment.items()):
        return subprocess.run(
            command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False,
            timeout=timeout_s,
        )  # fmt: skip
    with _stream() as given, _stream() as stdout, _stream() as stderr:
        given.write(stdin)
        given.seek(0)
        request = {"arguments": list(arguments), "folder": str(folder), "environment": dict(environment)}
        code = _ended(request, [given.fileno(), stdout.fileno(), stderr.fileno()], timeout_s, started)
        return subprocess.CompletedProcess(command, code, _told(stdout), _told(stderr))


def _is_of_interpreter(name: str) -> bool:
    return name.startswith(_INTERPRETER)


def _stream() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8")


def _told(stream: IO[str]) -> str:
    stream.seek(0)
    return stream.read()


def _ended(request: Mapping[str, object], streams: list[int], timeout_s: float, started: Callable[[int], None]) -> int:
    """The exit code; the negative number of the signal that killed it."""
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            socket.send_fds(_warm(), [json.dumps(request).encode()], [*streams, theirs.fileno()])
        with ours.makefile("r") as answers:
            pid = answers.readline()
            assert pid, "the process that commands are forked from has ended"
            started(int(pid))
            ours.settimeout(timeout_s)
            try:
                return int(answers.readline())
            except TimeoutError:
                os.kill(int(pid), signal.SIGKILL)
                raise subprocess.TimeoutExpired(str(request["arguments"]), timeout_s) from None


_starting = threading.Lock()


def _warm() -> socket.socket:
    with _starting:
        return _started()


@cache
def _started() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", f"from tests.warm import serve; serve({theirs.fileno()})"],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # an interrupt at the terminal ends the tests, and they end it
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def serve(control: int) -> None:
    """Fork a command for each request, until nobody is there to ask."""
    import outlast

    for module in pkgutil.walk_packages(outlast.__path__, "outlast."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    for late in _LATE:
        importlib.import_module(late)
    assert len(os.listdir("/proc/self/task")) == 1, "a module that is imported starts a thread"
    sys.path[0] = str(EXECUTABLE.parent)
    gc.collect()
    gc.freeze()
    if _fork_commands(socket.socket(fileno=control)):
        _run_script()


def _run_script() -> None:
    """The installed script to its end, and the process's end but for taking every imported module apart."""
    try:
        runpy.run_path(str(EXECUTABLE), run_name="__main__")
    except SystemExit as ended:
        if isinstance(ended.code, int):
            threading._shutdown()  # type: ignore[attr-defined] # waits for threads as the interpreter does
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        raise


def _fork_commands(control: socket.socket) -> bool:
    """True in each command's process, False when the last one was asked for."""
    running: dict[int, tuple[int, socket.socket]] = {}
    with control, selectors.DefaultSelector() as ready:
        ready.register(control, selectors.EVENT_READ)
        while True:
            for key, _ in ready.select():
                if key.fileobj is not control:
                    ready.unregister(key.fd)
                    _tell_end(key.fd, *running.pop(key.fd))
                    continue
                request, descriptors, *_ = socket.recv_fds(control, _REQUEST_MAX, 4)
                if not request:
                    for pid, _ in running.values():
                        os.kill(pid, signal.SIGKILL)
                    return False
                pid = os.fork()
                if pid == 0:
                    _become(json.loads(request), descriptors)
                    for watched, (_, asking) in running.items():
                        os.close(watched)
                        asking.close()
                    return True
                asking = socket.socket(fileno=descriptors.pop())
                for descriptor in descriptors:
                    os.close(descriptor)
                asking.sendall(f"{pid}\n".encode())
                watched = os.pidfd_open(pid)
                running[watched] = (pid, asking)
                ready.register(watched, selectors.EVENT_READ)


def _tell_end(watched: int, pid: int, asking: socket.socket) -> None:
    _, status = os.waitpid(pid, 0)
    os.close(watched)
    with asking, suppress(BrokenPipeError):  # whoever asked waits no longer
        asking.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: dict[str, object], descriptors: list[int]) -> None:
    """What a new process has from whoever starts it."""
    folder, arguments, environment = request["folder"], request["arguments"], request["environment"]
    assert isinstance(folder, str)
    assert isinstance(arguments, list)
    assert isinstance(environment, dict)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, number)
    for descriptor in descriptors:
        os.close(descriptor)
    sys.argv = [str(EXECUTABLE), *arguments]
    sys.stdin, sys.stdout, sys.stderr = (
        open(fd, mode, lines, stream.encoding, stream.errors, closefd=False)  # noqa: SIM115 - open as long as we are
        for fd, mode, lines, stream in ((0, "r", -1, sys.stdin), (1, "w", -1, sys.stdout), (2, "w", 1, sys.stderr))
    )
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr  # type: ignore[misc, assignment]
