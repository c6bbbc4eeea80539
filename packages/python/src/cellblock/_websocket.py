"""Framed JSON over a WebSocket, for hosts elsewhere. Every call here blocks: see `_connection`."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl

from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, WebSocketException
from websockets.sync.client import connect

from ._messages import HEADER_BYTES, MAX_FRAME_BYTES
from ._transport import EXIT_GRACE, PATIENCE


class WebSocketTransport:
    """Framed JSON over a WebSocket: each frame, length included, is one binary message."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else None
        self._open = contextlib.ExitStack()
        try:
            connecting = connect(
                url,
                additional_headers=headers,
                ssl=tls,
                # A compressed message can be a thousand times as large as it looks.
                compression=None,
                proxy=None,
                open_timeout=PATIENCE,
                close_timeout=EXIT_GRACE,
                max_size=HEADER_BYTES + MAX_FRAME_BYTES,
            )
            self._socket = self._open.enter_context(connecting)
        except WebSocketException as error:
            raise OSError(f"WebSocket: {error}") from None

    def read(self) -> bytes | None:
        try:
            message = self._socket.recv()
        except ConnectionClosedOK:
            return None
        except ConnectionClosed as error:
            raise OSError(f"WebSocket: {error}") from None
        if isinstance(message, str):
            raise ValueError("a text message, and frames are binary")
        length = int.from_bytes(message[:HEADER_BYTES], "little")
        if len(message) != HEADER_BYTES + length:
            raise ValueError("a message that is not one frame")
        return message[HEADER_BYTES:]

    def write(self, frame: bytes) -> None:
        try:
            self._socket.send(frame)
        except ConnectionClosed as error:
            raise OSError(f"WebSocket: {error}") from None

    def end_input(self) -> None:
        self._socket.close()

    def abort(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.socket.shutdown(socket.SHUT_RDWR)

    def finish(self) -> str | None:
        self._open.close()
        return None

    def forked(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._socket.socket.detach())
