"""Runs JavaScript that models write, in a sandbox with limits that hold.

```python
from cellblock import Session

async with Session(tools=[get_price]) as session:
    result = await session.exec("text(await tools.get_price({ item: 'apple' }))")
    print(result.text)
```

docs/python.md of the project is the guide. Integrations are modules of their own:
`cellblock.pydantic_ai`, `cellblock.langchain`, `cellblock.fastmcp`, `cellblock.openai_agents`.
"""

from ._errors import (
    BusyError,
    CellblockError,
    CellNotFoundError,
    HostLostError,
    HostUnavailableError,
    InvalidRequestError,
    LimitError,
    NotJsonError,
    ParkError,
    ProgramError,
    RefusedError,
    SessionClosedError,
    StaleCellError,
    TerminatedError,
    ToolDefinitionError,
)
from ._host import Host
from ._limits import Limits
from ._result import Audio, Call, Image, Result, Text, Usage
from ._session import Language, Session
from ._stored import StoredValues
from ._tools import Tool, ToolLike

__all__ = [
    "Audio",
    "BusyError",
    "Call",
    "CellNotFoundError",
    "CellblockError",
    "Host",
    "HostLostError",
    "HostUnavailableError",
    "Image",
    "InvalidRequestError",
    "Language",
    "LimitError",
    "Limits",
    "NotJsonError",
    "ParkError",
    "ProgramError",
    "RefusedError",
    "Result",
    "Session",
    "SessionClosedError",
    "StaleCellError",
    "StoredValues",
    "TerminatedError",
    "Text",
    "Tool",
    "ToolDefinitionError",
    "ToolLike",
    "Usage",
]

__version__ = "0.1.0"
