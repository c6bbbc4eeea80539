"""Functions as tools."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from datetime import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from cellblock import Session, Tool, ToolDefinitionError


class Place(BaseModel):
    city: str
    country: str = "CH"


async def forecast(
    place: Place,
    days: Annotated[int, Field(ge=1, le=7)] = 1,
    unit: Literal["C", "F"] = "C",
    *,
    since: datetime | None = None,
) -> list[float]:
    """The temperatures of the next days.

    They are made up.

    Args:
        place: Where.
        days: How many days.
    """
    assert isinstance(place, Place)
    return [float(len(place.city))] * days


def test_a_function_says_what_it_is() -> None:
    tool = Tool.from_function(forecast)
    assert tool.name == "forecast"
    assert tool.description == "The temperatures of the next days.\n\nThey are made up."
    assert tool.input_schema is not None
    properties = tool.input_schema["properties"]
    assert list(properties) == ["place", "days", "unit", "since"]
    assert tool.input_schema["required"] == ["place"]
    assert tool.input_schema["additionalProperties"] is False
    assert properties["days"]["description"] == "How many days."
    assert properties["days"]["maximum"] == 7
    assert properties["days"]["default"] == 1
    assert properties["unit"]["enum"] == ["C", "F"]
    assert tool.output_schema == {"items": {"type": "number"}, "type": "array"}


async def test_arguments_are_validated_and_made_into_what_the_function_takes(
    session: Session,
) -> None:
    program = "await tools.forecast({ place: { city: 'Bern' }, days: 2, since: '2026-01-01' })"
    result = await session.exec(program, tools=[forecast])
    assert (result.error, result.value) == (None, [4.0, 4.0])


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ("", "place: Field required"),
        ("{}", "place: Field required"),
        ("{ place: 'Bern' }", "place: Input should be a valid dictionary"),
        ("{ place: {} }", "place.city: Field required"),
        ("{ place: { city: 'Bern' }, days: 9 }", "days: Input should be less than or equal to 7"),
        ("{ place: { city: 'Bern' }, unit: 'K' }", "unit: Input should be 'C' or 'F'"),
        ("{ place: { city: 'Bern' }, x: 1 }", "x: Extra inputs are not permitted"),
        ("[1]", "the input: Input should be a valid dictionary"),
    ],
)
async def test_arguments_that_are_wrong(session: Session, arguments: str, why: str) -> None:
    program = f"try {{ await tools.forecast({arguments}) }} catch (e) {{ e.message }}"
    result = await session.exec(program, tools=[forecast])
    assert str(result.value).startswith("forecast: wrong arguments: " + why)
    assert "pydantic" not in str(result.value)


class Counter:
    """Counts."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, by: int = 1) -> int:
        """Adds."""
        self.count += by
        return self.count

    async def __call__(self, by: int) -> int:
        return self.add(by)


async def test_what_can_be_called_can_be_a_tool(session: Session) -> None:
    counter = Counter()
    tools: dict[str, Any] = {
        "add": counter.add,
        "call": counter,
        "partial": functools.partial(counter.add, by=10),
        "fixed": lambda: 7,
        "_under": lambda _a: _a,
        "schema": lambda schema, json: [schema, json],
    }
    program = """
        [await tools.add(), await tools.call({ by: 2 }), await tools.partial(),
         await tools.fixed(), await tools._under({ _a: 1 }),
         await tools.schema({ schema: 1, json: 2 })]
    """
    result = await session.exec(program, tools=tools)
    assert (result.error, result.value) == (None, [1, 3, 13, 7, 1, [1, 2]])


async def test_a_tool_with_a_schema_gets_the_input_as_it_is(session: Session) -> None:
    async def call(given: Any) -> Any:
        return [given]

    tool = Tool("odd name-1", "Described.", {"type": "string"}, call)
    program = "[await tools.odd_name_1('x'), await tools.odd_name_1(), ALL_TOOLS]"
    result = await session.exec(program, tools=[tool])
    listed = [{"name": "odd_name_1", "description": "Described."}]
    assert result.value == [["x"], [None], listed]


@pytest.mark.parametrize(
    ("tools", "why"),
    [
        ([lambda *args: 1], "cannot be given by name"),
        ([lambda **kwargs: 1], "cannot be given by name"),
        ([5], "a function or a Tool"),
        ([Tool("a-b", "", None, print), Tool("a_b", "", None, print)], "would both be tools.a_b"),
        ([forecast, forecast], "would both be tools.forecast"),
        ([Tool("a", "", {"x": float("nan")}, print)], "JSON has no nan"),
        ({"f": dict.fromkeys}, "f"),
    ],
)
def test_what_cannot_be_a_tool(tools: Any, why: str) -> None:
    with pytest.raises(ToolDefinitionError, match=why) as raised:
        Session(tools)
    assert raised.value.code == "tool_definition"


def test_types_without_a_schema() -> None:
    def takes_a_lock(lock: threading.Lock) -> None:
        """Nothing."""

    with pytest.raises(ToolDefinitionError, match="takes_a_lock"):
        Tool.from_function(takes_a_lock)

    def unknown(x: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Nothing."""

    with pytest.raises(ToolDefinitionError, match="Nowhere"):
        Tool.from_function(unknown)


async def test_an_exception_is_its_message_and_no_more(session: Session) -> None:
    secret = "/home/secret/path"

    class Strange(Exception):
        def __str__(self) -> str:
            raise ValueError(secret)

    def fails(kind: str) -> None:
        errors: dict[str, BaseException] = {
            "text": ValueError("no such item"),
            "empty": KeyError(),
            "strange": Strange(),
            "half": ValueError("\ud800"),
            "long": ValueError("x" * 1_000_000),
            "exit": SystemExit(3),
            "stop": StopIteration(),
            "base": BaseException("odd"),
        }
        raise errors[kind]

    async def fails_later(kind: str) -> None:
        fails(kind)

    kinds = ["text", "empty", "strange", "half", "long", "exit", "stop", "base"]
    program = """
        const caught = [];
        for (const tool of [tools.fails, tools.fails_later]) {
            for (const kind of %s) {
                try { await tool({ kind }) } catch (e) { caught.push(e.message.slice(0, 20)) }
            }
        }
        caught
    """
    result = await session.exec(program % kinds, tools=[fails, fails_later])
    sync, later = result.value[: len(kinds)], result.value[len(kinds) :]
    texts = ["no such item", "KeyError", "Strange", "?", "x" * 20, "3"]
    assert sync == [*texts, "StopIteration", "odd"]
    # Python itself makes another error of a coroutine's.
    assert later == [*texts, "coroutine raised Sto", "odd"]
    uncaught = await session.exec("await tools.fails({ kind: 'text' })", tools=[fails])
    assert uncaught.error == "Error: no such item\n    at exec_main.mjs:1:13"
    assert [call.end for call in uncaught.calls] == ["failed"]


async def test_what_a_call_rejects_with_is_an_error_of_the_programs(session: Session) -> None:
    def fails() -> None:
        raise ValueError("no such item")

    program = r"""async function f() { await tools.fails() }
        try { await f() } catch (e) {
            [e instanceof Error, e.name, e.message, Object.keys(e), e.stack.split('\n').length]
        }
    """
    caught = await session.exec(program, tools=[fails])
    assert caught.value == [True, "Error", "no such item", [], 3]
    null = "TypeError: Cannot read properties of null (reading 'x')\n    at exec_main.mjs:1:"
    for program, error in [
        ("null.x", f"{null}6"),
        ("const tools = 1; null.x", f"{null}23"),
        ("const x = (;", "SyntaxError: Unexpected token ';'\n    at exec_main.mjs:1:12"),
        ("\nawait tools.fails()", "Error: no such item\n    at exec_main.mjs:2:13"),
    ]:
        assert (await session.exec(program, tools=[fails])).error == error
    empty = await session.exec("")
    assert (empty.status, empty.value) == ("completed", None)
    fenced = await session.exec("```js\n1\n```")
    assert "Markdown" in (fenced.hint or "")


async def test_a_tool_that_does_not_exist(session: Session) -> None:
    result = await session.exec("await tools.nothing()", tools=[forecast])
    assert result.status == "failed"


async def test_sync_tools_run_in_threads_and_async_ones_on_the_loop(session: Session) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    variable.set("set")

    def sync() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), variable.get()]

    async def on_loop() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), variable.get()]

    def makes_a_coroutine() -> Any:
        return on_loop()

    tools = [sync, on_loop, makes_a_coroutine]
    program = "[await tools.sync(), await tools.on_loop(), await tools.makes_a_coroutine()]"
    result = await session.exec(program, tools=tools)
    assert result.value == [[False, "set"], [True, "set"], [True, "set"]]


async def test_a_thousand_calls_at_one_time(session: Session) -> None:
    running = 0
    all_run = asyncio.Event()

    async def slow(n: int) -> int:
        nonlocal running
        running += 1
        if running == 1000:
            all_run.set()
        await all_run.wait()
        return n

    program = """
        const all = await Promise.all(Array.from({ length: 1000 }, (_, n) => tools.slow({ n })));
        all.reduce((a, b) => a + b)
    """
    result = await session.exec(program, tools=[slow])
    assert (result.error, result.value) == (None, 499_500)
    assert result.usage.calls == 1000
    assert len(result.calls) == 100
