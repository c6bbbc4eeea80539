"""Programs that were parked, as they are seen from here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ._calls import Call
from ._result import Audio, Image, Text


@dataclass(frozen=True)
class Parked:
    """What is left of a program that was parked."""

    cell: bytes
    """The program."""
    calls: Mapping[str, Call] = field(default_factory=dict)
    """Its nested calls that had not ended for it, which run on."""
    items: tuple[Text | Image | Audio, ...] = ()
    """Output that nobody had asked for."""

    def cancel(self) -> None:
        """Cancels its calls."""
        for call in self.calls.values():
            call.cancel()


def name_of(parked: bytes) -> bytes:
    """The name that is in the bytes of a parked program, if they are one."""
    return bytes(parked[20:36])
