"""Programs, and what they answer."""

from __future__ import annotations

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest

from cellblock import (
    BusyError,
    CellNotFoundError,
    Host,
    Image,
    InvalidRequestError,
    LimitError,
    Limits,
    NotJsonError,
    ProgramError,
    Session,
    SessionClosedError,
    TerminatedError,
    Text,
)

from .conftest import PATIENCE, WAITS, begun

PIXEL = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="


async def test_a_result_has_what_the_program_printed_and_its_value(session: Session) -> None:
    result = await session.exec(f"text('a'); text({{ b: 1 }}); image('{PIXEL}'); [1, 'x', null]")
    assert result.status == "completed"
    assert result.items == (Text("a"), Text('{"b":1}'), Image(PIXEL, "high"))
    assert result.text == 'a\n{"b":1}'
    assert result.value == [1, "x", None]
    assert result.usage.fuel > 0
    assert result.usage.peak_memory_bytes > 0
    assert result.check() is result


@pytest.mark.parametrize(
    ("program", "value"),
    [
        ("return 5", 5),
        ("1 + 1", 2),
        ("Promise.resolve({ a: [] })", {"a": []}),
        ("'\\u{1F600}'", "\U0001f600"),
        ("undefined", None),
        ("const x: number = 3; x", 3),
        ("2 ** 53", 2**53),
        ("0.1 + 0.2", 0.1 + 0.2),
    ],
)
async def test_values(session: Session, program: str, value: Any) -> None:
    result = await session.exec(program)
    assert (result.error, result.value) == (None, value)


async def test_a_value_that_cannot_be_had_says_why(session: Session) -> None:
    result = await session.exec("const a = {}; a.a = a; a")
    assert result.status == "completed"
    assert result.value is None
    assert "circular" in (result.value_error or "")


async def test_a_long_value_is_there_and_stored(session: Session) -> None:
    result = await session.exec("'x'.repeat(300_000)")
    assert result.value == "x" * 300_000
    assert result.value_key is not None
    again = await session.exec(f"load({result.value_key!r}).length")
    assert again.value == 300_000


async def test_without_a_value(session: Session) -> None:
    result = await session.exec("5", value=False)
    assert result.value is None
    failed = await session.exec("return 5", value=False)
    assert failed.status == "failed"


async def test_a_program_that_fails_is_a_result(session: Session) -> None:
    result = await session.exec("text('before'); console.log(1)")
    assert result.status == "failed"
    assert result.text == "before"
    assert "console is not defined" in (result.error or "")
    assert "text(value)" in (result.hint or "")
    with pytest.raises(ProgramError, match="console is not defined") as raised:
        result.check()
    assert raised.value.code == "program_failed"


@pytest.mark.parametrize(
    ("limits", "program", "limit"),
    [
        (Limits(running_time=0.1), "for (;;);", "running_time"),
        (Limits(running_time=timedelta(milliseconds=100)), "for (;;);", "running_time"),
        (Limits(total_time=0.2), "await new Promise((r) => setTimeout(r, 60_000))", "total_time"),
        (Limits(memory_bytes=4 << 20), "const a = []; for (;;) a.push({})", "memory"),
        (Limits(fuel=20_000_000), "for (;;);", "fuel"),
        (Limits(output_bytes=10), "text('x'.repeat(100))", "output_bytes"),
        (Limits(stored_keys=1), "store('a', 1); store('b', 1)", "stored_keys"),
    ],
)
async def test_limits_hold(host: Host, limits: Limits, program: str, limit: str) -> None:
    async with Session(host=host, limits=limits) as session:
        result = await session.exec(program)
        assert (result.status, result.limit) == ("limit", limit)
        with pytest.raises(LimitError, match="limit"):
            result.check()


async def test_limits_can_be_wider_than_the_defaults(host: Host) -> None:
    program = "new Uint8Array(200 * 1024 * 1024).length"
    async with Session(host=host) as session:
        assert (await session.exec(program)).limit == "memory"
    async with Session(host=host, limits={"memory_bytes": 300 << 20}) as session:
        assert (await session.exec(program)).value == 200 << 20


@pytest.mark.parametrize(
    "limits", [{"speed": 1}, {"fuel": -1}, {"total_time": "1s"}, {"fuel": 1.5}]
)
def test_limits_that_are_none(limits: Any) -> None:
    with pytest.raises(ValueError, match="limit"):
        Session(limits=limits)


async def test_limits_out_of_range_are_refused(host: Host) -> None:
    async with Session(host=host, limits={"memory_bytes": 1}) as session:
        with pytest.raises(Exception, match="memory limit must be between"):
            await session.exec("1")


async def test_stored_values_are_the_callers(host: Host) -> None:
    async with Session(host=host, stored={"given": {"a": [1]}}) as session:
        await session.exec("store('made', [load('given').a[0], 2])")
        assert dict(session.stored) == {"given": {"a": [1]}, "made": [1, 2]}
        session.stored["given"] = "other"
        del session.stored["made"]
        result = await session.exec("[load('given'), load('made') === undefined]")
        assert result.value == ["other", True]
    with pytest.raises(NotJsonError, match=r"stored\['x'\]: at \$\.a"):
        Session(stored={"x": {"a": float("nan")}})


async def test_a_program_that_fails_stores_what_the_contract_says(session: Session) -> None:
    await session.exec("store('a', 1); throw new Error('x')")
    assert session.stored.get("a") == 1


async def test_stored_values_that_are_too_large_are_refused_here(host: Host) -> None:
    async with Session(host=host) as session:
        for index in range(5):
            session.stored[str(index)] = "x" * (15 << 20)
        with pytest.raises(InvalidRequestError, match="stored values"):
            await session.exec("1")
        del session.stored["0"]
        assert (await session.exec("load('1').length")).value == 15 << 20


async def test_a_program_yields_and_goes_on(session: Session) -> None:
    program = """
        text('one');
        yield_control();
        await new Promise((resolve) => setTimeout(resolve, 50));
        text('two');
        'three'
    """
    first = await session.exec(program)
    assert (first.status, first.text, first.value) == ("running", "one", None)
    last = await session.wait(first)
    assert (last.status, last.text, last.value) == ("completed", "two", "three")
    with pytest.raises(CellNotFoundError):
        await session.wait(first)


async def test_yield_after(session: Session) -> None:
    waiting = "await new Promise((resolve) => setTimeout(resolve, 3_600_000))"
    first = await session.exec(waiting, yield_after=0)
    assert first.status == "running"
    again = await session.wait(first.cell_id, yield_after=0.01)
    assert (again.status, again.cell_id) == ("running", first.cell_id)
    ended = await session.terminate(first)
    assert ended.status == "terminated"
    with pytest.raises(TerminatedError):
        ended.check()
    with pytest.raises(CellNotFoundError):
        await session.terminate(first)


async def test_what_a_program_stored_is_there_though_nobody_waits(session: Session) -> None:
    program = "yield_control(); await new Promise((r) => setTimeout(r, 10)); store('late', 1)"
    first = await session.exec(program)
    for _ in range(6_000):
        if "late" in session.stored:
            break
        await asyncio.sleep(0.01)
    assert session.stored["late"] == 1
    assert (await session.wait(first)).status == "completed"


async def test_two_cannot_wait_for_one_program(session: Session) -> None:
    first = await session.exec(WAITS, yield_after=0)
    waiting = asyncio.create_task(session.wait(first))
    await asyncio.sleep(0)
    with pytest.raises(BusyError):
        await session.wait(first)
    ended = await session.terminate(first)
    assert ended.status == "terminated"
    assert (await waiting).status == "terminated"


async def test_a_wait_that_is_cancelled_loses_nothing(session: Session) -> None:
    program = """
        for (let i = 0; i < 20; i++) {
            await new Promise((resolve) => setTimeout(resolve, 5));
            text(i);
        }
    """
    result = await session.exec(program, yield_after=0)
    texts = [result.text]
    for _ in range(20):
        waiting = asyncio.create_task(session.wait(result))
        await asyncio.sleep(0.002)
        # It may have been answered just now.
        if waiting.done() or not waiting.cancel():
            result = waiting.result()
            texts.append(result.text)
            if result.status != "running":
                break
            continue
        with pytest.raises(asyncio.CancelledError):
            await waiting
    while result.status == "running":
        result = await session.wait(result)
        texts.append(result.text)
    assert re.findall(r"\d+", "\n".join(texts)) == [str(i) for i in range(20)]


async def test_programs_of_a_session_run_at_the_same_time(session: Session) -> None:
    results = await asyncio.gather(*(session.exec(f"{i}") for i in range(60)))
    assert [result.value for result in results] == list(range(60))


async def test_too_many_programs(session: Session) -> None:
    results = await asyncio.gather(
        *(session.exec(WAITS, yield_after=0) for _ in range(80)), return_exceptions=True
    )
    busy = [result for result in results if isinstance(result, BusyError)]
    assert len(busy) == 80 - 64
    assert busy[0].code == "busy"


async def test_notifications_arrive_in_order(host: Host) -> None:
    heard: list[str] = []

    async def on_notify(text: str) -> None:
        await asyncio.sleep(0)
        heard.append(text)

    async with Session(host=host, on_notify=on_notify) as session:
        await session.exec("for (let i = 0; i < 100; i++) notify(i)")
    assert heard == [str(i) for i in range(100)]
    async with Session(host=host, on_notify=heard.append) as session:
        await session.exec("notify({ a: 1 })")
    assert heard[-1] == '{"a":1}'


async def test_a_notification_that_nobody_takes_is_no_error(host: Host) -> None:
    def on_notify(text: str) -> None:
        raise RuntimeError(text)

    async with Session(host=host, on_notify=on_notify) as session:
        assert (await session.exec("notify('x'); 1")).value == 1


async def test_locale_zone_and_language(session: Session) -> None:
    program = "[(1234.5).toLocaleString(), new Date(0).getHours()]"
    assert (await session.exec(program)).value == ["1,234.5", 0]
    result = await session.exec(program, locale="de-DE", time_zone="Europe/Berlin")
    assert result.value == ["1.234,5", 1]
    assert (await session.exec("const x: number = 1", language="js")).status == "failed"


async def test_a_program_that_is_not_unicode_is_refused(session: Session) -> None:
    with pytest.raises(InvalidRequestError):
        await session.exec("'\ud800'")
    assert (await session.exec("1")).value == 1


async def test_a_program_that_is_too_long_is_refused(session: Session) -> None:
    with pytest.raises(InvalidRequestError):
        await session.exec("x" * (5 << 20))
    with pytest.raises(InvalidRequestError):
        await session.exec("x" * (65 << 20))
    assert (await session.exec("1")).value == 1


@pytest.mark.parametrize("settings", [{"time_zone": "Nowhere"}, {"locale": "no such thing"}])
async def test_settings_that_are_none_are_refused(session: Session, settings: Any) -> None:
    called, release = asyncio.Event(), asyncio.Event()

    async def wait() -> int:
        called.set()
        await release.wait()
        return 1

    other = asyncio.create_task(session.exec("await tools.wait()", tools=[wait]))
    await asyncio.wait_for(called.wait(), PATIENCE)
    with pytest.raises(InvalidRequestError):
        await session.exec("1", **settings)
    release.set()
    assert (await other).value == 1


async def test_a_session_that_is_closed_runs_nothing(host: Host) -> None:
    session = Session(host=host)
    await session.exec("1")
    running = await begun(session)
    await session.close()
    await session.close()
    try:
        assert (await running).status == "terminated"
    except SessionClosedError:
        pass
    for refused in (session.exec("1"), session.wait("1"), session.terminate("1")):
        with pytest.raises(SessionClosedError):
            await refused


async def test_a_session_that_was_never_used_closes(host: Host) -> None:
    async with Session(host=host):
        pass


async def test_a_session_that_is_forgotten_is_closed_with_a_warning(host: Host) -> None:
    session = Session(host=host)
    await session.exec("1")
    with pytest.warns(ResourceWarning, match="unclosed"):
        del session
    async with Session(host=host) as other:
        assert (await other.exec("1")).value == 1
