"""`thinksmith serve MODEL …`: OpenAI's and Ollama's APIs over models and strategies."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

_PORT = 8383


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Models, or strategies over them: tiny:vote@8. [default: as thinksmith models says]",
        ),
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; beyond loopback needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="0 takes a free one.")] = _PORT,
    token_file: Annotated[
        str, typer.Option(metavar="FILE", help="The token that clients send. [default: THINKSMITH_SERVE_TOKEN, if set]")
    ] = "",
    public: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL", help="Another address of it, such as https://chat.example.org; may be given again."
        ),
    ] = None,
    at_once: Annotated[int, typer.Option(min=1, metavar="N", help="Completions that a model makes at one time.")] = 256,
    queue: Annotated[int, typer.Option(min=0, metavar="N", help="Requests that may wait; past it: 429.")] = 256,
    grace: Annotated[float, typer.Option(min=0, metavar="S", help="Seconds for what runs at the end.")] = 120,
    max_body: Annotated[int, typer.Option(min=1, metavar="KIB", help="Longest body of a request.")] = 4096,
    max_n: Annotated[int, typer.Option(min=1, metavar="N", help="Most completions of a request.")] = 128,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda; of models in this process.")] = "",
    quantize: Annotated[str, typer.Option(metavar="KIND", help="int8 or int4; of models in this process.")] = "",
    save: Annotated[bool, typer.Option("--save", help="Keep what is answered in the store.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No line for each request.")] = False,
) -> None:
    """Serve models to OpenAI's and Ollama's clients, and a page to talk with them at /. Ctrl-C ends it."""
    from thinksmith.errors import UserError

    try:
        import httptools  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install 'thinksmith[serve]'") from None
    from thinksmith.engines.remote.settings import default_model
    from thinksmith.serve.server import address_of, bind, run, token_of

    token = token_of(token_file, os.environ)
    addresses = tuple(_checked(each) for each in public or ())
    listening = bind(host, port, token)
    with listening:
        from thinksmith.serve.answering import Limits
        from thinksmith.serve.app import create_app
        from thinksmith.serve.guard import Rules
        from thinksmith.serve.models import Shelf

        options = {name: value for name, value in (("device", device), ("quantize", quantize)) if value}
        names = list(dict.fromkeys(models or [default_model(os.environ)]))
        shelf = Shelf.open(names, places=at_once, queue=queue, **options)
        app = create_app(
            shelf,
            rules=Rules(token, addresses),
            limits=Limits(body=max_body << 10, n=max_n),
            saver=_saver() if save else None,
            log=None if quiet else _tell,
        )
        where = address_of(listening)
        listed = ", ".join(about.name for about in shelf.listed)
        _tell(f"serving {listed} at {where}/v1 (OpenAI) and {where} (Ollama); Ctrl-C stops")
        if token and sys.stderr.isatty():  # not into a journal
            _tell(f"the page: {where}/#token={token}")
        run(app, listening, grace)
    _tell("stopped")


def _tell(line: str) -> None:
    print(f"thinksmith: {line}", file=sys.stderr, flush=True)


def _checked(address: str) -> str:
    from urllib.parse import urlsplit

    from thinksmith.errors import UserError

    try:
        parts = urlsplit(address)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and not parts.query
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"--public {address}: write an address without a path, such as https://chat.example.org")
    return address.rstrip("/")


def _saver() -> Any:
    from thinksmith.serve.saving import Saver
    from thinksmith.store.store import Store

    told: set[str] = set()

    def complain(why: str) -> None:
        if why not in told:
            told.add(why)
            _tell(f"--save: {why}")

    return Saver(Store.open(), complain)
