"""Code mode for LangChain and deepagents: the model writes programs that call the agent's tools.

```python
from langchain.agents import create_agent
from cellblock.langchain import CodeCellsMiddleware

agent = create_agent(
    "anthropic:claude-sonnet-4-6",
    tools=[search, fetch],
    middleware=[CodeCellsMiddleware(ptc=["search", "fetch"], interrupt_on={"fetch": True})],
)
```
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from langchain.agents.middleware.types import (
    AgentMiddleware,
    AgentState,
    ModelRequest,
    ModelResponse,
    PrivateStateAttr,
)
from langchain.tools import BaseTool, ToolRuntime
from langchain_core.messages import ToolMessage
from langchain_core.tools import InjectedToolCallId, StructuredTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.errors import GraphBubbleUp
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, interrupt
from pydantic import BaseModel, Field
from typing_extensions import NotRequired, TypedDict

from . import _portal
from ._approval import Program, Request
from ._errors import CellblockError
from ._host import Host
from ._limits import Limits
from ._model import describe, render
from ._result import Image, Result
from ._session import Session
from ._tools import Tool, Toolbox

__all__ = ["CodeCellsMiddleware"]

_APPROVAL_TIME = 3600.0
"""Seconds that a program may wait for an approval."""

_MAX_PAUSED = 64
"""Programs that may wait for an approval; above it the oldest is ended."""

_LOST = "The program that waited for an approval is lost. Write it again."


class InterruptOn(TypedDict):
    """What somebody may decide of a tool's calls."""

    allowed_decisions: list[str]
    """Of `approve`, `edit`, `reject` and `respond`."""
    description: NotRequired[str]
    """What they read."""


def _merged(before: dict[str, Any] | None, new: dict[str, Any] | None) -> dict[str, Any]:
    return {**(before or {}), **(new or {})}


class CodeCellsState(AgentState[Any]):
    """The agent's state, and what programs have stored."""

    cellblock_stored: NotRequired[Annotated[dict[str, Any], PrivateStateAttr, _merged]]


class _Arguments(BaseModel):
    code: str = Field(description="The program, in JavaScript.")


class CodeCellsMiddleware(AgentMiddleware[CodeCellsState, Any, Any]):
    """Gives the model a tool that runs JavaScript programs, which call the agent's tools.

    What a program stores is part of the thread's state, and so in its checkpoints.

    Calls of tools in `interrupt_on` wait for a decision, as those of the model's own do with
    `HumanInTheLoopMiddleware`: the run is interrupted with the same request, and resumed with
    the same answer. The program waits where it is, in its sandbox, for at most an hour; nothing
    of it is run again. If it is lost meanwhile, for its process has ended, the decision counts
    for nothing, and the model reads that it is lost.

    Args:
        ptc: The tools that programs may call: names of the agent's tools, or tools that only
            programs have.
        interrupt_on: Tools whose calls by programs wait for a decision, and which decisions
            there are; `True` is all but `respond`.
        limits: What each program may use.
        tool_name: What the model calls.
        hide: Whether the model itself does not see the tools that programs may call.
        host: Where programs run; a process that this one starts, unless it is given.
    """

    state_schema = CodeCellsState

    def __init__(
        self,
        *,
        ptc: Sequence[str | BaseTool],
        interrupt_on: Mapping[str, bool | InterruptOn] | None = None,
        limits: Limits | None = None,
        tool_name: str = "run_code",
        hide: bool = False,
        host: Host | None = None,
    ) -> None:
        super().__init__()
        self._names = {each if isinstance(each, str) else each.name for each in ptc}
        self._own = [each for each in ptc if not isinstance(each, str)]
        every: InterruptOn = {"allowed_decisions": ["approve", "edit", "reject"]}
        self._interrupt_on = {
            name: every if config is True else config
            for name, config in (interrupt_on or {}).items()
            if config is not False
        }
        self._limits = limits
        self._name = tool_name
        self._hide = hide
        self._host = host
        self._paused: dict[tuple[str, str, str], _Paused] = {}
        self.tools = [
            StructuredTool(
                name=tool_name,
                description="Runs a JavaScript program.",
                func=self._run_sync,
                coroutine=self._run_async,
                args_schema=_Arguments,
            )
        ]

    # What the model sees

    def wrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], ModelResponse[Any]],
    ) -> ModelResponse[Any]:
        """Describes the tools that programs may call."""
        return handler(_portal.run(self._prepared(request)))

    async def awrap_model_call(
        self,
        request: ModelRequest[Any],
        handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]],
    ) -> ModelResponse[Any]:
        """Describes the tools that programs may call."""
        return await handler(await self._prepared(request))

    async def _prepared(self, request: ModelRequest[Any]) -> ModelRequest[Any]:
        offered = [tool for tool in request.tools if isinstance(tool, BaseTool)]
        description = await describe(Toolbox(map(_described, self._callable(offered))))
        tools: list[BaseTool | dict[str, Any]] = []
        for tool in request.tools:
            if isinstance(tool, BaseTool) and tool.name == self._name:
                tools.append(tool.model_copy(update={"description": description}))
            elif not (self._hide and isinstance(tool, BaseTool) and tool.name in self._names):
                tools.append(tool)
        return request.override(tools=tools)

    def _callable(self, offered: Sequence[BaseTool]) -> list[BaseTool]:
        """The tools that programs may call."""
        tools = {tool.name: tool for tool in offered if tool.name in self._names}
        tools.update({tool.name: tool for tool in self._own})
        tools.pop(self._name, None)
        return list(tools.values())

    # Running programs

    async def _run_async(self, code: str, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
        steps = self._steps(code, runtime)
        answer: Any = None
        try:
            while True:
                answer = await steps.send(answer)
        except StopIteration as end:
            return _command(end.value)

    def _run_sync(self, code: str, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
        steps = self._steps(code, runtime)
        answer: Any = None
        try:
            while True:
                answer = _portal.run(steps.send(answer))
        except StopIteration as end:
            return _command(end.value)

    def _steps(
        self, code: str, runtime: ToolRuntime[Any, Any]
    ) -> Generator[Coroutine[Any, Any, Any], Any, Command[Any]]:
        """The steps of a program, each to be awaited; between them the run may be interrupted."""
        thread = runtime.config.get("configurable", {})
        key = (
            str(thread.get("thread_id", "")),
            str(thread.get("checkpoint_ns", "")),
            str(runtime.tool_call_id),
        )
        paused = self._paused.pop(key, None)
        is_new = paused is None
        if paused is None:
            paused = _Paused(_Calls(self, runtime), code)
            yield paused.start(self, runtime)
        elif paused.code != code:
            yield paused.end()
            return self._lost(runtime)
        else:
            yield paused.resumed(runtime)
        # Questions that were answered before are asked again by the framework's rules.
        for question in paused.questions:
            interrupt(question)
        while True:
            result: Result | str | None = yield paused.advance()
            if result is not None:
                return self._ended(runtime, paused, result)
            question = self._question(paused.calls.program.waiting)
            yield self._keep(key, paused)
            # This raises, unless the answer is there.
            answer = interrupt(question)
            self._paused.pop(key, None)
            if is_new:
                # It is the answer to a question of a program that is no more.
                yield paused.end()
                return self._lost(runtime)
            paused.questions.append(question)
            yield paused.decide(answer)

    def _question(self, waiting: Sequence[Request[Any]]) -> dict[str, Any]:
        """What somebody is asked, as `HumanInTheLoopMiddleware` does."""
        actions = []
        for request in waiting:
            about = self._interrupt_on[request.tool].get("description")
            described = about or f"A program calls {request.tool}."
            actions.append({"name": request.tool, "args": request.input, "description": described})
        names = dict.fromkeys(request.tool for request in waiting)
        configs = [
            {
                "action_name": name,
                "allowed_decisions": self._interrupt_on[name]["allowed_decisions"],
            }
            for name in names
        ]
        return {"action_requests": actions, "review_configs": configs}

    async def _keep(self, key: tuple[str, str, str], paused: _Paused) -> None:
        """Keeps a program that waits."""
        self._paused[key] = paused

        def expire() -> None:
            if self._paused.get(key) is paused:
                del self._paused[key]
                paused.forget()

        paused.expiry = asyncio.get_running_loop().call_later(_APPROVAL_TIME, expire)
        while len(self._paused) > _MAX_PAUSED:
            self._paused.pop(next(iter(self._paused))).forget()

    def _ended(
        self, runtime: ToolRuntime[Any, Any], paused: _Paused, result: Result | str
    ) -> Command[Any]:
        if isinstance(result, str):
            return self._answer(runtime, result, status="error")
        images = [
            {"type": "image_url", "image_url": {"url": item.url}}
            for item in result.items
            if isinstance(item, Image)
        ]
        text = render(result)
        content: Any = [{"type": "text", "text": text}, *images] if images else text
        status = "success" if result.status == "completed" else "error"
        return self._answer(runtime, content, status=status, stored=paused.written())

    def _lost(self, runtime: ToolRuntime[Any, Any]) -> Command[Any]:
        return self._answer(runtime, _LOST, status="error")

    def _answer(
        self,
        runtime: ToolRuntime[Any, Any],
        content: Any,
        *,
        status: str,
        stored: Mapping[str, Any] | None = None,
    ) -> Command[Any]:
        message = ToolMessage(
            content=content, tool_call_id=runtime.tool_call_id, name=self._name, status=status
        )
        update: dict[str, Any] = {"messages": [message]}
        if stored:
            update["cellblock_stored"] = dict(stored)
        return Command(update=update)


def _command(value: Any) -> Command[Any]:
    command: Command[Any] = value
    return command


@dataclass(eq=False)
class _Paused:
    """A program that runs or waits, from its start to its end."""

    calls: _Calls
    code: str
    questions: list[dict[str, Any]] = field(default_factory=list)
    """Those that were answered."""
    expiry: asyncio.TimerHandle | None = None
    _session: Session | None = None
    _given: dict[str, Any] = field(default_factory=dict)
    _ending: asyncio.Task[None] | None = None

    async def start(self, middleware: CodeCellsMiddleware, runtime: ToolRuntime[Any, Any]) -> None:
        self._given = dict(runtime.state.get("cellblock_stored") or {})
        self._session = Session(
            self.calls.tools(middleware._callable(runtime.tools)),
            limits=middleware._limits,
            stored=self._given,
            host=middleware._host,
        )
        # One that waits may be forgotten; its host is told all the same.
        self._session.warns_when_unclosed = False
        self.calls.program = Program()
        self.calls.program.start(self._session.exec(self.code))

    async def resumed(self, runtime: ToolRuntime[Any, Any]) -> None:
        if self.expiry:
            self.expiry.cancel()
        self.calls.runtime = runtime

    async def advance(self) -> Result | str | None:
        """Runs until it ends, or until it waits; an error of the host is its text."""
        try:
            result = await self.calls.program.advance()
        except CellblockError as error:
            await self.end()
            return str(error)
        except BaseException:
            await self.end()
            raise
        if result is not None:
            await self.end()
        return result

    async def decide(self, answer: Any) -> None:
        """Takes the decisions that somebody has made."""
        decisions = list(answer.get("decisions", [])) if isinstance(answer, Mapping) else []
        waiting = self.calls.program.waiting
        if len(decisions) != len(waiting):
            decisions = [{"type": "reject", "message": "there is no decision for each call"}] * len(
                waiting
            )
        by_request = dict(zip(waiting, decisions, strict=True))
        self.calls.program.decide(lambda request: by_request[request])

    async def end(self) -> None:
        if self.expiry:
            self.expiry.cancel()
        self.calls.program.cancel()
        if self._session:
            await self._session.close()

    def forget(self) -> None:
        """Ends it, on the loop where it runs."""
        loop = self.calls.program.loop

        def ending() -> None:
            self._ending = loop.create_task(self.end())

        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(ending)

    def written(self) -> dict[str, Any]:
        """What it has stored."""
        now = dict(self._session.stored) if self._session else {}
        return {key: value for key, value in now.items() if self._given.get(key, ...) != value}


class _Calls:
    """The calls of a program, as the agent makes them."""

    def __init__(self, middleware: CodeCellsMiddleware, runtime: ToolRuntime[Any, Any]) -> None:
        self.program: Program[Mapping[str, Any]]
        """Set when it is started, on the loop where it runs."""
        self.runtime = runtime
        self._interrupt_on = middleware._interrupt_on

    def tools(self, tools: Sequence[BaseTool]) -> list[Tool]:
        return [replace(_described(tool), call=self._caller(tool)) for tool in tools]

    def _caller(self, tool: BaseTool) -> Callable[[Any], Awaitable[Any]]:
        async def call(given: Any) -> Any:
            async def run(number: str) -> Any:
                return await self._call(tool, given, number)

            return await self.program.call(run)

        return call

    async def _call(self, tool: BaseTool, given: Any, number: str) -> Any:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(f"{tool.name} takes an object")
        arguments = dict(given or {})
        call_id = f"{self.runtime.tool_call_id}__{number}"
        config = self._interrupt_on.get(tool.name)
        if config is None:
            return await self._invoke(tool, arguments, call_id)
        decision = await self.program.ask(Request(call_id, tool.name, arguments))
        kind = decision.get("type")
        if kind not in config["allowed_decisions"] and kind != "reject":
            raise PermissionError(f"{tool.name}: the decision {kind!r} is not allowed")
        match kind:
            case "approve":
                return await self._invoke(tool, arguments, call_id)
            case "edit":
                edited = decision["edited_action"]
                if edited.get("name", tool.name) != tool.name:
                    raise PermissionError(f"{tool.name}: a call cannot become one of another tool")
                return await self._invoke(tool, dict(edited["args"]), call_id)
            case "respond":
                return decision["message"]
            case _:
                raise PermissionError(
                    f"{tool.name}: {decision.get('message') or 'somebody rejected the call'}"
                )

    async def _invoke(self, tool: BaseTool, arguments: dict[str, Any], call_id: str) -> Any:
        runtime = replace(self.runtime, tool_call_id=call_id)
        call: Any = {"name": tool.name, "args": arguments, "id": call_id, "type": "tool_call"}
        # What the framework injects is not for programs to give.
        injected = ToolNode([tool])._inject_tool_args(call, runtime, tool)
        try:
            output = await tool.arun(
                injected["args"],
                callbacks=runtime.config.get("callbacks"),
                config=runtime.config,
                tool_call_id=call_id if _wants_call_id(tool) else None,
            )
        except GraphBubbleUp:
            raise RuntimeError(
                f"{tool.name} asks somebody, and programs cannot wait for that"
            ) from None
        if isinstance(output, Command):
            raise RuntimeError(f"{tool.name} changes the agent's state, which programs cannot")
        if isinstance(output, ToolMessage):
            if output.status == "error":
                raise RuntimeError(str(output.content))
            return output.content
        return output


def _wants_call_id(tool: BaseTool) -> bool:
    schema = tool.get_input_schema()
    fields = getattr(schema, "model_fields", {}).values()
    return any(
        isinstance(each, InjectedToolCallId) or each is InjectedToolCallId
        for field in fields
        for each in field.metadata
    )


def _described(tool: BaseTool) -> Tool:
    """What models read about a tool."""
    function = convert_to_openai_tool(tool)["function"]
    return Tool(tool.name, tool.description, function.get("parameters"), lambda _: None)
