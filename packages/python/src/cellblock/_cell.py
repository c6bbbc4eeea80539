"""A program on the host, as it is seen from here.

Everything of it happens on the event loop where it was started, its tools included. What the
host sends for it arrives on the connection's reading thread, which passes it on in order.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from . import _messages as messages
from ._calls import Call, Calls, Notify
from ._connection import TRANSPORT_TIME, CancelledRequestError, Connection, Value, failure
from ._errors import BusyError, CellblockError, CellNotFoundError, HostLostError, ParkError
from ._outgoing import fresh
from ._parked import Parked
from ._result import Audio, Image, Kind, Result, Text, items_of, result_of
from ._stored import StoredValues
from ._tools import Toolbox

if TYPE_CHECKING:
    from ._remote import RemoteSession

T = TypeVar("T")

_HAS_ENDED = "the program has ended: wait for its result"

CANCEL_GRACE = 5.0
"""Seconds that tools of a program that has ended may take to end once they are cancelled."""

_CENTURY_MS = 100 * 365 * 24 * 60 * 60 * 1000


def yield_ms(seconds: float | None) -> int:
    """A time to wait as hosts know it; `None` is without end."""
    if seconds is None:
        return _CENTURY_MS
    return max(0, min(_CENTURY_MS, round(seconds * 1000)))


@dataclass(frozen=True)
class Setting:
    """What a program runs with on this side."""

    tools: Toolbox
    stored: StoredValues
    on_notify: Notify | None
    prelude: int
    """The length of what stands in front of it."""
    resume: Toolbox = field(default_factory=lambda: Toolbox(()))
    """Tools for calls that were pending when it was parked."""
    parked: Parked = field(default_factory=lambda: Parked(b""))
    """What it was parked as, for one that is woken."""


class Cell:
    """One program, from its request to its end. It is used on one event loop."""

    def __init__(
        self, remote: RemoteSession, setting: Setting, wake: Callable[[Cell, bytes], int]
    ) -> None:
        self.id = ""
        """Its name in the session, once it was admitted."""
        self.host_id = ""
        """Its name on the host, once it was admitted."""
        self.loop = asyncio.get_running_loop()
        self._remote = remote
        self._connection: Connection = remote.connection
        self._setting = setting
        # Has the host wake it in its place; returns the request's id.
        self._wake = wake
        # The answer on its way, who it was asked for, and what is kept of answers that nobody
        # had asked for.
        self._asked: int | None = None
        self._asker: asyncio.Future[Result] | None = None
        self._kept: list[Text | Image | Audio] = list(setting.parked.items)
        # Who waits for the next answer, and until when.
        self._caller: asyncio.Future[Result] | None = None
        self._until: float | None = None
        # The end: announced by the host, known, and delivered to those who wait.
        self._announced = False
        self._end: Result | CellblockError | None = None
        self._terminating = False
        self._asks_to_end = False
        self._finished: asyncio.Future[None] = self.loop.create_future()
        self._late: asyncio.TimerHandle | None = None
        # Who parks it, and whether the answer on its way is to that.
        self._parker: asyncio.Future[Parked] | None = None
        self._asks_to_park = False
        # Nested calls and notifications that are served.
        self._calls = self._serving(setting.parked.calls)

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
            self._calls.cancel()
            raise

    async def wait(self, seconds: float | None) -> Result:
        """The next answer. Cancelled, it leaves the answer to the next caller."""
        if self._finished.done():
            return self._outcome()
        if self._caller or self._parker:
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

    async def park(self) -> Parked:
        """Parks it, once it waits. Cancelled, it leaves the program alone."""
        if self._end is not None:
            raise ParkError(_HAS_ENDED)
        if self._caller or self._parker:
            raise BusyError(f"somebody else waits for the cell {self.id}")
        parker: asyncio.Future[Parked] = self.loop.create_future()
        self._parker = parker
        # What the host is sent from now on might be lost between two cells.
        self._calls.hold()
        self._ask()
        try:
            return await parker
        except asyncio.CancelledError:
            if self._parker is parker:
                self._parker = None
                if self._asks_to_park and self._asked is not None:
                    self._connection.cancel(self._asked)
                else:
                    self._calls.deliver()
            elif not parker.cancelled() and parker.exception() is None:
                # It was parked in the moment in which it was cancelled.
                self._wake_again(parker.result())
            raise

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
        # One that was parked and is woken in its place keeps its name.
        self.id = self.id or (host_id if generation == 1 else f"g{generation}:{host_id}")
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
        """A wait for it was refused, or the connection was lost."""
        self._asked = None
        if isinstance(error, CancelledRequestError):
            self._ask()
        elif isinstance(error, CellNotFoundError):
            self._missed(error)
        elif self._caller and not isinstance(error, HostLostError):
            caller, self._caller = self._caller, None
            settle_here(caller, error)
        else:
            self._conclude(error)

    def not_terminated(self, error: CellblockError) -> None:
        """Its termination was refused, or the connection was lost."""
        self._asks_to_end = False
        if isinstance(error, CellNotFoundError):
            self._missed(error)
        else:
            self._conclude(error)

    def _missed(self, error: CellNotFoundError) -> None:
        """The host does not know it; an answer that is on its way may say how it has ended."""
        if self._asked is None and not self._asks_to_end:
            self._conclude(error)

    def not_parked(self, error: CellblockError) -> None:
        """It was not parked, and goes on."""
        self._asked, self._asks_to_park = None, False
        if isinstance(error, CellNotFoundError):
            self._missed(error)
            return
        if isinstance(error, HostLostError):
            self._conclude(error)
            return
        parker = None
        if not isinstance(error, CancelledRequestError):
            # Else it is another's than that of whoever has begun to park it since.
            parker, self._parker = self._parker, None
        if self._parker is None:
            self._calls.deliver()
        if parker:
            settle_here(parker, error if isinstance(error, BusyError) else ParkError(str(error)))
        self._ask()

    def ended(self) -> None:
        """The program has ended, and its last answer waits on the host."""
        self._announced = True
        self._ask()

    def lost(self, error: CellblockError) -> None:
        """The connection is gone, or the session was closed."""
        self._conclude(error)

    def _respond(self, tagged: messages.TaggedResponse) -> None:
        self._asked, self._asks_to_park = None, False
        seam = tagged.yielded.seam if tagged.yielded else None
        if tagged.yielded and seam and seam.parked:
            self._left(tagged.yielded, seam.parked)
            return
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
            self._setting.stored.merge(last.seam.stored)
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
                settle_here(caller, self._result("yielded", response, items))
            else:
                settle_here(caller, Result("running", self.id, tuple(items)))

    def _result(
        self, kind: Kind, response: messages.Response, items: list[Text | Image | Audio]
    ) -> Result:
        stored, prelude = self._setting.stored, self._setting.prelude
        return result_of(kind, response, self.id, items, stored, prelude=prelude)

    def _conclude(self, end: Result | CellblockError) -> None:
        """It has ended: what it has called is cancelled, and then the end is delivered."""
        if self._end is not None:
            return
        self._end = end
        self._unexpect()
        self._remote.forget(self)
        parker, self._parker = self._parker, None
        if parker:
            settle_here(parker, ParkError(_HAS_ENDED) if isinstance(end, Result) else end)
        # One that was never there leaves what it would have gone on with.
        self._calls.cancel(with_pending=bool(self.host_id))
        if self._calls.are_over:
            self._finish()
        else:
            self._late = self.loop.call_later(CANCEL_GRACE, self._finish)

    def _finish(self) -> None:
        self._unexpect()
        if self._finished.done():
            return
        self._finished.set_result(None)
        caller, self._caller = self._caller, None
        if caller and self._end is not None:
            settle_here(caller, self._end)

    # What is asked of the host

    def _ask(self) -> None:
        """Asks for the next answer, if somebody wants it and none is on its way."""
        wanted = self._caller or self._parker or self._announced
        if not wanted or self._asked is not None or self._terminating or self._end is not None:
            return
        seconds: float | None = 0.0
        if self._caller:
            seconds = None if self._until is None else max(0.0, self._until - self.loop.time())
            if seconds is not None:
                self._expect("a wait", seconds + TRANSPORT_TIME)
        self._asker = self._caller
        operation: dict[str, Any] = {
            "method": "session/wait",
            "sessionId": self._remote.id,
            "request": {"cell_id": self.host_id, "yield_time_ms": yield_ms(seconds)},
        }
        self._asks_to_park = not self._caller and not self._announced
        if self._asks_to_park:
            operation["park"] = True
        refused = self.not_parked if self._asks_to_park else self.refused
        self._asked = self._request(operation, refused)

    def _send_termination(self) -> None:
        self._expect("a termination", TRANSPORT_TIME)
        self._asks_to_end = True
        operation = {
            "method": "session/terminate",
            "sessionId": self._remote.id,
            "cellId": self.host_id,
        }
        self._request(operation, self.not_terminated)

    def _request(
        self, operation: dict[str, Any], refused: Callable[[CellblockError], None]
    ) -> int | None:
        try:
            return self._connection.request(operation, Waiting(self, refused))
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

    # Parked, on the loop

    def _left(self, response: messages.Response, parked: messages.SeamParked) -> None:
        """The host has parked it."""
        self._remote.forget(self)
        ends = {name: _outcome_of(end) for name, end in parked.ends.items()}
        cell = base64.b64decode(parked.cell, validate=True)
        items = (*self._kept, *items_of(response))
        left = Parked(cell, self._calls.leave(ends), items)
        parker, self._parker = self._parker, None
        if parker is None:
            # Nobody takes it any more.
            self._wake_again(left)
            return
        self._end = CellNotFoundError(f"the cell {self.id} was parked")
        self._finish()
        settle_here(parker, left)

    def _wake_again(self, left: Parked) -> None:
        """Has the host wake it in its place."""
        self._end = None
        self._finished = self.loop.create_future()
        self._kept = list(left.items)
        self._calls = self._serving(left.calls)
        try:
            self._asked = self._wake(self, left.cell)
        except CellblockError as error:
            self._conclude(error)
        else:
            self._expect("an execute", TRANSPORT_TIME)

    # Nested calls and notifications, on the loop

    def _serving(self, pending: Mapping[str, Call]) -> Calls:
        setting = self._setting
        return Calls(
            self._connection,
            setting.tools,
            setting.on_notify,
            resume=setting.resume,
            pending=pending,
            on_idle=self._idle,
        )

    def delegated(self, delegate: int, request: messages.InvokeTool | messages.Notify) -> None:
        """The program calls a tool, or sends a notification."""
        if self._end is not None:
            self._connection.reply(delegate, failure("the program has ended"))
        else:
            self._calls.serve(delegate, request)

    def cancelled(self, delegate: int) -> None:
        """The host gives one up."""
        self._calls.cancelled(delegate)

    def _idle(self) -> None:
        if self._end is not None:
            self._finish()


class Waiting:
    """A wait or a termination that awaits its answer."""

    def __init__(self, cell: Cell, refused: Callable[[CellblockError], None]) -> None:
        self._cell = cell
        self._refused = refused

    def answered(self, value: Value) -> bool:
        if not isinstance(value, messages.WaitCompleted):
            raise ValueError("an answer to a wait that is not one")
        live = value.outcome.live
        if live:
            post(self._cell, self._cell.responded, live)
        else:
            missing = CellNotFoundError(f"the host knows no cell {self._cell.id}, or not any more")
            post(self._cell, self._refused, missing)
        return True

    def failed(self, error: CellblockError) -> None:
        post(self._cell, self._refused, error)


def post(cell: Cell, function: Callable[..., None], *arguments: Any) -> bool:
    """Calls a cell's function on its loop; false when that is closed."""
    try:
        cell.loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        return False
    return True


def settle_here(future: asyncio.Future[T], outcome: T | CellblockError) -> None:
    """Gives a future of this event loop its outcome, unless it has one."""
    if future.done():
        return
    if isinstance(outcome, CellblockError):
        future.set_exception(fresh(outcome))
    else:
        future.set_result(outcome)


def _outcome_of(end: messages.End) -> str:
    """How a nested call had ended, as this side says it."""
    if end.ok is None:
        return failure(end.error or "")
    return f'{{"status":"ok","value":{{"type":"tool/result","result":{end.ok}}}}}'
