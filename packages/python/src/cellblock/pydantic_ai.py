"""Code mode for pydantic-ai: the model writes programs that call the agent's tools.

```python
from pydantic_ai import Agent
from cellblock.pydantic_ai import CodeCells

agent = Agent("anthropic:claude-sonnet-4-6", capabilities=[CodeCells()])
```
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Generic

from pydantic import TypeAdapter
from pydantic_ai import AbstractToolset, RunContext, ToolDefinition, WrapperToolset
from pydantic_ai.capabilities import AbstractCapability, CapabilityOrdering, ToolSearch
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    UsageLimitExceeded,
    UserError,
)
from pydantic_ai.messages import BinaryContent, ToolCallPart, ToolReturn
from pydantic_ai.tool_manager import ToolManager
from pydantic_ai.tools import AgentDepsT, ToolDenied, ToolSelector, matches_tool_selector
from pydantic_ai.toolsets.abstract import ToolsetTool
from typing_extensions import Self, TypedDict

from ._approval import Program, Request
from ._errors import CellblockError
from ._host import Host
from ._limits import Limits
from ._model import describe, render
from ._result import Image, Result
from ._session import Session
from ._tools import Tool, Toolbox

__all__ = ["CodeCells"]

_APPROVAL_TIME = 3600.0
"""Seconds that a program may wait for an approval."""

_MAX_PAUSED = 64
"""Programs that may wait for an approval; above it the oldest is ended."""

_CONTROL_KINDS = frozenset({"tool-search", "capability-load"})
"""Tools with which the framework itself is controlled; they stay beside the programs."""


class _Arguments(TypedDict):
    code: str


_ARGUMENTS = TypeAdapter(_Arguments)


@dataclass
class CodeCells(AbstractCapability[AgentDepsT]):
    """Lets the model write JavaScript programs that call the agent's tools.

    The model gets one tool, `run_code`, in the place of those that programs may call. A
    program that fails is a `ModelRetry`, with the error and its place.

    Tools that need approval are honoured. A handler of the agent (`HandleDeferredToolCalls`)
    is asked first. Where there is none, the run ends with `DeferredToolRequests` that name the
    call of `run_code`, and its metadata the calls that wait, as `calls`. The program waits where it
    is, in its sandbox; when the next run brings the approval, it goes on from there. So the run
    must be continued with the same agent, on the same event loop, within an hour.
    """

    tools: ToolSelector[AgentDepsT] = "all"
    """The tools that programs may call: all, a list of names, or a predicate of the run's
    context and a tool's definition. The others stay as they are."""

    _: KW_ONLY

    limits: Limits | None = None
    """What each program may use."""

    max_retries: int = 3
    """Times that a program may fail in a row."""

    tool_name: str = "run_code"
    """What the model calls."""

    host: Host | None = field(default=None, repr=False)
    """Where programs run; a process that this one starts, unless it is given."""

    _paused: dict[str, _Paused[AgentDepsT]] = field(default_factory=dict, init=False, repr=False)
    """Programs that wait for an approval, by the call of `run_code`."""

    def get_ordering(self) -> CapabilityOrdering:
        """What the tools of other capabilities are is decided before."""
        return CapabilityOrdering(position="outermost", wraps=[ToolSearch])

    def get_wrapper_toolset(
        self, toolset: AbstractToolset[AgentDepsT]
    ) -> AbstractToolset[AgentDepsT] | None:
        """The agent's tools, and how programs call them."""
        return _CodeToolset(wrapped=toolset, capability=self)


class _Run:
    """The session of a run. It lives until the run and its paused programs have ended."""

    def __init__(self, session: Session) -> None:
        self.session = session
        # One with a program that waits may be forgotten; its host is told all the same.
        self.session.warns_when_unclosed = False
        self.users = 1

    async def leave(self) -> None:
        self.users -= 1
        if self.users == 0:
            await self.session.close()


@dataclass
class _Paused(Generic[AgentDepsT]):
    """A program that waits for an approval."""

    code: str
    program: Program[_Decision[AgentDepsT]]
    run: _Run
    expiry: asyncio.TimerHandle
    _leaving: asyncio.Task[None] | None = None

    def forget(self) -> None:
        """Ends it, on the loop where it runs."""
        loop = self.program.loop

        def ending() -> None:
            self.expiry.cancel()
            self.program.cancel()
            self._leaving = loop.create_task(self.run.leave())

        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ending)


@dataclass
class _Decision(Generic[AgentDepsT]):
    """What was decided of a call: who runs it now, if it was approved."""

    calls: _Calls[AgentDepsT] | None
    why: str = "it was not approved"


@dataclass
class _CodeTool(ToolsetTool[AgentDepsT]):
    """`run_code`, and the tools that its programs may call, by their names."""

    callable_tools: dict[str, ToolDefinition] = field(default_factory=dict)
    wrapped_tools: dict[str, ToolsetTool[AgentDepsT]] = field(default_factory=dict)


@dataclass
class _CodeToolset(WrapperToolset[AgentDepsT]):
    """The agent's tools, of which some are called by programs."""

    capability: CodeCells[AgentDepsT]
    _run: _Run | None = field(default=None, init=False, repr=False)

    async def for_run(self, ctx: RunContext[AgentDepsT]) -> AbstractToolset[AgentDepsT]:
        return replace(self, wrapped=await self.wrapped.for_run(ctx))

    async def for_run_step(self, ctx: RunContext[AgentDepsT]) -> AbstractToolset[AgentDepsT]:
        wrapped = await self.wrapped.for_run_step(ctx)
        if wrapped is self.wrapped:
            return self
        new = replace(self, wrapped=wrapped)
        new._run = self._run
        return new

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        capability = self.capability
        self._run = _Run(Session(limits=capability.limits, host=capability.host))
        return self

    async def __aexit__(self, *args: Any) -> bool | None:
        run, self._run = self._run, None
        try:
            return await super().__aexit__(*args)
        finally:
            if run:
                await run.leave()

    async def get_tools(self, ctx: RunContext[AgentDepsT]) -> dict[str, ToolsetTool[AgentDepsT]]:
        name = self.capability.tool_name
        wrapped = await self.wrapped.get_tools(ctx)
        inside: dict[str, ToolDefinition] = {}
        for tool_name, tool in wrapped.items():
            if await self._is_callable(ctx, tool.tool_def):
                inside[tool_name] = tool.tool_def
        tools = {each: tool for each, tool in wrapped.items() if each not in inside}
        if name in tools:
            raise UserError(f"The tool {name!r} has the name of the one that runs programs.")
        tools[name] = _CodeTool(
            toolset=self,
            tool_def=ToolDefinition(
                name=name,
                description=await describe(Toolbox([_described(each) for each in inside.values()])),
                parameters_json_schema=_ARGUMENTS.json_schema(),
                metadata={"code_arg_name": "code", "code_arg_language": "javascript"},
            ),
            max_retries=self.capability.max_retries,
            args_validator=_ARGUMENTS.validator,  # type: ignore[arg-type]
            callable_tools=inside,
            wrapped_tools=wrapped,
        )
        return tools

    async def _is_callable(self, ctx: RunContext[AgentDepsT], tool: ToolDefinition) -> bool:
        """Whether programs may call a tool."""
        if tool.tool_kind in _CONTROL_KINDS or tool.unless_native or tool.kind == "external":
            return False
        if tool.metadata and "code_arg_name" in tool.metadata:
            # It runs programs, too.
            return False
        if not ctx.is_tool_available(tool):
            return False
        return await matches_tool_selector(self.capability.tools, ctx, tool)

    async def call_tool(
        self,
        name: str,
        tool_args: dict[str, Any],
        ctx: RunContext[AgentDepsT],
        tool: ToolsetTool[AgentDepsT],
    ) -> Any:
        if not isinstance(tool, _CodeTool):
            return await self.wrapped.call_tool(name, tool_args, ctx, tool)
        calls = _Calls(self.wrapped, ctx, tool)
        paused = self.capability._paused.pop(ctx.tool_call_id or "", None)
        if paused and paused.code != tool_args["code"]:
            # Calls of other conversations may go by the same name.
            paused.forget()
            paused = None
        if paused:
            paused.expiry.cancel()
            program, run = paused.program, paused.run
            program.decide(lambda _: _Decision(calls))
        elif ctx.tool_call_approved:
            raise ModelRetry("The program that waited for an approval is lost. Write it again.")
        elif self._run is None:
            raise UserError("The toolset was not entered.")
        else:
            program, run = Program(), self._run
            run.users += 1
            tools = [calls.as_tool(program, each) for each in tool.callable_tools.values()]
            program.start(run.session.exec(tool_args["code"], tools=tools))
        return await self._advance(ctx, tool_args["code"], program, run, calls)

    async def _advance(
        self,
        ctx: RunContext[AgentDepsT],
        code: str,
        program: Program[_Decision[AgentDepsT]],
        run: _Run,
        calls: _Calls[AgentDepsT],
    ) -> Any:
        """Runs a program until it ends or waits for an approval."""
        try:
            result = await program.advance()
        except CellblockError as error:
            await run.leave()
            raise ModelRetry(str(error)) from error
        except BaseException:
            await run.leave()
            raise
        if result is None:
            self._pause(ctx.tool_call_id or "", code, program, run)
            waiting = [
                {
                    "id": each.id,
                    "tool_name": each.tool,
                    "args": each.input,
                    "metadata": each.metadata,
                }
                for each in program.waiting
            ]
            raise ApprovalRequired(metadata={"calls": waiting})
        await run.leave()
        if calls.exceeded:
            raise calls.exceeded
        if result.status != "completed":
            raise ModelRetry(render(result))
        return _returned(result)

    def _pause(
        self, call: str, code: str, program: Program[_Decision[AgentDepsT]], run: _Run
    ) -> None:
        paused = self.capability._paused

        def expire() -> None:
            entry = paused.pop(call, None)
            if entry:
                entry.forget()

        expiry = program.loop.call_later(_APPROVAL_TIME, expire)
        paused[call] = _Paused(code, program, run, expiry)
        while len(paused) > _MAX_PAUSED:
            paused.pop(next(iter(paused))).forget()


class _Calls(Generic[AgentDepsT]):
    """The calls of a program, as the agent makes them."""

    def __init__(
        self,
        toolset: AbstractToolset[AgentDepsT],
        ctx: RunContext[AgentDepsT],
        tool: _CodeTool[AgentDepsT],
    ) -> None:
        self.exceeded: UsageLimitExceeded | None = None
        """A limit of the run that a call would have exceeded: it ends the run."""
        self._ctx = ctx
        if ctx.tool_manager is None:
            raise UserError("The run has no tool manager.")
        # Calls go the way that the model's own go: validation, hooks, handlers, usage.
        self._manager = ToolManager(
            toolset=toolset,
            root_capability=ctx.tool_manager.root_capability,
            ctx=ctx,
            tools=tool.wrapped_tools,
        )

    def as_tool(self, program: Program[_Decision[AgentDepsT]], definition: ToolDefinition) -> Tool:
        """A tool as programs call it."""

        async def call(given: Any) -> Any:
            async def run(number: str) -> Any:
                return await self._call(program, definition.name, given, number)

            return await program.call(run)

        return replace(_described(definition), call=call)

    async def _call(
        self, program: Program[_Decision[AgentDepsT]], name: str, given: Any, number: str
    ) -> Any:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{name} takes an object")
        part = ToolCallPart(name, dict(given or {}), f"{self._ctx.tool_call_id}__{number}")
        try:
            return await self._handle(part, approved=False)
        except ApprovalRequired as required:
            request = Request[_Decision[AgentDepsT]](
                part.tool_call_id, name, part.args, required.metadata
            )
        decision = await program.ask(request)
        if decision.calls is None:
            raise PermissionError(f"{name}: {decision.why}")
        return await decision.calls._handle(part, approved=True)

    async def _handle(self, part: ToolCallPart, *, approved: bool) -> Any:
        limits, usage = self._ctx.usage_limits, self._ctx.usage
        if limits is not None and limits.tool_calls_limit is not None:
            try:
                # This call and that of the program itself.
                limits.check_before_tool_call(replace(usage, tool_calls=usage.tool_calls + 2))
            except UsageLimitExceeded as error:
                self.exceeded = error
                raise
        try:
            returned = await self._manager.handle_call(
                part, approved=approved, wrap_validation_errors=False
            )
        except CallDeferred:
            message = f"{part.tool_name} is run elsewhere, and programs cannot wait for that"
            raise RuntimeError(message) from None
        if isinstance(returned, ToolDenied):
            raise PermissionError(f"{part.tool_name}: {returned.message}")
        if isinstance(returned, ToolReturn):
            returned = returned.return_value
        return _inside(returned)


def _described(definition: ToolDefinition) -> Tool:
    """What models read about a tool."""
    return Tool(
        definition.name,
        definition.description or "",
        definition.parameters_json_schema,
        lambda _: None,
        definition.return_schema,
    )


def _inside(value: Any) -> Any:
    """A tool's result as programs have it: media as what `image` and `audio` print."""
    if isinstance(value, BinaryContent):
        kind = "audio_url" if value.is_audio else "image_url"
        return {kind: value.data_uri}
    if isinstance(value, list):
        return [_inside(each) for each in value]
    return value


def _returned(result: Result) -> ToolReturn[Any]:
    """A result as the model reads it."""
    value = result.value
    if result.value_key is not None or result.value_error or (value is None and not result.text):
        value = render(result)
    elif result.text:
        value = {"output": result.text} | ({} if value is None else {"result": value})
    images = [BinaryContent.from_data_uri(i.url) for i in result.items if isinstance(i, Image)]
    usage = {"fuel": result.usage.fuel, "calls": result.usage.calls}
    return ToolReturn(value, content=images or None, metadata={"code_mode": True, **usage})
