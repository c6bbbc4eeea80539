"""Threads for tools that block.

They are not those of `asyncio.to_thread`: a handful of tools that never return would hold up
everything else there, and keep the interpreter from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

MAX_THREADS = 256
"""Tools that may block at one time. Further calls wait until one of them returns."""

IDLE_SECONDS = 10.0
"""Seconds after which a thread with nothing to do ends."""


async def call(function: Callable[[Any], Any], given: Any) -> Any:
    """Calls a function in a thread, with the context variables of the caller.

    Cancelled, it leaves the thread to itself, or drops the call if it has not begun.
    """
    job = _Job(function, given)
    _workers.put(job)
    result, error = await job.done
    if error is None:
        return result
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        raise error
    # Others mean something to coroutines and event loops.
    raise RuntimeError(str(error) or type(error).__name__) from error


class _Job:
    """A call."""

    def __init__(self, function: Callable[[Any], Any], given: Any) -> None:
        self._function = function
        self._given = given
        self._context = contextvars.copy_context()
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[tuple[Any, BaseException | None]] = self._loop.create_future()

    def run(self) -> None:
        if self.done.cancelled():
            return
        result, error = None, None
        try:
            result = self._context.run(self._function, self._given)
        except BaseException as raised:
            error = raised
        # Its event loop may be closed by now, and nobody waits.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, result, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if not self.done.done():
            self.done.set_result((result, error))


class _Workers:
    """The threads. They are daemons: a tool that blocks does not keep the interpreter."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._count = 0
        self._idle = 0

    def put(self, job: _Job) -> None:
        """Hands a call to a thread that has nothing to do, or to a new one."""
        with self._changed:
            if self._idle <= len(self._jobs) and self._count < MAX_THREADS:
                self._start()
            self._jobs.append(job)
            self._changed.notify()

    def _start(self) -> None:
        try:
            threading.Thread(target=self._work, name="cellblock-tool", daemon=True).start()
        except RuntimeError:
            # The system has no more threads: those that there are do the work.
            if self._count == 0:
                raise
        else:
            self._count += 1

    def _work(self) -> None:
        while (job := self._take()) is not None:
            job.run()

    def _take(self) -> _Job | None:
        with self._changed:
            if not self._jobs:
                self._idle += 1
                self._changed.wait_for(lambda: self._jobs, IDLE_SECONDS)
                self._idle -= 1
            if self._jobs:
                return self._jobs.popleft()
            self._count -= 1
            return None


_workers = _Workers()


def _forked() -> None:
    global _workers  # noqa: PLW0603
    _workers = _Workers()


os.register_at_fork(after_in_child=_forked)
