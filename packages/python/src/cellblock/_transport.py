"""What carries frames to a host and back. Every call here blocks: see `_connection`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import IO, Protocol

from ._messages import HEADER_BYTES, MAX_FRAME_BYTES

log = logging.getLogger("cellblock.host")

PATIENCE = 30.0
"""Seconds that a host may take to accept a connection, and as long again to shake hands."""

EXIT_GRACE = 5.0
"""Seconds that a child may take to end once its input has."""

_LOG_LINE = 4_096
"""Bytes of a line of a child's log that are passed on."""

# What a child keeps of this process's environment: where it finds programs, its cache and its
# temporary files, and how it logs. No secrets of its parent's.
_KEPT = (
    "PATH",
    "HOME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "XDG_CACHE_HOME",
    "CELLBLOCK_LOG",
    "RUST_LOG",
)


class Transport(Protocol):
    """A stream of frames to a host and one back."""

    def read(self) -> bytes | None:
        """The next frame's payload; `None` at the end. Raises `OSError` or `ValueError`."""

    def write(self, frame: bytes) -> None:
        """Writes a whole frame, length included. Raises `OSError`."""

    def end_input(self) -> None:
        """Says that no frame follows: the host is to end the connection.

        Only the thread that writes may call it.
        """

    def abort(self) -> None:
        """Ends both streams at once, so that a read or a write that blocks returns."""

    def finish(self) -> str | None:
        """Frees what there is, once both streams have ended; may say how the host ended."""

    def forked(self) -> None:
        """This process is a fork: lets go of the streams without a word to the host."""


class _Frames:
    """Reads frames from a stream of bytes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self) -> bytes | None:
        header = self._stream.read(HEADER_BYTES)
        if not header:
            return None
        length = int.from_bytes(header, "little")
        if len(header) == HEADER_BYTES and length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes, and at most {MAX_FRAME_BYTES} fit")
        payload = self._stream.read(length) if len(header) == HEADER_BYTES else b""
        if len(header) < HEADER_BYTES or len(payload) < length:
            raise ValueError("it ended within a frame")
        return payload


class ChildTransport:
    """The standard streams of a child of this process."""

    def __init__(self, command: Sequence[str]) -> None:
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        # In a session of its own, so that Ctrl-C in a terminal reaches this process alone,
        # which decides what becomes of the host.
        self._child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        self._stdin = _piped(self._child.stdin)
        self._stdout = _piped(self._child.stdout)
        self._stderr = _piped(self._child.stderr)
        self._reaping = threading.Lock()
        self._reaped = False
        self._frames = _Frames(self._stdout)
        self._last_line = ""
        self._log = threading.Thread(target=self._pass_on, name="cellblock-log", daemon=True)
        self._log.start()

    def read(self) -> bytes | None:
        return self._frames.read()

    def write(self, frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(self._stdin.fileno(), rest) :]

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._stdin.close()

    def abort(self) -> None:
        with self._reaping:
            # Once it is reaped its number may be another's.
            if not self._reaped:
                self._kill_group()

    def finish(self) -> str | None:
        if not self._has_ended(EXIT_GRACE):
            self.abort()
        with self._reaping:
            # What it has left behind must not hold on to its log.
            self._kill_group()
            status = self._child.wait()
            self._reaped = True
        self._log.join(EXIT_GRACE)
        self._stdout.close()
        if not self._log.is_alive():
            self._stderr.close()
        how = f"signal {-status}" if status < 0 else f"exit code {status}"
        return f"it ended with {how}" + (f": {self._last_line}" if self._last_line else "")

    def forked(self) -> None:
        for stream in (self._stdin, self._stdout, self._stderr):
            # Not through the stream, whose lock another thread may have held.
            with contextlib.suppress(OSError, ValueError):
                os.close(stream.fileno())
        self._child.returncode = 0

    def _has_ended(self, patience: float) -> bool:
        """Waits for its end without reaping it: until then its number is its own."""
        until = time.monotonic() + patience
        pause = 0.001
        while True:
            try:
                options = os.WEXITED | os.WNOHANG | os.WNOWAIT
                if os.waitid(os.P_PID, self._child.pid, options) is not None:
                    return True
            except ChildProcessError:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.05)

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)

    def _pass_on(self) -> None:
        while line := self._stderr.readline(_LOG_LINE):
            text = line.decode("utf-8", "replace").rstrip()
            if text:
                self._last_line = text
                log.debug("%s", text)


def _piped(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise OSError("it has no standard streams")
    return stream


class UnixTransport:
    """A Unix socket."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(PATIENCE)
            self._socket.connect(path)
            self._socket.settimeout(None)
        except BaseException:
            self._socket.close()
            raise
        self._stream = self._socket.makefile("rb")
        self._frames = _Frames(self._stream)

    def read(self) -> bytes | None:
        return self._frames.read()

    def write(self, frame: bytes) -> None:
        self._socket.sendall(frame)

    def end_input(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def finish(self) -> str | None:
        self._stream.close()
        self._socket.close()
        return None

    def forked(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._socket.detach())
