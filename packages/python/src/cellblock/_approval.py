"""Programs whose calls may wait for somebody's approval.

The program waits where it is, in its sandbox, until the decision comes: nothing of it is run
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from ._result import Result

GATHERING = 0.05
"""Seconds in which further calls may join those that wait for the same answer."""

D = TypeVar("D")


def _future() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


@dataclass(eq=False)
class Request(Generic[D]):
    """A call that waits for a decision."""

    id: str
    """Names it, in its program."""
    tool: str
    """The tool."""
    input: Any
    """What the program gave."""
    metadata: Any = None
    """What the tool said of it."""
    decision: asyncio.Future[D] = field(default_factory=_future)


class Program(Generic[D]):
    """A program that runs, and its calls that wait."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        """Where it runs."""
        self._running = 0
        self._calls = 0
        self._waiting: list[Request[D]] = []
        self._changed = asyncio.Event()
        self._task: asyncio.Task[Result]

    def start(self, run: Awaitable[Result]) -> None:
        """Runs it."""

        async def running() -> Result:
            return await run

        self._task = self.loop.create_task(running())
        self._task.add_done_callback(self._ended)

    async def call(self, run: Callable[[str], Awaitable[Any]]) -> Any:
        """Runs a nested call, which gets an id of its own."""
        self._calls += 1
        self._running += 1
        try:
            return await run(str(self._calls))
        finally:
            self._running -= 1
            self._changed.set()

    async def ask(self, request: Request[D]) -> D:
        """Waits for a decision; called within a nested call."""
        self._waiting.append(request)
        self._running -= 1
        self._changed.set()
        try:
            return await request.decision
        finally:
            self._running += 1
            if request in self._waiting:
                self._waiting.remove(request)

    @property
    def waiting(self) -> list[Request[D]]:
        """The calls that wait for a decision."""
        return list(self._waiting)

    def decide(self, decide: Callable[[Request[D]], D]) -> None:
        """Answers all of them."""
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            if not request.decision.done():
                request.decision.set_result(decide(request))

    async def advance(self) -> Result | None:
        """Runs until it has ended, or until all of its calls wait: then there is no result."""
        try:
            while not self._task.done():
                self._changed.clear()
                if self._waiting and self._running == 0:
                    gathered = len(self._waiting)
                    await asyncio.sleep(GATHERING)
                    if (
                        gathered == len(self._waiting)
                        and not self._running
                        and not self._task.done()
                    ):
                        return None
                    continue
                await self._changed.wait()
        except asyncio.CancelledError:
            self.cancel()
            raise
        return self._task.result()

    def cancel(self) -> None:
        """Ends it."""
        self._task.cancel()

    def _ended(self, task: asyncio.Task[Result]) -> None:
        self._changed.set()
        if not task.cancelled():
            # Somebody may have stopped caring.
            task.exception()
