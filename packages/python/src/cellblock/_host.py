"""Where programs run: a process of this package, or a host elsewhere."""

from __future__ import annotations

import asyncio
import atexit
import ipaddress
import os
import ssl
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from importlib.metadata import PackageNotFoundError, distribution
from typing import ClassVar
from urllib.parse import urlsplit

from ._connection import Connection, end_all, forked
from ._errors import CellblockError, HostUnavailableError
from ._outgoing import settle
from ._transport import ChildTransport, Transport, UnixTransport

EXIT_PATIENCE = 5.0
"""Seconds that a host may take to end when it is asked to; then it is killed."""

# The host of this package has no limits of its own beyond those that sessions ask for, or
# have by default; what a machine can bear is said here.
_CEILINGS = (
    "fuel=1000000000000000",
    "step_fuel=1000000000000000",
    "running_time=24h",
    "total_time=30days",
    "memory_bytes=1GiB",
    "host_bytes=1GiB",
    "output_bytes=60MiB",
    "output_items=1000000",
    "calls=1000000000",
    "input_bytes=60MiB",
    "result_bytes=60MiB",
    "timers=1000000",
    "stored_bytes=60MiB",
    "stored_keys=1000000",
    "source_bytes=60MiB",
    "typescript_bytes=4MiB",
)


class Host:
    """A host, and the connection to it that all its sessions share.

    Without arguments it is a process of its own, of the program in `cellblock-bin`, which the
    first program starts and which ends with this process. When a host fails, what was in
    flight there fails with `HostLostError`, and the next program starts or reaches it again.

    It serves any number of threads and event loops.

    Args:
        url: A host that runs already: `unix:///PATH`, `wss://NAME:PORT`, or, on this
            machine and on networks that are trusted as a whole, `ws://IP:PORT`.
        command: A program that serves framed JSON on its standard streams, and its
            arguments, instead of the one in `cellblock-bin`.
        park_key: A file with the key of parked programs, made when missing. Without one
            they can be woken only while the process lives that has parked them.
        token: The bearer token that the host wants of its clients.
        tls: How the host is checked, and a certificate of this side where it wants one;
            by default the system's authorities.

    Raises:
        ValueError: The arguments do not go together.
    """

    _default: ClassVar[Host | None] = None
    _default_lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(
        self,
        url: str | None = None,
        *,
        command: Sequence[str] | None = None,
        park_key: str | os.PathLike[str] | None = None,
        token: str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if url is not None and command is not None:
            raise ValueError("a host has a url or a command, not both")
        if park_key is not None and (url is not None or command is not None):
            raise ValueError("a host with a url or a command has a key of its own")
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._generation = 0
        arguments = [] if park_key is None else ["--park-key", os.fspath(park_key)]
        self._place, self._open = _transport(url, command, arguments, token, tls)
        self.asks_for_limits = url is None and command is None
        """Whether sessions always say what their limits are: the host itself has none."""

    @classmethod
    def default(cls) -> Host:
        """The host of this process, which sessions use unless they are given another."""
        with cls._default_lock:
            if cls._default is None:
                cls._default = cls()
            return cls._default

    async def connection(self) -> Connection:
        """The connection, opened when there is none.

        Raises:
            HostUnavailableError: It cannot be.
        """
        with self._lock:
            if self._connection is None or self._connection.lost:
                self._generation += 1
                self._connection = Connection(self._generation, self._place, self._open)
            opened = self._connection.opened
        return await asyncio.wrap_future(_watched(opened))

    async def close(self) -> None:
        """Ends the connection, and the process if it is one of this host.

        A program that is started later opens it again.
        """
        with self._lock:
            connection, self._connection = self._connection, None
        if connection:
            await asyncio.to_thread(connection.end, EXIT_PATIENCE)

    async def __aenter__(self) -> Host:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __del__(self) -> None:
        connection = getattr(self, "_connection", None)
        if connection:
            connection.end_soon()

    def __repr__(self) -> str:
        return f"Host({self._place!r})"


def binary() -> str:
    """The path of the program in `cellblock-bin`.

    Raises:
        HostUnavailableError: It is not installed.
    """
    try:
        files = distribution("cellblock-bin").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "cellblock":
            return str(file.locate())
    raise HostUnavailableError(
        "the package cellblock-bin is not installed: install it, or give a Host the url of one "
        "that runs elsewhere"
    )


def _transport(
    url: str | None,
    command: Sequence[str] | None,
    arguments: Sequence[str],
    token: str | None,
    tls: ssl.SSLContext | None,
) -> tuple[str, Callable[[], Transport]]:
    """What a host is called in errors, and what opens a connection to it."""
    place = url or ""
    parts = urlsplit(place)
    scheme = parts.scheme
    if (token or tls) and scheme not in ("ws", "wss"):
        raise ValueError("a token and TLS are for hosts at wss://")
    match scheme:
        case "":
            if url is not None:
                raise ValueError(f"{url!r} is not the url of a host")
            if command is not None:
                own = list(command)
                return own[0], lambda: ChildTransport(own)
            limits = [argument for limit in _CEILINGS for argument in ("--limit", limit)]
            return "cellblock", lambda: ChildTransport(
                [binary(), "host", "--listen", "stdio", *limits, *arguments]
            )
        case "unix":
            return place, lambda: UnixTransport(parts.path)
        case "ws" | "wss":
            if scheme == "ws" and token and not _is_local(parts.hostname or ""):
                raise ValueError("a token would be sent unencrypted: use wss://")
            if scheme == "ws" and tls:
                raise ValueError("ws:// is not encrypted: use wss://")
            return place, lambda: _web_socket(place, token, tls)
        case _:
            raise ValueError(f"a host is reached over unix, ws or wss, not {scheme}")


def _web_socket(url: str, token: str | None, tls: ssl.SSLContext | None) -> Transport:
    from ._websocket import WebSocketTransport

    return WebSocketTransport(url, token, tls)


def _is_local(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _watched(opened: Future[Connection]) -> Future[Connection]:
    """A future of its own for each who waits: to cancel one cancels no other."""
    own: Future[Connection] = Future()

    def done(opened: Future[Connection]) -> None:
        error = opened.exception()
        settle(own, error if isinstance(error, CellblockError) else opened.result())

    opened.add_done_callback(done)
    return own


def _after_fork() -> None:
    """The hosts of the parent are the parent's: this process starts its own."""
    Host._default = None
    Host._default_lock = threading.Lock()
    forked()


atexit.register(end_all, EXIT_PATIENCE)
os.register_at_fork(after_in_child=_after_fork)
