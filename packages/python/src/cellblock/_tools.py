"""Tools that programs may call: functions, with names and schemas from their signatures."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import docstring_parser
from pydantic import ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError
from typing_extensions import NotRequired, TypedDict

from . import _threads
from ._errors import NotJsonError, ToolDefinitionError
from ._json import clean, encode

_MAX_ERROR_BYTES = 64 << 10
"""Bytes of an error's text that reach a program."""

_SHOWN_ERRORS = 5
"""Wrong arguments that an error lists."""


@dataclass(frozen=True)
class Tool:
    """A tool that programs may call, as `tools.NAME(input)`.

    A plain function is made into one with `Tool.from_function`, which is also what a
    `Session` does with functions. This class is for tools that have a JSON Schema.
    """

    name: str
    """What programs call it; characters that no identifier has become `_`."""
    description: str
    """What models read about it, and programs find in `ALL_TOOLS`."""
    input_schema: Mapping[str, Any] | None
    """JSON Schema of the input, for descriptions."""
    call: Callable[[Any], Any]
    """Takes the input, as the program gave it, and returns the result, or an awaitable of it.
    One that is not a coroutine function runs in a thread."""
    output_schema: Mapping[str, Any] | None = None
    """JSON Schema of the result, for descriptions."""

    @classmethod
    def from_function(
        cls,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
    ) -> Tool:
        """A function as a tool whose input is an object with a member for each parameter.

        The function's name, docstring and annotations say the rest. Arguments are validated
        with pydantic before it is called, and may be of any type that pydantic knows.

        Raises:
            ToolDefinitionError: It has `*args` or `**kwargs`, or a type without a schema.
        """
        shown = name or getattr(function, "__name__", None) or type(function).__name__
        parameters = _parameters(function, shown)
        documented = docstring_parser.parse(inspect.getdoc(function) or "")
        described = {each.arg_name: each.description for each in documented.params}
        adapter = _adapter(shown, parameters, described)
        schema = adapter.json_schema()
        for parameter, (_, default) in parameters.items():
            if default is not inspect.Parameter.empty:
                try:
                    encode(default)
                except NotJsonError:
                    continue
                schema["properties"][parameter]["default"] = default
        about = description if description is not None else _about(documented)
        call = _validated(shown, function, adapter)
        return cls(shown, about, schema, call, _output_schema(function))

    @property
    def identifier(self) -> str:
        """The name as a member of `tools`."""
        return re.sub(r"^[0-9]|[^A-Za-z0-9_$]", "_", self.name) or "_"

    def definition(self) -> dict[str, Any]:
        """The tool as hosts know it."""
        return {
            "name": clean(self.name),
            "tool_name": {"name": clean(self.name), "namespace": None},
            "description": clean(self.description),
            "kind": "function",
            "input_schema": self.input_schema,
            "output_schema": self.output_schema,
        }


class Toolbox:
    """The tools of a program."""

    def __init__(self, tools: Mapping[str, ToolLike] | Iterable[ToolLike]) -> None:
        self._tools: dict[str, Tool] = {}
        identifiers: dict[str, str] = {}
        for tool in _listed(tools):
            other = identifiers.setdefault(tool.identifier, tool.name)
            if tool.name in self._tools or other != tool.name:
                raise ToolDefinitionError(
                    f"the tools {other!r} and {tool.name!r} would both be tools.{tool.identifier}"
                )
            self._tools[tool.name] = tool
        self.definitions = [tool.definition() for tool in self._tools.values()]
        try:
            encode(self.definitions, "the tools")
        except NotJsonError as error:
            raise ToolDefinitionError(str(error)) from None

    def __iter__(self) -> typing.Iterator[Tool]:
        return iter(self._tools.values())

    def has(self, name: str) -> bool:
        """Whether it is one of them."""
        return name in self._tools

    async def call(self, name: str, given: Any) -> str:
        """Calls a tool; returns its result as JSON text."""
        tool = self._tools.get(name)
        if tool is None:
            raise LookupError(f"there is no tool {name}")
        if is_async(tool.call):
            result = await tool.call(given)
        else:
            result = await _threads.call(tool.call, given)
            if inspect.isawaitable(result):
                result = await result
        return encode(result, f"the result of {name}")


ToolLike = Tool | Callable[..., Any]
"""What a session takes as a tool."""


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it makes a coroutine and blocks nobody."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004
    )


def message_of(error: BaseException) -> str:
    """What a program is sent of a tool's exception: its message, and nothing of this process."""
    try:
        text = str(error) or type(error).__name__
    except Exception:
        text = type(error).__name__
    text = clean(text)
    encoded = text.encode("utf-8")
    if len(encoded) > _MAX_ERROR_BYTES:
        text = encoded[:_MAX_ERROR_BYTES].decode("utf-8", "ignore") + " ... [cut]"
    return text


def _listed(tools: Mapping[str, ToolLike] | Iterable[ToolLike]) -> Iterable[Tool]:
    if isinstance(tools, Mapping):
        named: Iterable[tuple[str | None, ToolLike]] = tools.items()
    else:
        named = [(None, tool) for tool in tools]
    for name, tool in named:
        if isinstance(tool, Tool):
            yield tool if name is None else dataclasses.replace(tool, name=name)
        elif callable(tool):
            yield Tool.from_function(tool, name=name)
        else:
            raise ToolDefinitionError(f"a tool is a function or a Tool, not {type(tool).__name__}")


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if not (inspect.isroutine(target) or inspect.isclass(target)):
        target = type(target).__call__
    return typing.get_type_hints(target, include_extras=True)


def _parameters(function: Callable[..., Any], name: str) -> dict[str, tuple[Any, Any]]:
    """Type and default of each parameter."""
    try:
        signature = inspect.signature(function)
        hints = _hints(function)
    except (NameError, TypeError, ValueError) as error:
        raise ToolDefinitionError(f"{name}: its signature cannot be read: {error}") from None
    parameters = {}
    for parameter in signature.parameters.values():
        if parameter.kind not in (
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.KEYWORD_ONLY,
        ):
            raise ToolDefinitionError(
                f"{name}: the parameter {parameter} cannot be given by name; "
                "give the tool named parameters, or use Tool with a schema"
            )
        parameters[parameter.name] = (hints.get(parameter.name, Any), parameter.default)
    return parameters


def _adapter(
    name: str, parameters: Mapping[str, tuple[Any, Any]], described: Mapping[str, str | None]
) -> TypeAdapter[dict[str, Any]]:
    """What validates an input."""
    fields: dict[str, Any] = {}
    for parameter, (hint, default) in parameters.items():
        about = described.get(parameter)
        kind = Annotated[hint, Field(description=about)] if about else hint
        fields[parameter] = kind if default is inspect.Parameter.empty else NotRequired[kind]
    # Made at run time, which type checkers know nothing of.
    make: Any = TypedDict
    arguments: Any = make(name, fields)
    arguments.__pydantic_config__ = ConfigDict(extra="forbid")
    try:
        return TypeAdapter(arguments)
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        why = str(error).split("\n")[0]
        raise ToolDefinitionError(f"{name}: {why}") from None


def _validated(
    name: str, function: Callable[..., Any], adapter: TypeAdapter[dict[str, Any]]
) -> Callable[[Any], Any]:
    """The function, taking an input."""

    def arguments(given: Any) -> dict[str, Any]:
        try:
            return adapter.validate_python({} if given is None else given)
        except ValidationError as error:
            raise ValueError(f"{name}: {_wrong(error)}") from None

    if is_async(function):

        async def call_async(given: Any) -> Any:
            return await function(**arguments(given))

        return call_async
    return lambda given: function(**arguments(given))


def _wrong(error: ValidationError) -> str:
    """What is wrong with an input, for the author of the program."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        f"{'.'.join(str(part) for part in each['loc']) or 'the input'}: {each['msg']}"
        for each in errors[:_SHOWN_ERRORS]
    ]
    if len(errors) > _SHOWN_ERRORS:
        lines.append(f"and {len(errors) - _SHOWN_ERRORS} more")
    return "wrong arguments: " + "; ".join(lines)


def _about(documented: docstring_parser.Docstring) -> str:
    parts = [documented.short_description, documented.long_description]
    return "\n\n".join(part for part in parts if part)


def _output_schema(function: Callable[..., Any]) -> dict[str, Any] | None:
    try:
        hint = _hints(function).get("return", Any)
        if hint is Any:
            return None
        return TypeAdapter(hint).json_schema(mode="serialization")
    except Exception:
        # A result of any type is checked when it is there.
        return None
