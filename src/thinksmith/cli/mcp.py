"""`thinksmith mcp --tools files:./reports,sql:shop.db`: our tools for another program, as an MCP server."""

from __future__ import annotations

from typing import Annotated

import typer


def mcp(
    tools: Annotated[
        list[str], typer.Option("--tools", metavar="TOOLS", help="What to offer: files:./reports,sql:shop.db")
    ],
    yes: Annotated[
        list[str] | None,
        typer.Option("--yes", metavar="NAMES", help="Tools that do more than read and are offered too: files_write"),
    ] = None,
) -> None:
    """Offer tools to another program, as an MCP server over standard input and output.

    Those that read are offered; those that write, run or send only where --yes names them, since nobody is here who
    could be asked.
    """
    import asyncio

    from thinksmith.agent.tools.mcp_server import serve

    names = [name.strip() for text in yes or () for name in text.split(",") if name.strip()]
    asyncio.run(serve(tools, names))
