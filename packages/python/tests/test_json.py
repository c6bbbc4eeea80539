"""Values of tools: what reaches a program is what was returned, or an error says why not."""

from __future__ import annotations

import dataclasses
import enum
from collections import OrderedDict, deque
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from cellblock import NotJsonError, Session, Tool
from cellblock._json import MAX_DEPTH, encode


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Order:
    item: str
    at: datetime | None = None


class Model(BaseModel):
    name: str = Field(alias="theName")
    inner: Order


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def circle() -> Any:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


def twice() -> Any:
    shared = [1]
    return [shared, shared]


WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

KEPT = [
    (None, None),
    (True, True),
    (0, 0),
    (-(2**53) + 1, -(2**53) + 1),
    (1.5, 1.5),
    (1e300, 1e300),
    (float(2**53), 2**53),
    ("", ""),
    ("\x00\u2028\U0001f600", "\x00\u2028\U0001f600"),
    ("half \ud83d of a pair", "half \ud83d of a pair"),
    ([1, (2, [3])], [1, [2, [3]]]),
    (deque([1]), [1]),
    (frozenset([1]), [1]),
    ({"a": {1: "x"}, "": None}, {"a": {"1": "x"}, "": None}),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    ({"__proto__": 1, "constructor": 2}, {"__proto__": 1, "constructor": 2}),
    (Colour.RED, "red"),
    ({Colour.RED: Level.HIGH}, {"red": 3}),
    (Point(1, 2), [1, 2]),
    (WHEN, "2026-01-02T03:04:05Z"),
    (date(2026, 1, 2), "2026-01-02"),
    (time(3, 4), "03:04:00"),
    (timedelta(seconds=90), "PT1M30S"),
    (Decimal("1.10"), "1.10"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    (PurePosixPath("/a"), "/a"),
    (Order("x", WHEN), {"item": "x", "at": "2026-01-02T03:04:05Z"}),
    (
        Model(theName="n", inner=Order("y")),
        {"theName": "n", "inner": {"item": "y", "at": None}},
    ),
    (twice(), [[1], [1]]),
    (nested(MAX_DEPTH), nested(MAX_DEPTH)),
]

REFUSED = [
    (float("nan"), "JSON has no nan"),
    ({"a": [1, float("-inf")]}, r"at \$\.a\[1\]: JSON has no -inf"),
    ({"a b": 2**53}, r"at \$\['a b'\]: an integer beyond"),
    (-(2**70), "an integer beyond"),
    (b"bytes", "JSON has no bytes"),
    ([bytearray(b"x")], r"at \$\[0\]: JSON has no bytes"),
    (memoryview(b"x"), "JSON has no bytes"),
    (1j, "a complex has no JSON"),
    (object(), "a object has no JSON"),
    (Order, "a type has no JSON"),
    ((n for n in [1]), "a generator has no JSON"),
    ({(1, 2): 3}, r"the key \(1, 2\) is not a string"),
    ({None: 3}, "the key None is not a string"),
    ({1: "a", "1": "b"}, "the key '1' is there twice"),
    (nested(MAX_DEPTH + 1), "nests more than"),
    (nested(100_000), "nests more than"),
    (circle(), r"at \$\.self\[0\]: it contains itself"),
    (Model.model_construct(name="x", inner=Order("x", float("nan"))), r"\.inner\.at"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("value", "arrives"), KEPT, ids=lambda value: type(value).__name__)
async def test_a_result_arrives(session: Session, value: Any, arrives: Any) -> None:
    # The value goes to a program and comes back as the input of another tool.
    came_back = []

    async def given(_: Any) -> Any:
        return value

    async def back(input: Any) -> None:
        came_back.append(input)

    tools = [Tool("given", "", None, given), Tool("back", "", None, back)]
    halves = "half \ud83d of a pair"
    program = "await tools.back(await tools.given())"
    if value == halves:
        # Calls cannot carry half of a pair, but the program has it.
        program = "await tools.back([...(await tools.given())].map((c) => c.codePointAt(0)))"
        arrives = [ord(c) for c in halves]
    result = await session.exec(program, tools=tools)
    assert result.error is None
    assert came_back == [arrives]


@pytest.mark.parametrize(("value", "why"), REFUSED, ids=lambda value: type(value).__name__)
async def test_a_result_that_would_be_another_rejects_its_call(
    session: Session, value: Any, why: str
) -> None:
    def given() -> Any:
        return value

    program = "try { await tools.given() } catch (e) { text(e.message) } await tools.fine()"
    result = await session.exec(program, tools={"given": given, "fine": lambda: "fine"})
    assert result.value == "fine"
    with pytest.raises(NotJsonError, match=why) as raised:
        encode(value, "the result of given")
    assert raised.value.code == "not_json"
    assert result.text == str(raised.value)


async def test_a_result_that_is_too_long_rejects_its_call(session: Session) -> None:
    tools = {"long": lambda: "x" * (33 << 20), "longer": lambda: "x" * (65 << 20)}
    program = """
        for (const tool of ['long', 'longer']) {
            try { await tools[tool]() } catch (e) { text(e.message) }
        }
        1
    """
    result = await session.exec(program, tools=tools)
    assert result.value == 1
    assert "too large" in result.text.split("\n")[0]
    assert "too large" in result.text.split("\n")[1]
