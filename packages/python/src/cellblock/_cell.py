"""A program on the host, as it is seen from here.

Everything of it happens on the event loop where it was started, its tools included. What the
host sends for it arrives on the connection's reading thread, which passes it on in order.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import _messages as messages
from ._connection import (
    TRANSPORT_TIME,
    CancelledRequestError,
    Connection,
    Value,
    failure,
)
from ._errors import BusyError, CellblockError, CellNotFoundError, HostLostError
from ._outgoing import fresh
from ._result import Audio, Image, Kind, Result, Text, items_of, result_of
from ._stored import StoredValues
from ._tools import Toolbox, message_of

if TYPE_CHECKING:
    from ._remote import RemoteSession

CANCEL_GRACE = 5.0
"""Seconds that tools of a program that has ended may take to end once they are cancelled."""

_CENTURY_MS = 100 * 365 * 24 * 60 * 60 * 1000

_DELIVERED = '{"status":"ok","value":{"type":"notification/delivered"}}'

Notify = Callable[[str], Any]


def yield_ms(seconds: float | None) -> int:
    """A time to wait as hosts know it; `None` is without end."""
    if seconds is None:
        return _CENTURY_MS
    return max(0, min(_CENTURY_MS, round(seconds * 1000)))


class Cell:
    """One program, from its request to its end. It is used on one event loop."""

    def __init__(
        self,
        remote: RemoteSession,
        tools: Toolbox,
        stored: StoredValues,
        on_notify: Notify | None,
        prelude: int,
    ) -> None:
        self.id = ""
        """Its name in the session, once it was admitted."""
        self.host_id = ""
        """Its name on the host, once it was admitted."""
        self.loop = asyncio.get_running_loop()
        self._remote = remote
        self._connection: Connection = remote.connection
        self._tools = tools
        self._stored = stored
        self._on_notify = on_notify
        self._prelude = prelude
        self._context = contextvars.copy_context()
        # The answer on its way, who it was asked for, and what is kept of answers that nobody
        # had asked for.
        self._asked: int | None = None
        self._asker: asyncio.Future[Result] | None = None
        self._kept: list[Text | Image | Audio] = []
        # Who waits for the next answer, and until when.
        self._caller: asyncio.Future[Result] | None = None
        self._until: float | None = None
        # The end: announced by the host, known, and delivered to those who wait.
        self._announced = False
        self._end: Result | CellblockError | None = None
        self._terminating = False
        self._finished: asyncio.Future[None] = self.loop.create_future()
        self._late: asyncio.TimerHandle | None = None
        # Nested calls and notifications that are served.
        self._tasks: dict[int, asyncio.Task[None]] = {}

    # Callers, on the loop

    async def first(self, send: Callable[[Cell], int], seconds: float | None) -> Result:
        """Sends its request, and returns the first answer. Cancelled, it ends the program."""
        caller: asyncio.Future[Result] = self.loop.create_future()
        self._caller = self._asker = caller
        self._until = None if seconds is None else self.loop.time() + seconds
        self._asked = send(self)
        self._expect("an execute", TRANSPORT_TIME)
        try:
            return await caller
        except asyncio.CancelledError:
            self._terminate()
            self._cancel_tasks()
            raise

    async def wait(self, seconds: float | None) -> Result:
        """The next answer. Cancelled, it leaves the answer to the next caller."""
        if self._finished.done():
            return self._outcome()
        if self._caller:
            raise BusyError(f"somebody else waits for the cell {self.id}")
        caller: asyncio.Future[Result] = self.loop.create_future()
        self._caller = caller
        self._until = None if seconds is None else self.loop.time() + seconds
        if self._kept and self._asked is None and self._end is None:
            self._yield(None)
        else:
            self._ask()
        try:
            return await caller
        except asyncio.CancelledError:
            if self._caller is caller:
                self._caller = None
                self._unexpect()
                if self._asker is caller and self._asked is not None:
                    self._connection.cancel(self._asked)
            elif not caller.cancelled() and self._end is None:
                # It was answered in the moment in which it was cancelled.
                self._kept = [*caller.result().items, *self._kept]
            raise

    async def terminate(self) -> Result:
        """Ends the program, and returns its last answer."""
        self._terminate()
        await asyncio.shield(self._finished)
        return self._outcome()

    @property
    def is_over(self) -> bool:
        """Whether it has ended, and everything of it on this side."""
        return self._finished.done()

    def _outcome(self) -> Result:
        if isinstance(self._end, Result):
            return self._end
        raise fresh(self._end or CellNotFoundError(f"there is no cell {self.id}"))

    def _terminate(self) -> None:
        if self._terminating or self._end is not None:
            return
        self._terminating = True
        if self.host_id:
            self._send_termination()

    # What the host says, on the loop

    def admitted(self, host_id: str) -> None:
        """The host has admitted the program."""
        generation = self._connection.generation
        self.host_id = host_id
        self.id = host_id if generation == 1 else f"g{generation}:{host_id}"
        self._unexpect()
        if self._terminating:
            self._send_termination()
        elif self._until is not None:
            self._expect("a wait", self._until - self.loop.time() + TRANSPORT_TIME)

    def responded(self, tagged: messages.TaggedResponse) -> None:
        """An answer of the program."""
        try:
            self._respond(tagged)
        except Exception as error:
            # Whatever it is, nobody may be left to wait.
            self._connection.broken(error)

    def refused(self, error: CellblockError) -> None:
        """A request for it was refused, or the connection was lost."""
        if isinstance(error, CancelledRequestError):
            self._asked = None
            self._ask()
        elif (
            self._caller
            and self.host_id
            and not isinstance(error, (HostLostError, CellNotFoundError))
        ):
            self._asked = None
            caller, self._caller = self._caller, None
            _settle(caller, error)
        else:
            self._conclude(error)

    def ended(self) -> None:
        """The program has ended, and its last answer waits on the host."""
        self._announced = True
        self._ask()

    def lost(self, error: CellblockError) -> None:
        """The connection is gone, or the session was closed."""
        self._conclude(error)

    def _respond(self, tagged: messages.TaggedResponse) -> None:
        self._asked = None
        if tagged.yielded:
            self._kept.extend(items_of(tagged.yielded))
            caller = self._caller
            if caller and (self._asker is caller or self._kept):
                self._yield(tagged.yielded)
            self._ask()
            return
        last = tagged.result or tagged.terminated
        if last is None:
            raise ValueError("a response of no kind")
        if tagged.result and last.seam:
            self._stored.merge(last.seam.stored)
        items = [*self._kept, *items_of(last)]
        kind: Kind = "result" if tagged.result else "terminated"
        self._conclude(self._result(kind, last, items))

    def _yield(self, response: messages.Response | None) -> None:
        """Answers the caller that the program goes on."""
        caller, self._caller = self._caller, None
        items, self._kept = self._kept, []
        self._unexpect()
        if caller:
            if response:
                _settle(caller, self._result("yielded", response, items))
            else:
                _settle(caller, Result("running", self.id, tuple(items)))

    def _result(
        self, kind: Kind, response: messages.Response, items: list[Text | Image | Audio]
    ) -> Result:
        return result_of(kind, response, self.id, items, self._stored, prelude=self._prelude)

    def _conclude(self, end: Result | CellblockError) -> None:
        """It has ended: what it has called is cancelled, and then the end is delivered."""
        if self._end is not None:
            return
        self._end = end
        self._unexpect()
        self._remote.forget(self)
        if self._tasks:
            self._cancel_tasks()
            self._late = self.loop.call_later(CANCEL_GRACE, self._finish)
        else:
            self._finish()

    def _finish(self) -> None:
        self._unexpect()
        if self._finished.done():
            return
        self._finished.set_result(None)
        caller, self._caller = self._caller, None
        if caller and self._end is not None:
            _settle(caller, self._end)

    # What is asked of the host

    def _ask(self) -> None:
        """Asks for the next answer, if somebody wants it and none is on its way."""
        wanted = self._caller or self._announced
        if not wanted or self._asked is not None or self._terminating or self._end is not None:
            return
        seconds: float | None = 0.0
        if self._caller:
            seconds = None if self._until is None else max(0.0, self._until - self.loop.time())
            if seconds is not None:
                self._expect("a wait", seconds + TRANSPORT_TIME)
        self._asker = self._caller
        operation = {
            "method": "session/wait",
            "sessionId": self._remote.id,
            "request": {"cell_id": self.host_id, "yield_time_ms": yield_ms(seconds)},
        }
        self._asked = self._request(operation)

    def _send_termination(self) -> None:
        self._expect("a termination", TRANSPORT_TIME)
        self._request(
            {
                "method": "session/terminate",
                "sessionId": self._remote.id,
                "cellId": self.host_id,
            }
        )

    def _request(self, operation: dict[str, Any]) -> int | None:
        try:
            return self._connection.request(operation, Waiting(self))
        except CellblockError as error:
            self._conclude(error)
            return None

    def _expect(self, what: str, seconds: float) -> None:
        """The host is lost if it does not answer in time."""
        self._unexpect()
        error = HostLostError(f"the host did not answer {what} in time")
        self._late = self.loop.call_later(
            min(seconds, _CENTURY_MS / 1000), self._connection.fail, error
        )

    def _unexpect(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None

    # Nested calls and notifications, on the loop

    def delegated(self, delegate: int, request: messages.InvokeTool | messages.Notify) -> None:
        """The program calls a tool, or sends a notification."""
        if self._end is not None:
            self._connection.reply(delegate, failure("the program has ended"))
            return
        serving = self._serve(delegate, request)
        task = self._context.run(self.loop.create_task, serving)
        self._tasks[delegate] = task
        task.add_done_callback(lambda _: self._served(delegate))

    def cancelled(self, delegate: int) -> None:
        """The host gives one up."""
        task = self._tasks.get(delegate)
        if task:
            task.cancel()

    def _cancel_tasks(self) -> None:
        for task in self._tasks.values():
            task.cancel()

    def _served(self, delegate: int) -> None:
        del self._tasks[delegate]
        if self._end is not None and not self._tasks:
            self._finish()

    async def _serve(self, delegate: int, request: messages.InvokeTool | messages.Notify) -> None:
        """Runs a tool or delivers a notification, and answers."""
        outcome = failure("the tool was cancelled")
        try:
            if isinstance(request, messages.InvokeTool):
                called = request.invocation
                text = await self._tools.call(called.tool_name.name, called.input)
                outcome = f'{{"status":"ok","value":{{"type":"tool/result","result":{text}}}}}'
            else:
                await self._notify(request.text)
                outcome = _DELIVERED
            await self._connection.room()
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # Also what is no `Exception` is the program's to handle, and ends nothing here.
            outcome = failure(message_of(error))
        finally:
            # One that the host has given up gets no answer: `reply` knows.
            self._connection.reply(delegate, outcome)

    async def _notify(self, text: str) -> None:
        if self._on_notify:
            done = self._on_notify(text)
            if asyncio.iscoroutine(done) or isinstance(done, asyncio.Future):
                await done


class Waiting:
    """A wait or a termination that awaits its answer."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def answered(self, value: Value) -> bool:
        if not isinstance(value, messages.WaitCompleted):
            raise ValueError("an answer to a wait that is not one")
        live = value.outcome.live
        if live:
            post(self._cell, self._cell.responded, live)
        else:
            missing = CellNotFoundError(f"the host knows no cell {self._cell.id}, or not any more")
            post(self._cell, self._cell.refused, missing)
        return True

    def failed(self, error: CellblockError) -> None:
        post(self._cell, self._cell.refused, error)


def post(cell: Cell, function: Callable[..., None], *arguments: Any) -> bool:
    """Calls a cell's function on its loop; false when that is closed."""
    try:
        cell.loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return False
    return True


def _settle(future: asyncio.Future[Result], outcome: Result | CellblockError) -> None:
    if future.done():
        return
    if isinstance(outcome, CellblockError):
        future.set_exception(fresh(outcome))
    else:
        future.set_result(outcome)
