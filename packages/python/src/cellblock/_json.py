"""Values as JSON that loses nothing, or an error that names the part that would be lost."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import deque
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from ._errors import NotJsonError

MAX_DEPTH = 123
"""Levels that a value may nest: what hosts read, less what the message around it takes."""

MAX_SAFE_INTEGER = (1 << 53) - 1
"""The largest integer that the numbers of JavaScript hold exactly."""

_AS_TEXT = (date, time, timedelta, Decimal, PurePath, UUID)


def encode(value: object, what: str = "the value") -> str:
    """JSON text of a value.

    Dataclasses, pydantic models, enums, sets and tuples become what JSON has for them; dates,
    times, durations, decimals, paths and UUIDs become strings.

    Raises:
        NotJsonError: A part has no JSON, or would be another value in JavaScript.
    """
    try:
        return _dumps(_plain(value, 0, set()))
    except _NotPlainError as error:
        path = "".join(reversed(error.path))
        where = f"{what}: at ${path}: " if path else f"{what}: "
        raise NotJsonError(f"{where}{error}") from None


def decode(text: str) -> Any:
    """The value of JSON text.

    Raises:
        ValueError: It is not valid JSON, or nests too deeply.
    """
    try:
        return json.loads(text, parse_constant=_constant)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which UTF-8 does not have."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _dumps(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        # JavaScript's strings may have halves of surrogate pairs, and so has JSON, escaped.
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text


class _NotPlainError(Exception):
    """A part of a value has no JSON."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []


def _plain(value: Any, depth: int, around: set[int]) -> Any:
    """The value made of what JSON has. `around` are the containers that it is in."""
    kind = type(value)
    if value is None or kind is str or kind is bool:
        return value
    if isinstance(value, Enum):
        return _plain(value.value, depth, around)
    if isinstance(value, bool):
        return bool(value)
    if isinstance(value, int):
        if abs(value) > MAX_SAFE_INTEGER:
            raise _NotPlainError(
                "an integer beyond ±(2**53 - 1) would be another number in JavaScript; use a string"
            )
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NotPlainError(f"JSON has no {value}; use None or a string")
        return float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, _AS_TEXT):
        return str(value) if isinstance(value, PurePath) else to_jsonable_python(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        raise _NotPlainError("JSON has no bytes; use text, for example base64")
    if depth >= MAX_DEPTH:
        raise _NotPlainError(f"it nests more than {MAX_DEPTH} levels deep")
    if id(value) in around:
        raise _NotPlainError("it contains itself")
    around.add(id(value))
    try:
        return _container(value, depth + 1, around)
    finally:
        around.discard(id(value))


def _container(value: Any, depth: int, around: set[int]) -> Any:
    if isinstance(value, BaseModel):
        try:
            members: Any = value.model_dump(by_alias=True, warnings=False)
        except (ValueError, TypeError, RecursionError) as error:
            raise _NotPlainError(str(error)) from None
        return _plain(members, depth - 1, around)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return _object(
            ((field.name, getattr(value, field.name)) for field in fields), depth, around
        )
    if isinstance(value, Mapping):
        return _object(value.items(), depth, around)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        items = []
        for index, item in enumerate(value):
            try:
                items.append(_plain(item, depth, around))
            except _NotPlainError as error:
                error.path.append(f"[{index}]")
                raise
        return items
    raise _NotPlainError(
        f"a {type(value).__qualname__} has no JSON; use a dict, a list or a string"
    )


def _object(members: Any, depth: int, around: set[int]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for given, member in members:
        key = given.value if isinstance(given, Enum) else given
        if isinstance(key, int) and not isinstance(key, bool):
            # As in JavaScript, where every key is a string.
            key = str(int(key))
        if not isinstance(key, str):
            raise _NotPlainError(f"the key {key!r} is not a string")
        if key in result:
            raise _NotPlainError(f"the key {key!r} is there twice")
        try:
            result[str(key)] = _plain(member, depth, around)
        except _NotPlainError as error:
            error.path.append(f".{key}" if key.isidentifier() else f"[{key!r}]")
            raise
    return result


def _constant(name: str) -> Any:
    raise ValueError(f"JSON has no {name}")
