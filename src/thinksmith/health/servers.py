"""Asks a port of this machine which model server answers there, and believes nothing that it says.

Whatever listens may be slow, endless or hostile: an answer is cut at a size, all of it at a deadline, redirects are not
followed, compressed answers not unpacked, and what is shown of it is plain text.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thinksmith.health.finding import plain

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 2**20
"""Of an answer; a list of models is some kilobytes."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, and for everything that is asked of one port."""

    connect: float = 0.5
    whole: float = 1.5


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What answers at `base`, such as `http://127.0.0.1:11434`. `server`: its name, empty if it is none that we know;
    `seconds`: until its list of models was there. `trouble`: why it is of no use, empty if it is of use.
    `hangs`: it took the connection and said nothing; `silent`: nothing listens there."""

    base: str
    server: str = ""
    version: str = ""
    models: tuple[str, ...] = ()
    seconds: float = 0.0
    trouble: str = ""
    hangs: bool = False
    silent: bool = False


@dataclass(frozen=True, slots=True)
class _Sign:
    """A path that one server has: the text at `field` of its answer is the version, if the server has one to tell."""

    server: str
    path: str
    field: str


_NIM = _Sign("NIM", "/v1/version", "release")
# Who owns the models, as `/v1/models` says, is the server's own name with these:
# vLLM (vllm/entrypoints/openai), SGLang (sglang/srt/entrypoints/openai/protocol.py), llama.cpp (tools/server).
_OWNERS = {"vllm": "vLLM", "sglang": "SGLang", "llamacpp": "llama.cpp"}
# NIM is served by vLLM and has a path of its own (docs.nvidia.com/nim: API reference, management endpoints).
_SIGNS = {
    "vllm": (_NIM, _Sign("vLLM", "/version", "version")),
    "sglang": (_Sign("SGLang", "/server_info", "version"), _Sign("SGLang", "/get_server_info", "version")),
    "llamacpp": (_Sign("llama.cpp", "/props", "build_info"),),
}
# With others the owner is whoever made the model. docs.ollama.com/api, lmstudio.ai/docs/developer/rest.
_OTHERS = (_Sign("Ollama", "/api/version", "version"), _NIM, _Sign("LM Studio", "/api/v0/models", "data"))


class _Unusable(Exception):
    """What came is no answer of a model server; the message says why."""


def look(bases: Sequence[str], patience: Patience | None = None) -> list[Endpoint]:
    """What answers at each address, all asked at once. Never raises for what they answer."""
    return asyncio.run(_look_everywhere(bases, patience or Patience()))


async def _look_everywhere(bases: Sequence[str], patience: Patience) -> list[Endpoint]:
    import httpx

    async with httpx.AsyncClient(
        trust_env=False,  # no proxy between us and ourselves
        verify=False,  # all addresses are plain http: do not load certificates
        timeout=httpx.Timeout(patience.whole, connect=patience.connect),
        headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "thinksmith-doctor"},
    ) as client:
        return await asyncio.gather(*(_look(client, base, patience.whole) for base in bases))


async def _look(client: httpx.AsyncClient, base: str, seconds: float) -> Endpoint:
    import httpx

    began = time.monotonic()
    try:
        async with asyncio.timeout(seconds):
            models, owner = _models(await _get(client, base + "/v1/models"))
    except (httpx.ConnectError, httpx.ConnectTimeout):
        return Endpoint(base, silent=True)
    except (TimeoutError, httpx.TimeoutException):
        return Endpoint(base, trouble=f"takes a connection and does not answer within {seconds:g} s", hangs=True)
    except _Unusable as error:
        return Endpoint(base, trouble=str(error))
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError) as error:
        return Endpoint(base, trouble=f"does not speak HTTP ({plain(str(error), 60) or type(error).__name__})")
    took = time.monotonic() - began
    server, version = await _who(client, base, owner, began + seconds)
    return Endpoint(base, server, version, models, took)


async def _get(client: httpx.AsyncClient, url: str) -> Any:
    """The JSON at an address. Raises _Unusable for anything else, and what httpx raises."""
    async with client.stream("GET", url) as response:
        if response.is_redirect:
            raise _Unusable(f"redirects to {plain(response.headers.get('location', 'nowhere'), 60)}: not followed")
        if response.status_code in (401, 403):
            raise _Unusable(f"asks for a key (HTTP {response.status_code})")
        if response.status_code != 200:
            raise _Unusable(f"is no model server, or is not ready (HTTP {response.status_code})")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise _Unusable("answers compressed, which it was not asked for")
        held = bytearray()
        async for chunk in response.aiter_raw():
            held += chunk
            if len(held) > MOST_BYTES:
                raise _Unusable(f"answers more than {MOST_BYTES:,} bytes")
    try:
        return json.loads(held)
    except (ValueError, RecursionError):  # not JSON, not Unicode, numbers without end, nested without end
        raise _Unusable("is no model server: its list of models is not JSON") from None


def _models(answer: Any) -> tuple[tuple[str, ...], str]:
    """The models' names, and who owns them. Ollama writes null for none."""
    listed = answer.get("data") if isinstance(answer, Mapping) and "data" in answer else answer
    if listed is None and isinstance(answer, Mapping) and "data" in answer:
        return (), ""
    if not isinstance(listed, list):
        raise _Unusable("is no model server: its answer is no list of models")
    found = [item for item in listed if isinstance(item, Mapping) and isinstance(item.get("id"), str)]
    if listed and not found:
        raise _Unusable("is no model server: its list names no models")
    owner = found[0].get("owned_by") if found else ""
    return tuple(plain(item["id"], 80) for item in found), owner if isinstance(owner, str) else ""


async def _who(client: httpx.AsyncClient, base: str, owner: str, deadline: float) -> tuple[str, str]:
    """The server's name and version, each empty if it cannot be told before the deadline."""
    signs = _SIGNS.get(owner, _OTHERS)
    for sign, answer in zip(
        signs, await asyncio.gather(*(_quietly(client, base + sign.path, deadline) for sign in signs)), strict=True
    ):
        told = answer.get(sign.field) if isinstance(answer, Mapping) else None
        if isinstance(told, str) and told:
            return sign.server, plain(told, 40)
        if isinstance(told, list) and all(isinstance(item, Mapping) and "type" in item for item in told):
            return sign.server, ""
    return _OWNERS.get(owner, ""), ""


async def _quietly(client: httpx.AsyncClient, url: str, deadline: float) -> Any:
    """The JSON at an address, None if there is none in time."""
    import httpx

    try:
        async with asyncio.timeout(deadline - time.monotonic()):
            return await _get(client, url)
    except (TimeoutError, _Unusable, httpx.HTTPError, httpx.StreamError, OSError, ValueError):
        return None
