"""Tools of ours as an MCP server over standard input and output.

Reading tools are always offered, others only where whoever started the server named them: there is nobody here who
could be asked. Results are text; what a tool refuses is an error that the client's model can read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from thinksmith import __version__
from thinksmith.agent.arguments import misfit
from thinksmith.agent.contract import Result, Tool
from thinksmith.agent.making import intended, made
from thinksmith.agent.observing import clean
from thinksmith.agent.opening import open_tools
from thinksmith.agent.tools.mcp_pipes import standard_streams
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean

if TYPE_CHECKING:
    import mcp_types
    from mcp.server.lowlevel import Server

_LARGEST = 1_000_000  # characters of a result


async def serve(specs: Sequence[str], yes: Sequence[str]) -> None:
    """Offer the tools that `specs` name until the client goes. Standard output is the protocol's alone. Raises
    UserError for what cannot be opened or offered."""
    try:
        import mcp.server.lowlevel  # noqa: F401
    except ImportError:
        raise UserError("an MCP server needs the mcp package: pip install 'thinksmith[agent]'") from None
    async with AsyncExitStack() as opened:
        toolsets = await open_tools(specs)
        for toolset in toolsets:
            opened.push_async_callback(toolset.aclose)
        server = mcp_server(offered([tool for toolset in toolsets for tool in toolset.tools], yes))
        async with standard_streams() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())


def offered(tools: Sequence[Tool], yes: Sequence[str]) -> dict[str, Tool]:
    """The tools that a client may call, by name: those that read, and those named in `yes`. Raises UserError for a name
    that no tool has, and where nothing would be left."""
    known = {tool.name: tool for tool in tools}
    for name in yes:
        if name not in known:
            raise UserError(f"--yes {name}: there is no such tool{did_you_mean(name, known)}")
    given = {name: tool for name, tool in known.items() if tool.kind == "read" or name in yes}
    if not given:
        asked = ", ".join(known) or "none"
        raise UserError(f"nothing is offered: tools that do more than read are named by --yes ({asked})")
    return given


def mcp_server(tools: Mapping[str, Tool]) -> Server[Any]:
    """The server, for any transport of the `mcp` package."""
    import mcp_types
    from mcp.server.lowlevel import Server

    async def list_tools(context: Any, params: Any) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(
            tools=[
                mcp_types.Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=dict(tool.parameters),
                    annotations=mcp_types.ToolAnnotations(read_only_hint=tool.kind == "read"),
                )
                for tool in tools.values()
            ]
        )

    async def call_tool(context: Any, params: mcp_types.CallToolRequestParams) -> mcp_types.CallToolResult:
        result = await _called(tools, params.name, params.arguments or {})
        text = clean(result.text)[:_LARGEST]
        return mcp_types.CallToolResult(content=[mcp_types.TextContent(type="text", text=text)], is_error=not result.ok)

    return Server("thinksmith", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


async def _called(tools: Mapping[str, Tool], name: str, arguments: Mapping[str, Any]) -> Result:
    """One call: checked, and made within its time."""
    tool = tools.get(name)
    if tool is None:
        return Result(f"there is no tool {name[:60]!r}; there are: {', '.join(tools)}", ok=False)
    fault = misfit(arguments, tool.parameters)
    if fault:
        return Result(f"{name}: {fault}", ok=False)
    intent, failed = await intended(tool, arguments)
    return failed or (await made(tool, arguments, intent))[0]
