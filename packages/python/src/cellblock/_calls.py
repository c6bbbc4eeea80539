"""Nested calls and notifications of a program, which are served here.

A call outlives its program's cell: while the program is parked, what its calls end with is
kept, for the cell that it is woken as.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
from collections.abc import Callable, Mapping
from typing import Any

from . import _messages as messages
from ._connection import Connection, failure
from ._tools import Toolbox, message_of

_DELIVERED = '{"status":"ok","value":{"type":"notification/delivered"}}'

Notify = Callable[[str], Any]


class Call:
    """A nested call or a notification, and what it has ended with."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None
        self.outcome: str | None = None
        """As JSON text, once it has ended."""
        self._reply: Callable[[str], None] | None = None
        self._is_cancelled = False

    def finish(self, outcome: str) -> None:
        """It has ended."""
        self.outcome = outcome
        if self._reply:
            self._reply(outcome)

    def answer_with(self, reply: Callable[[str], None] | None) -> None:
        """Where its outcome goes, if it is wanted now."""
        self._reply = reply
        if reply and self.outcome is not None:
            reply(self.outcome)

    def cancel(self) -> None:
        """Cancels it, from anywhere."""
        # Once: a second time would break off what the tool does when it is cancelled.
        if self.task is None or self._is_cancelled:
            return
        self._is_cancelled = True
        # Its event loop may be closed, and then nothing of it runs.
        with contextlib.suppress(RuntimeError):
            if _running_loop() is self.loop:
                self.task.cancel()
            else:
                self.loop.call_soon_threadsafe(self.task.cancel)

    def is_known_to(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it has ended, or will end on an event loop."""
        return self.outcome is not None or (self.loop is loop and self.task is not None)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class Calls:
    """The calls of one cell, by what its host calls them. Used on one event loop."""

    def __init__(
        self,
        connection: Connection,
        tools: Toolbox,
        on_notify: Notify | None,
        *,
        resume: Toolbox,
        pending: Mapping[str, Call],
        on_idle: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._tools = tools
        self._on_notify = on_notify
        self._resume = resume
        self._on_idle = on_idle
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._calls: dict[int, Call] = {}
        self._names: dict[int, str] = {}
        # Those of a program that was parked, and which its new cell has not asked for yet.
        self._pending = dict(pending)
        self._are_held = False

    @property
    def are_over(self) -> bool:
        """Whether nothing runs any more."""
        return not self._calls

    def serve(self, delegate: int, request: messages.InvokeTool | messages.Notify) -> None:
        """The program calls a tool, or sends a notification."""
        known = None
        if isinstance(request, messages.InvokeTool):
            name = request.invocation.runtime_tool_call_id
            self._names[delegate] = name
            if request.resumed:
                known = self._pending.pop(name, None)
        if known and not known.is_known_to(self._loop):
            known.cancel()
            known = None
        call = known or Call()
        self._calls[delegate] = call
        if known is None:
            serving = self._serve(call, request)
            call.task = self._context.run(self._loop.create_task, serving)
        if not self._are_held:
            call.answer_with(functools.partial(self._connection.reply, delegate))
        if call.task is None or call.task.done():
            self._served(delegate)
        else:
            call.task.add_done_callback(lambda _: self._served(delegate))

    def cancelled(self, delegate: int) -> None:
        """The host gives one up."""
        call = self._calls.get(delegate)
        if call:
            call.cancel()

    def cancel(self, *, with_pending: bool = True) -> None:
        """Cancels all."""
        for call in [*self._calls.values(), *(self._pending.values() if with_pending else ())]:
            call.cancel()

    # While the program is being parked

    def hold(self) -> None:
        """Keeps what calls end with from now on."""
        self._are_held = True
        for call in self._calls.values():
            call.answer_with(None)

    def deliver(self) -> None:
        """Sends what was kept: the program was not parked."""
        self._are_held = False
        for delegate, call in list(self._calls.items()):
            call.answer_with(functools.partial(self._connection.reply, delegate))
            if call.outcome is not None:
                self._served(delegate)

    def leave(self, ends: Mapping[str, str]) -> dict[str, Call]:
        """Leaves the cell, which was parked; returns its calls by their names.

        `ends` are outcomes that the host had received, and its program not.
        """
        left = self._pending
        for delegate, call in self._calls.items():
            self._connection.forget(delegate)
            name = self._names.get(delegate)
            if name is None:
                call.cancel()
            else:
                left[name] = call
        for name, outcome in ends.items():
            left[name] = Call()
            left[name].finish(outcome)
        self._calls, self._pending = {}, {}
        return left

    # One call

    def _served(self, delegate: int) -> None:
        if self._are_held or self._calls.pop(delegate, None) is None:
            return
        self._names.pop(delegate, None)
        if not self._calls:
            self._on_idle()

    async def _serve(self, call: Call, request: messages.InvokeTool | messages.Notify) -> None:
        """Runs a tool or delivers a notification."""
        outcome = failure("the tool was cancelled")
        try:
            if isinstance(request, messages.InvokeTool):
                text = await self._run(request)
                outcome = f'{{"status":"ok","value":{{"type":"tool/result","result":{text}}}}}'
            else:
                await self._notify(request.text)
                outcome = _DELIVERED
            await self._connection.room()
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except BaseException as error:
            # Also what is no `Exception` is the program's to handle, and ends nothing here.
            outcome = failure(message_of(error))
        finally:
            # One that the host has given up gets no answer: `reply` knows.
            call.finish(outcome)

    async def _run(self, request: messages.InvokeTool) -> str:
        called = request.invocation
        name = called.tool_name.name
        if not request.resumed:
            return await self._tools.call(name, called.input)
        if not self._resume.has(name):
            raise RuntimeError(
                f"{name}: the program was parked while this call ran. It may have taken effect, "
                "and is not made again"
            )
        return await self._resume.call(name, called.input)

    async def _notify(self, text: str) -> None:
        if self._on_notify:
            done = self._on_notify(text)
            if asyncio.iscoroutine(done) or isinstance(done, asyncio.Future):
                await done
