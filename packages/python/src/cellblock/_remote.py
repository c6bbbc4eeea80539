"""A session on one connection: which of its messages is for which cell."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from . import _messages as messages
from ._cell import Cell, post
from ._connection import Answer, Connection, Value
from ._errors import CellblockError


class RemoteSession:
    """The session on a connection. What is called by the connection is on its reading thread."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        with connection.locked():
            self.id = f"session-{connection.next_id_locked()}"
        self.known: dict[str, str] | None = None
        """The stored values that the host has, as JSON texts; `None` before the first program.
        Changed under the connection's lock."""
        self._cells: dict[str, Cell] = {}
        self._announced: set[str] = set()
        """Those of them whose end was announced."""

    def open(self, limits: dict[str, Any] | None) -> Answer:
        """Opens it on the host."""
        operation: dict[str, Any] = {"method": "session/open", "sessionId": self.id}
        if limits is not None:
            operation["seam"] = {"cellLimits": limits}
        answer = Answer()
        self.connection.add_session(self.id, self)
        self.connection.request(operation, answer)
        return answer

    def close(self) -> Answer:
        """Ends it and its cells on the host."""
        answer = Answer()
        self.connection.request({"method": "session/shutdown", "sessionId": self.id}, answer)
        return answer

    def cells(self) -> list[Cell]:
        """Those that were admitted and have not ended."""
        return list(self._cells.values())

    def forget(self, cell: Cell) -> None:
        """Nothing more is expected for a cell."""
        self._cells.pop(cell.host_id, None)
        self._announced.discard(cell.host_id)

    # Called by the connection

    def admitted(self, host_id: str, cell: Cell) -> None:
        """A cell has its id: what follows for it goes there."""
        if host_id in self._cells:
            raise ValueError(f"the cell {host_id} was started twice")
        self._cells[host_id] = cell
        self._post(cell, cell.admitted, host_id)

    def delegated(
        self, cell_id: str, delegate: int, request: messages.InvokeTool | messages.Notify
    ) -> bool:
        """A nested call or a notification; false when nobody can serve it."""
        cell = self._cells.get(cell_id)
        return cell is not None and self._post(cell, cell.delegated, delegate, request)

    def cancelled(self, cell_id: str, delegate: int) -> None:
        """The host gives one up."""
        cell = self._cells.get(cell_id)
        if cell:
            self._post(cell, cell.cancelled, delegate)

    def ended(self, cell_id: str) -> None:
        """A cell has ended."""
        cell = self._cells.get(cell_id)
        # Once: what a host sends again and again must not pile up on an event loop.
        if cell and cell_id not in self._announced:
            self._announced.add(cell_id)
            self._post(cell, cell.ended)

    def lost(self, error: CellblockError) -> None:
        """The connection is gone."""
        cells, self._cells = self._cells, {}
        for cell in cells.values():
            post(cell, cell.lost, error)

    def _post(self, cell: Cell, function: Callable[..., None], *arguments: Any) -> bool:
        """Passes something on to a cell.

        One whose event loop is closed is ended: nobody can serve its calls or wait for it.
        """
        if post(cell, function, *arguments):
            return True
        self.forget(cell)
        operation = {"method": "session/terminate", "sessionId": self.id, "cellId": cell.host_id}
        with contextlib.suppress(CellblockError):
            self.connection.request(operation, Answer())
        return False


class Execution:
    """An execute that awaits its two answers: that it was admitted, and the first response."""

    def __init__(self, remote: RemoteSession, cell: Cell) -> None:
        self._remote = remote
        self._cell = cell
        self._is_admitted = False

    def answered(self, value: Value) -> bool:
        if isinstance(value, messages.ExecutionStarted) and not self._is_admitted:
            self._is_admitted = True
            self._remote.admitted(value.cell_id, self._cell)
            return False
        if isinstance(value, messages.TaggedResponse) and self._is_admitted:
            post(self._cell, self._cell.responded, value)
            return True
        raise ValueError("an answer to an execute that is not one")

    def failed(self, error: CellblockError) -> None:
        post(self._cell, self._cell.lost, error)
