"""Limits of programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from typing_extensions import TypedDict


class Limits(TypedDict, total=False):
    """What a program may use. What is left out has its default, in brackets.

    With a host elsewhere a limit counts where it is narrower than the host's.
    """

    fuel: int
    """Fuel, about one unit for each WebAssembly instruction (10**12)."""
    step_fuel: int
    """Fuel from one wait of the program to the next (10**12)."""
    running_time: float | timedelta
    """Seconds of running; waiting for tools and timers is free (60)."""
    total_time: float | timedelta
    """Seconds from start to end, waiting included (a day)."""
    memory_bytes: int
    """Bytes of memory for JavaScript, from 1 MiB to 1 GiB (128 MiB)."""
    stack_bytes: int
    """Bytes of stack for JavaScript, at most 8 MiB (8 MiB)."""
    host_bytes: int
    """Bytes that the host may hold for the program outside its sandbox (a quarter of
    `memory_bytes`, at least 8 MiB)."""
    output_bytes: int
    """Bytes of output and notifications (32 MiB)."""
    output_items: int
    """Content items and notifications (20,000)."""
    calls: int
    """Nested calls in all (100,000)."""
    calls_in_flight: int
    """Nested calls at one time (1,024)."""
    input_bytes: int
    """Bytes of one nested call's input (32 MiB)."""
    result_bytes: int
    """Bytes of one nested call's result (32 MiB)."""
    timers: int
    """Timers pending at one time (10,000)."""
    stored_bytes: int
    """Bytes that the program may store, keys included (16 MiB)."""
    stored_keys: int
    """Keys that the program may store (10,000)."""
    source_bytes: int
    """Bytes of the program (4 MiB)."""
    typescript_bytes: int
    """Bytes of a program that is read as TypeScript (256 KiB)."""


_TIMES = {"running_time", "total_time"}


def on_the_wire(limits: Limits) -> dict[str, Any]:
    """Limits as hosts know them.

    Raises:
        ValueError: One is not known, or is not a positive number.
    """
    given: Mapping[str, Any] = limits
    wire: dict[str, Any] = {}
    for name, value in given.items():
        if name not in Limits.__annotations__:
            raise ValueError(f"there is no limit {name!r}")
        if name in _TIMES:
            seconds = value.total_seconds() if isinstance(value, timedelta) else value
            if not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e10:
                raise ValueError(f"the limit {name!r} is not a number of seconds: {value!r}")
            wire[name] = f"{round(seconds * 1000)}ms"
        elif isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            raise ValueError(f"the limit {name!r} is not a natural number: {value!r}")
        else:
            wire[name] = value
    return wire
