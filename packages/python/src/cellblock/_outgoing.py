"""What waits to be written to a host."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from queue import SimpleQueue
from typing import TypeVar

from ._errors import CellblockError
from ._transport import Transport

MAX_QUEUED_BYTES = 64 << 20
"""Bytes that may wait before those who send more wait."""

T = TypeVar("T")


class Outgoing:
    """Frames on their way to the thread that writes them."""

    def __init__(self) -> None:
        # Frames, what makes one when its turn comes, and `None` for the end. It takes things
        # from anywhere, also from finalizers, which may run within a call of its own.
        self._queue: SimpleQueue[bytes | Callable[[], bytes | None] | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._queued = 0
        self._waiting: list[Future[None]] = []
        self._dropped = False

    def put(self, frame: bytes) -> None:
        """Queues a frame."""
        with self._lock:
            self._queued += len(frame)
        self._queue.put(frame)

    def put_made(self, make: Callable[[], bytes | None]) -> None:
        """Queues a frame that is made when its turn comes, if it is. Takes no lock."""
        self._queue.put(make)

    def end(self) -> None:
        """Nothing follows. Takes no lock."""
        self._queue.put(None)

    def drop(self) -> None:
        """Nothing is written any more: nobody has to wait for room."""
        with self._lock:
            self._dropped = True
            waiting, self._waiting = self._waiting, []
        for room in waiting:
            settle(room, None)

    async def room(self, patience: float) -> None:
        """Waits while as much waits to be written as may.

        Where there is room it returns without a turn of the event loop, so that what is put
        next counts for whoever asks next. Raises `asyncio.TimeoutError`.
        """
        while waiting := self._room():
            await asyncio.wait_for(asyncio.wrap_future(waiting), patience)

    def _room(self) -> Future[None] | None:
        with self._lock:
            if self._queued <= MAX_QUEUED_BYTES or self._dropped:
                return None
            waiting: Future[None] = Future()
            self._waiting.append(waiting)
            return waiting

    def write_to(self, transport: Transport) -> None:
        """Writes what is queued, until the end. Raises what the transport raises."""
        while (item := self._queue.get()) is not None:
            if callable(item):
                made = item()
                if made:
                    transport.write(made)
                continue
            transport.write(item)
            with self._lock:
                self._queued -= len(item)
                waiting: list[Future[None]] = []
                if self._queued <= MAX_QUEUED_BYTES:
                    waiting, self._waiting = self._waiting, []
            for room in waiting:
                settle(room, None)


def fresh(error: CellblockError) -> CellblockError:
    """An error of its own for each who gets it: raising one adds to it."""
    return type(error)(*error.args)


def settle(future: Future[T], outcome: T | CellblockError) -> None:
    """Gives a future its outcome, unless those who wait have gone or it has one."""
    with contextlib.suppress(InvalidStateError):
        if isinstance(outcome, CellblockError):
            future.set_exception(fresh(outcome))
        else:
            future.set_result(outcome)
