"""One connection to a host: a *generation*. When it fails, everything of it fails with one
reason, and it is never used again.

Two threads of its own read and write, so that it serves any number of event loops, and no
event loop ever blocks. What the host sends is handled on the reading thread, which only
moves it on: tools run where their program was started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from . import _messages as messages
from ._errors import (
    BusyError,
    CellblockError,
    HostLostError,
    HostUnavailableError,
    InvalidRequestError,
    RefusedError,
)
from ._outgoing import Outgoing, fresh, settle
from ._transport import PATIENCE, Transport

TRANSPORT_TIME = 60.0
"""Seconds that a host may take for an answer, beyond the time that it was asked to wait."""

_MAX_DELEGATES = 1_024
"""Nested calls and notifications that a host may have open on a connection."""

_CANCELLED = "code-mode request cancelled"
_INVALID = "invalid code-mode execute request: "

Value = (
    messages.SessionReady
    | messages.SessionClosed
    | messages.ExecutionStarted
    | messages.WaitCompleted
    | messages.TaggedResponse
)
"""What a request is answered with."""


class CancelledRequestError(RefusedError):
    """The request was cancelled by this side."""


class Pending(Protocol):
    """A request that awaits its answer. Called on the reading thread, with no lock held."""

    def answered(self, value: Value) -> bool:
        """Takes an answer; true when no other follows. Raises `ValueError` for a wrong one."""

    def failed(self, error: CellblockError) -> None:
        """The request failed."""


class Recipient(Protocol):
    """A session as its connection knows it. Called on the reading thread, with no lock held."""

    def delegated(
        self, cell_id: str, delegate: int, request: messages.InvokeTool | messages.Notify
    ) -> bool:
        """A nested call or a notification of a cell; false when nobody can serve it."""

    def cancelled(self, cell_id: str, delegate: int) -> None:
        """The host gives up a nested call or a notification."""

    def ended(self, cell_id: str) -> None:
        """A cell has ended, and its last response waits."""

    def lost(self, error: CellblockError) -> None:
        """The connection is gone."""


class Answer:
    """A request with one answer."""

    def __init__(self) -> None:
        self.future: Future[Value] = Future()

    def answered(self, value: Value) -> bool:
        settle(self.future, value)
        return True

    def failed(self, error: CellblockError) -> None:
        settle(self.future, error)


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """A connection, being opened or open."""

    def __init__(
        self, generation: int, place: str, open_transport: Callable[[], Transport]
    ) -> None:
        self.generation = generation
        self.opened: Future[Connection] = Future()
        """Set once hands are shaken, or to why that failed."""
        self.lost: CellblockError | None = None
        """Why it is no longer used; `None` while it is."""
        self._place = place
        self._open_transport = open_transport
        self._transport: Transport | None = None
        self._lock = threading.Lock()
        self._last_id = 0
        self._requests: dict[int, Pending] = {}
        self._sessions: dict[str, Recipient] = {}
        self._delegates: dict[int, tuple[Recipient, str]] = {}
        """Nested calls and notifications that await an answer, and whose they are."""
        self._outgoing = Outgoing()
        self._closing = False
        self._ended = threading.Event()
        _connections.add(self)
        threading.Thread(target=self._run, name="cellblock-read", daemon=True).start()

    # Sending

    def request(self, operation: dict[str, Any], pending: Pending) -> int:
        """Requests an operation; returns its id."""
        with self._lock:
            return self.request_locked(operation, pending)

    def request_locked(self, operation: dict[str, Any], pending: Pending) -> int:
        """The same for those who hold `locked`."""
        if self.lost:
            raise fresh(self.lost)
        request_id = self.next_id_locked()
        message = {"type": "operation/request", "id": request_id, "request": operation}
        try:
            frame = messages.frame(message)
        except ValueError as error:
            raise InvalidRequestError(str(error)) from None
        self._requests[request_id] = pending
        self._outgoing.put(frame)
        return request_id

    def locked(self) -> contextlib.AbstractContextManager[Any]:
        """Holds back everybody else who sends, so that two things happen in one go."""
        return self._lock

    def next_id_locked(self) -> int:
        """A number that was never used on this connection."""
        self._last_id += 1
        return self._last_id

    def cancel(self, request_id: int) -> None:
        """Gives up a wait."""
        self._send(messages.frame({"type": "operation/cancel", "id": request_id}))

    def reply(self, delegate: int, result: str) -> None:
        """Answers a nested call or a notification, unless the host has given it up.

        `result` is the JSON text of the outcome.
        """
        with self._lock:
            if self._delegates.pop(delegate, None) is None or self.lost:
                return
        text = f'{{"type":"delegate/response","id":{delegate},"result":%s}}'
        try:
            frame = messages.frame_text(text % result)
        except ValueError as error:
            frame = messages.frame_text(text % failure(f"tool result is too large: {error}"))
        self._send(frame)

    def forget(self, delegate: int) -> None:
        """The host no longer waits for a nested call, whose cell it has parked."""
        with self._lock:
            self._delegates.pop(delegate, None)

    async def room(self) -> None:
        """Waits while as much waits to be written as may."""
        try:
            await self._outgoing.room(TRANSPORT_TIME)
        except asyncio.TimeoutError:
            self.fail(HostLostError("the host does not read what it is sent"))

    def close_session_soon(self, session_id: str) -> None:
        """Ends a session without waiting for it. Takes no lock: for finalizers."""

        def frame() -> bytes | None:
            with self._lock:
                self._sessions.pop(session_id, None)
                if self.lost:
                    return None
                request_id = self.next_id_locked()
                self._requests[request_id] = Answer()
            operation = {"method": "session/shutdown", "sessionId": session_id}
            return messages.frame(
                {"type": "operation/request", "id": request_id, "request": operation}
            )

        self._outgoing.put_made(frame)

    def _send(self, frame: bytes) -> None:
        with self._lock:
            if not self.lost:
                self._outgoing.put(frame)

    # Sessions

    def add_session(self, session_id: str, session: Recipient) -> None:
        """What the host sends for this session goes there."""
        with self._lock:
            if self.lost:
                raise fresh(self.lost)
            self._sessions[session_id] = session

    def remove_session(self, session_id: str) -> None:
        """Nothing more is expected for this session."""
        with self._lock:
            self._sessions.pop(session_id, None)

    # The end

    def broken(self, error: Exception) -> None:
        """Ends the connection, for the host has broken the protocol."""
        self.fail(HostLostError(f"the host broke the protocol: {error}"))

    def fail(self, error: CellblockError) -> None:
        """Ends the connection at once, for a reason that all its requests get."""
        with self._lock:
            if self.lost:
                return
            self.lost = error
            requests, self._requests = list(self._requests.values()), {}
            sessions, self._sessions = list(self._sessions.values()), {}
            self._delegates = {}
        self._outgoing.drop()
        for session in sessions:
            session.lost(error)
        for pending in requests:
            pending.failed(error)
        self.end_soon()
        self.abort()

    def end_soon(self) -> None:
        """Asks the host to end. Takes no lock: for finalizers."""
        self._closing = True
        self._outgoing.end()

    def end(self, patience: float) -> None:
        """Asks the host to end, and waits until it has; then it is made to."""
        self.end_soon()
        if not self._ended.wait(patience):
            self.abort()
            self._ended.wait(patience)

    def abort(self) -> None:
        """Makes the host end."""
        if self._transport:
            self._transport.abort()

    def has_ended(self) -> bool:
        """Whether nothing of it is left."""
        return self._ended.is_set()

    def forked(self) -> None:
        """This process is a fork: the connection and the host are the parent's."""
        # Another thread may have held the lock, and there is no other thread any more.
        self._lock = threading.Lock()
        self._outgoing = Outgoing()
        self.lost = HostLostError("this process is a fork of the one that started the program")
        self._requests, self._sessions, self._delegates = {}, {}, {}
        self._ended.set()
        if self._transport:
            self._transport.forked()

    # The two threads

    def _run(self) -> None:
        try:
            self._live()
        except BaseException as error:
            # Nobody may be left to wait for a thread that is no more.
            self._unavailable(f"the connection to the host {self._place} has failed: {error!r}")
            self._ended.set()
            raise

    def _live(self) -> None:
        try:
            self._transport = self._open_transport()
        except (OSError, ValueError, ImportError) as error:
            self._unavailable(f"cannot reach the host {self._place}: {error}")
            self._ended.set()
            return
        transport = self._transport
        reason: CellblockError | None = None
        refused = self._shake_hands(transport)
        if refused is None:
            threading.Thread(
                target=self._write, args=[transport], name="cellblock-write", daemon=True
            ).start()
            settle(self.opened, self)
            reason = self._read(transport)
        else:
            transport.end_input()
        if refused or reason:
            transport.abort()
        how = transport.finish()
        self._ended.set()
        ended = f"the host has closed the connection{': ' + how if how else ''}"
        if self._closing:
            ended = "the connection to the host was closed"
        if refused is None:
            self.fail(reason or HostLostError(ended))
        elif refused == "":
            self._unavailable(f"the host {self._place} is not one: {ended}")
        else:
            self._unavailable(f"the host {self._place} is not one: {refused}")

    def _unavailable(self, why: str) -> None:
        error = HostUnavailableError(why)
        self.fail(error)
        settle(self.opened, error)

    def _shake_hands(self, transport: Transport) -> str | None:
        """Returns what is wrong with the host; `""` for its silence, `None` for nothing."""
        late = threading.Timer(PATIENCE, transport.abort)
        late.daemon = True
        late.start()
        try:
            transport.write(messages.hello())
            payload = transport.read()
            if payload is None:
                return "" if late.is_alive() else f"no answer within {PATIENCE:.0f} s"
            message = messages.parse(payload)
        except OSError:
            # How it ended says more.
            return "" if late.is_alive() else f"no answer within {PATIENCE:.0f} s"
        except ValueError as error:
            return str(error)
        finally:
            late.cancel()
        match message:
            case messages.Ready(selected_version=messages.VERSION, capabilities=capabilities):
                if messages.SEAM_CAPABILITY in capabilities:
                    return None
                return f"it lacks the capability {messages.SEAM_CAPABILITY}"
            case messages.Rejected(reason=reason):
                return f"it rejected this client: {str(reason)[:512]}"
            case _:
                return f"it answered with {message.type}"

    def _read(self, transport: Transport) -> CellblockError | None:
        """Returns why it stopped reading; `None` when the host closed the connection."""
        while True:
            try:
                payload = transport.read()
                if payload is None:
                    return None
                self._handle(messages.parse(payload))
            except ValueError as error:
                return HostLostError(f"the host broke the protocol: {error}")
            except OSError as error:
                return None if self.lost else HostLostError(f"the connection failed: {error}")

    def _write(self, transport: Transport) -> None:
        try:
            self._outgoing.write_to(transport)
        except Exception as error:
            # A host that has ended says more on the way that is read.
            if not self._ended.wait(1.0):
                self.fail(HostLostError(f"the host cannot be written to: {error}"))
        finally:
            transport.end_input()

    # What the host sends

    def _handle(self, message: messages.HostMessage) -> None:
        match message:
            case messages.OperationResponse() | messages.InitialResponse():
                self._answered(message)
            case messages.DelegateRequest():
                self._delegate(message)
            case messages.DelegateCancel(id=delegate):
                with self._lock:
                    served = self._delegates.pop(delegate, None)
                if served:
                    session, cell_id = served
                    session.cancelled(cell_id, delegate)
            case messages.CellEnded(session_id=session_id, cell_id=cell_id):
                with self._lock:
                    ended = self._sessions.get(session_id)
                if ended:
                    ended.ended(cell_id)
            case messages.CellKept():
                pass  # This client does not outlive its host.
            case messages.CellClosed():
                # The last response says the same.
                pass
            case _:
                raise ValueError("a second handshake")

    def _answered(self, message: messages.OperationResponse | messages.InitialResponse) -> None:
        with self._lock:
            pending = self._requests.get(message.id)
        if pending is None:
            if self.lost:
                return
            raise ValueError(f"an answer to the request {message.id}, which awaits none")
        if isinstance(message.result, messages.Failure):
            done = True
            pending.failed(read_refusal(message.result.message))
        else:
            done = pending.answered(message.result.value)
        if done:
            with self._lock:
                self._requests.pop(message.id, None)

    def _delegate(self, message: messages.DelegateRequest) -> None:
        request = message.request
        cell_id = (
            request.invocation.cell_id
            if isinstance(request, messages.InvokeTool)
            else request.cell_id
        )
        with self._lock:
            session = self._sessions.get(message.session_id)
            if message.id in self._delegates:
                raise ValueError(f"the delegate request {message.id} was made twice")
            if len(self._delegates) >= _MAX_DELEGATES:
                raise ValueError(f"more than {_MAX_DELEGATES} delegate requests")
            if session is None:
                # It was closed a moment ago, with all its cells.
                return
            self._delegates[message.id] = session, cell_id
        if not session.delegated(cell_id, message.id, request):
            self.reply(message.id, failure("nobody serves the calls of this cell any more"))


def failure(message: str) -> str:
    """A failed outcome as JSON text."""
    return json.dumps({"status": "error", "message": message})


def read_refusal(text: str) -> CellblockError:
    """A refusal of a host's, from its text."""
    if text == _CANCELLED:
        return CancelledRequestError(text)
    if text.startswith(_INVALID):
        return InvalidRequestError(text.removeprefix(_INVALID))
    if text.startswith(("code-mode host has too many", "code-mode session has too many")):
        return BusyError(text)
    return RefusedError(text)


def end_all(patience: float) -> None:
    """Ends every connection of this process: for its exit."""
    connections = [each for each in list(_connections) if not each.has_ended()]
    for connection in connections:
        connection.end_soon()
    for connection in connections:
        connection.end(patience)


def forked() -> None:
    """This process is a fork of another, and so is no thread of its connections."""
    for connection in list(_connections):
        connection.forked()
        _connections.discard(connection)
