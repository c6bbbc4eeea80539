"""Errors, each a class with a stable code."""

from __future__ import annotations

from typing import ClassVar


class CellblockError(Exception):
    """The base of every error that this package raises.

    Attributes:
        code: A stable name of what went wrong, for programs.
    """

    code: ClassVar[str] = "cellblock"


class HostUnavailableError(CellblockError):
    """The host could not be started or reached, or is not one that this client can speak to."""

    code = "host_unavailable"


class HostLostError(CellblockError):
    """The host ended or broke the protocol, and with it what was in flight.

    The next program starts or reaches it again. Whether calls of a lost program had their
    effect is not known.
    """

    code = "host_lost"


class RefusedError(CellblockError):
    """The host refused a request, for the reason in the text."""

    code = "refused"


class BusyError(RefusedError):
    """The host or the session has as many cells as it may: wait for one, or terminate one."""

    code = "busy"


class InvalidRequestError(RefusedError):
    """The request breaks a rule, for example a program that is too long."""

    code = "invalid_request"


class ParkError(RefusedError):
    """A program cannot be parked, or what it was parked as cannot be woken here."""

    code = "park"


class CellNotFoundError(CellblockError):
    """There is no such cell, or its result was returned before."""

    code = "cell_not_found"


class StaleCellError(CellNotFoundError):
    """The cell ran in a host that has ended since."""

    code = "stale_cell"


class SessionClosedError(CellblockError):
    """The session was closed."""

    code = "session_closed"


class NotJsonError(CellblockError, ValueError):
    """A value cannot be written as JSON without losing something; the text says which part."""

    code = "not_json"


class ToolDefinitionError(CellblockError, ValueError):
    """Something given as a tool cannot be one; the text says why."""

    code = "tool_definition"


class ProgramError(CellblockError):
    """A program failed: raised by `Result.check`."""

    code = "program_failed"


class LimitError(ProgramError):
    """A program reached a limit: raised by `Result.check`."""

    code = "limit_reached"


class TerminatedError(ProgramError):
    """A program was terminated: raised by `Result.check`."""

    code = "terminated"
