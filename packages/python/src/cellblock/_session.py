"""A session: programs that share tools, limits and stored values."""

from __future__ import annotations

import asyncio
import base64
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import Any, Literal, TypeVar

from typing_extensions import Self

from ._calls import Notify
from ._cell import Cell, Setting, yield_ms
from ._connection import TRANSPORT_TIME, Answer, Connection
from ._errors import (
    CellblockError,
    CellNotFoundError,
    HostLostError,
    ParkError,
    RefusedError,
    SessionClosedError,
    StaleCellError,
)
from ._host import Host
from ._limits import Limits, on_the_wire
from ._parked import Parked, name_of
from ._prelude import PRELUDE, prelude_of
from ._remote import Execution, RemoteSession
from ._result import Result
from ._stored import StoredValues, delta
from ._tools import Toolbox, ToolLike

Language = Literal["auto", "js", "ts"]

T = TypeVar("T")

_UNREAD_CELLS = 256
"""Programs that were answered as running and whose next answer may wait to be asked for;
above it, the oldest that have ended are forgotten."""

_MAX_PARKED = 256
"""Parked programs whose calls run on; above it, those of the oldest are cancelled."""


class Session:
    """Runs programs that share tools, limits and stored values, each in a sandbox of its own.

    ```python
    async with Session(tools=[get_price]) as session:
        result = await session.exec("text(await tools.get_price({ item: 'apple' }))")
        print(result.text)
    ```

    It may be used on any number of event loops and threads; tools run on the event loop where
    their program was started. Programs of one session run at the same time.

    Args:
        tools: Functions that programs may call as `tools.NAME(input)`, with an object of
            their arguments. One that is not a coroutine function runs in a thread. The
            message of an exception is what the program catches.
        limits: What each program may use.
        stored: Values that programs find with `load`; those that they `store` are added
            to `Session.stored` when they complete.
        on_notify: Is called with what programs send with `notify`, in order.
        host: Where programs run; a process that this one starts, unless it is given.

    Raises:
        ToolDefinitionError: A tool cannot be one.
        NotJsonError: A stored value has no JSON.
        ValueError: A limit is not one.
    """

    def __init__(
        self,
        tools: Mapping[str, ToolLike] | Iterable[ToolLike] = (),
        *,
        limits: Limits | None = None,
        stored: Mapping[str, Any] | None = None,
        on_notify: Callable[[str], Any] | None = None,
        host: Host | None = None,
    ) -> None:
        self.warns_when_unclosed = True
        """Whether it is a mistake to forget the session without closing it."""
        self._remote: RemoteSession | None = None
        self._closed = False
        self._tools = Toolbox(tools)
        self._limits = None if limits is None else on_the_wire(limits)
        self._on_notify: Notify | None = on_notify
        self._host = host or Host.default()
        self._stored = StoredValues(stored)
        self._lock = threading.Lock()
        self._opening: tuple[RemoteSession, Answer] | None = None
        self._cells: dict[str, Cell] = {}
        self._parked: dict[bytes, Parked] = {}
        """What runs on of programs that were parked, by their names."""

    @property
    def stored(self) -> StoredValues:
        """The stored values, which may be changed: the next program finds the change."""
        return self._stored

    async def exec(
        self,
        program: str,
        *,
        yield_after: float | None = None,
        value: bool = True,
        language: Language = "auto",
        locale: str | None = None,
        time_zone: str | None = None,
        tools: Mapping[str, ToolLike] | Iterable[ToolLike] | None = None,
    ) -> Result:
        """Runs a program to its end, and returns what it answers.

        A program that fails is a result, too: `Result.check` makes an exception of it. When
        this call is cancelled, the program is terminated.

        Args:
            program: JavaScript or TypeScript.
            yield_after: Seconds after which to return a result with the status `running`
                if the program still runs; it goes on, and `wait` gets the rest. A program
                may ask for the same with `yield_control()`.
            value: Whether the program's value is wanted: that of its last expression, or of a
                `return`, which works at its top only then.
            language: What it is written in; `auto` is TypeScript where it is not valid
                JavaScript. Types are not checked.
            locale: What the program finds where it names none; `en-US` by default.
            time_zone: The same for the time zone; `UTC` by default.
            tools: Tools for this program instead of the session's.

        Raises:
            InvalidRequestError: The program cannot be one, or is too long.
            BusyError: As many programs run as may.
            HostUnavailableError: There is no host.
            HostLostError: The host failed, and the program with it.
            SessionClosedError: The session was closed.
        """
        toolbox = self._tools if tools is None else Toolbox(tools)
        regional = {"locale": locale, "timeZone": time_zone}
        seam: dict[str, Any] = {"wantsValue": value, "language": language}
        if locale or time_zone:
            seam["regional"] = {name: given for name, given in regional.items() if given}
        prelude = prelude_of(program)
        request = _request(toolbox, prelude + program, yield_after)
        setting = Setting(toolbox, self._stored, self._on_notify, len(prelude))
        return await self._run(await self._ready(), request, seam, setting, yield_after)

    async def wait(self, cell: Result | str, *, yield_after: float | None = None) -> Result:
        """Waits for a program that was answered as `running`.

        What it has printed since is in the result. When this call is cancelled, the program
        goes on.

        Args:
            cell: The result, or its `cell_id`.
            yield_after: As for `exec`.

        Raises:
            CellNotFoundError: There is no such program, or its end was returned before.
            StaleCellError: It ran in a host that has ended since.
            BusyError: Somebody else waits for it.
            HostLostError: The host failed, and the program with it.
            SessionClosedError: The session was closed.
        """
        found = self._find(cell)
        result = await _on_loop_of(found, lambda: found.wait(yield_after))
        if result.status != "running":
            self._cells.pop(found.id, None)
        return result

    async def terminate(self, cell: Result | str) -> Result:
        """Ends a program that was answered as `running`, and returns its last answer.

        Raises:
            CellNotFoundError: There is no such program, or its end was returned before.
            HostLostError: The host failed, and the program with it.
            SessionClosedError: The session was closed.
        """
        found = self._find(cell)
        result = await _on_loop_of(found, found.terminate)
        self._cells.pop(found.id, None)
        return result

    async def park(self, cell: Result | str) -> bytes:
        """Parks a program that was answered as `running`, once it waits, as bytes.

        The session has it no more; `wake` lets it go on, in any session of a host with the
        same key. Calls that it waits for run on until this session is closed, and what they
        end with is given to it when it is woken here. When this call is cancelled, the program
        goes on.

        Args:
            cell: The result, or its `cell_id`.

        Raises:
            ParkError: The program has ended, or is too large.
            CellNotFoundError: There is no such program, or its end was returned before.
            BusyError: Somebody else waits for it.
            HostLostError: The host failed, and the program with it.
            SessionClosedError: The session was closed.
        """
        found = self._find(cell)
        left = await _on_loop_of(found, found.park)
        self._cells.pop(found.id, None)
        self._keep_parked(left)
        return left.cell

    async def wake(
        self,
        parked: bytes,
        *,
        yield_after: float | None = None,
        tools: Mapping[str, ToolLike] | Iterable[ToolLike] | None = None,
        resume: Mapping[str, ToolLike] | Iterable[ToolLike] = (),
        is_fork: bool = False,
    ) -> Result:
        """Lets a parked program go on where it waited, and returns what it answers.

        It is a new program with an id of its own, and `exec` says what holds for those. It has
        the limits with which it was started, less what it has used.

        Args:
            parked: What `park` returned.
            yield_after: As for `exec`.
            tools: The tools that it may call, of those that it was started with, instead of
                the session's.
            resume: Tools for the calls that it waited for when it was parked, and that this
                session does not have: each is made again, with the input that it had. One of
                another tool rejects, for it may have taken effect.
            is_fork: Whether it is a copy of one that goes on elsewhere: then its `Math.random`
                goes on from another seed.

        Raises:
            ParkError: The bytes are something else, were made with another key or by
                another build, or may use more than the session allows.
            BusyError: As many programs run as may.
            HostUnavailableError: There is no host.
            HostLostError: The host failed, and the program with it.
            SessionClosedError: The session was closed.
        """
        toolbox = self._tools if tools is None else Toolbox(tools)
        again = Toolbox(resume)
        remote = await self._ready()
        left = self._parked.pop(name_of(parked), None) or Parked(bytes(parked))
        prelude = len(PRELUDE)
        setting = Setting(toolbox, self._stored, self._on_notify, prelude, again, left)
        request, seam = _request(toolbox, "", yield_after), _seam(left.cell, is_fork)
        try:
            return await self._run(remote, request, seam, setting, yield_after)
        except RefusedError as error:
            if type(error) is RefusedError:
                raise ParkError(str(error)) from None
            raise

    async def close(self) -> None:
        """Ends the session and its programs. The host goes on."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            remote, self._remote = self._remote, None
            self._cells.clear()
            parked, self._parked = list(self._parked.values()), {}
        for each in parked:
            each.cancel()
        if remote is None or remote.connection.lost:
            return
        try:
            closed = remote.close()
            await asyncio.wait_for(asyncio.wrap_future(closed.future), TRANSPORT_TIME)
        except asyncio.TimeoutError:
            remote.connection.fail(HostLostError("the host did not close a session in time"))
        except CellblockError:
            # It has ended with its host.
            pass
        remote.connection.remove_session(remote.id)
        remote.lost(SessionClosedError("the session was closed"))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def __del__(self) -> None:
        remote = getattr(self, "_remote", None)
        if remote and not remote.connection.lost:
            if self.warns_when_unclosed:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            remote.connection.close_session_soon(remote.id)

    def __repr__(self) -> str:
        return f"Session(host={self._host!r})"

    async def _ready(self) -> RemoteSession:
        """The session on its host, once there is room for another request."""
        remote = await self._connected()
        await remote.connection.room()
        return remote

    async def _run(
        self,
        remote: RemoteSession,
        request: dict[str, Any],
        seam: dict[str, Any],
        setting: Setting,
        yield_after: float | None,
    ) -> Result:
        """Starts a program, or wakes one; returns its first answer."""
        # What a cell keeps does not keep the session, which may be forgotten.
        stored = self._stored

        def send(cell: Cell, request: dict[str, Any], seam: dict[str, Any]) -> int:
            # Changes of stored values count in the order in which they are sent, so each is
            # found out and sent in one go.
            with remote.connection.locked():
                now = stored.texts()
                operation = {
                    "method": "session/execute",
                    "sessionId": remote.id,
                    "request": request,
                    "seam": {**seam, "stored": delta(remote.known, now)},
                }
                execution = Execution(remote, cell)
                request_id = remote.connection.request_locked(operation, execution)
                remote.known = now
            return request_id

        def wake(cell: Cell, parked: bytes) -> int:
            return send(cell, _request(setting.tools, "", 0), _seam(parked, is_fork=False))

        cell = Cell(remote, setting, wake)
        try:
            result = await cell.first(lambda cell: send(cell, request, seam), yield_after)
        except CellblockError:
            if not cell.host_id:
                # Nothing of it was taken.
                self._keep_parked(setting.parked)
            raise
        if result.status == "running":
            self._keep(cell)
        return result

    def _keep_parked(self, left: Parked) -> None:
        """Keeps the calls of a parked program, which run on."""
        if not left.calls and not left.items:
            return
        if self._closed:
            left.cancel()
            return
        self._parked[name_of(left.cell)] = left
        while len(self._parked) > _MAX_PARKED:
            self._parked.pop(next(iter(self._parked))).cancel()

    async def _connected(self) -> RemoteSession:
        """The session on the newest connection, opened when there is none."""
        if self._closed:
            raise SessionClosedError("the session was closed")
        connection = await self._host.connection()
        with self._lock:
            remote, answer = self._opened_locked(connection)
        try:
            opened = asyncio.shield(asyncio.wrap_future(answer.future))
            await asyncio.wait_for(opened, TRANSPORT_TIME)
        except asyncio.TimeoutError:
            connection.fail(HostLostError("the host did not open a session in time"))
            raise HostLostError("the host did not open a session in time") from None
        except CellblockError:
            with self._lock:
                if self._opening == (remote, answer):
                    self._opening = None
            raise
        return remote

    def _opened_locked(self, connection: Connection) -> tuple[RemoteSession, Answer]:
        if self._closed:
            raise SessionClosedError("the session was closed")
        if self._opening is None or self._opening[0].connection is not connection:
            remote = RemoteSession(connection)
            limits = self._limits
            if limits is None and self._host.asks_for_limits:
                limits = {}
            self._opening = remote, remote.open(limits)
            self._remote = remote
        return self._opening

    def _keep(self, cell: Cell) -> None:
        self._cells[cell.id] = cell
        over = [name for name, each in self._cells.items() if each.is_over]
        for name in over[: max(0, len(self._cells) - _UNREAD_CELLS)]:
            del self._cells[name]

    def _find(self, cell: Result | str) -> Cell:
        if self._closed:
            raise SessionClosedError("the session was closed")
        name = cell if isinstance(cell, str) else cell.cell_id
        found = self._cells.get(name)
        if found is None:
            raise CellNotFoundError(f"there is no cell {name}, or its end was returned before")
        return found


def _request(tools: Toolbox, source: str, yield_after: float | None) -> dict[str, Any]:
    """What a host needs to start a program."""
    return {
        "tool_call_id": "",
        "enabled_tools": tools.definitions,
        "source": source,
        "yield_time_ms": yield_ms(yield_after),
        "max_output_tokens": None,
    }


def _seam(parked: bytes, is_fork: bool) -> dict[str, Any]:
    """What a host needs besides to wake one."""
    cell = base64.b64encode(parked).decode("ascii")
    return {"wake": {"cell": cell, "isFork": is_fork, "restrictsTools": True}}


async def _on_loop_of(cell: Cell, waiting: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Waits on the event loop that the cell is used on."""
    if cell.loop is asyncio.get_running_loop():
        return await waiting()
    if cell.loop.is_closed():
        raise StaleCellError("the event loop in which the program was started is closed")
    elsewhere = asyncio.run_coroutine_threadsafe(waiting(), cell.loop)
    return await asyncio.wrap_future(elsewhere)
