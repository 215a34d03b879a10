"""From a model's name to the endpoint that serves it: `ollama/deepseek-r1:7b`, `vllm/Qwen/Qwen3-8B@http://box:8000`.

A name is KIND/MODEL, with @URL where the server is not at the usual address, and ?KEY=VALUE&… for what is asked of it
otherwise than by default: `think` (on, off, low, medium, high), `history` (none, tool_loop, all), `stream` (on, off).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from thinksmith.engines.remote.presets import PRESETS, History, Preset
from thinksmith.engines.remote.settings import Own, Settings
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean

EFFORTS = ("minimal", "low", "medium", "high", "max")
_URL = re.compile(r"@(?=[a-zA-Z][a-zA-Z0-9+.-]*://|\[[0-9a-fA-F:]+\]|[^@/\s]+:[0-9]{1,5}(?:/|$)|localhost(?:/|$))")
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A model behind an address. `base` has no slash at its end and no `/v1`. The `key` is never shown.

    `kind` is the preset's, or the user's own name. `think`: None leaves it to the model, `effort` is a level.
    """

    kind: str
    model: str
    base: str
    preset: Preset
    key: str = field(default="", repr=False)
    usual: str = ""
    think: bool | None = None
    effort: str = ""
    history: History = "none"
    streamed: bool = True
    tokenizer: str = ""
    asked: str = ""

    @property
    def name(self) -> str:
        """By which it can be opened again."""
        where = "" if self.base == self.usual else f"@{self.base}"
        return f"{self.kind}/{self.model}{where}{self.asked}"

    @property
    def local(self) -> bool:
        """Is it on this machine?"""
        return _is_near(urlsplit(self.base).hostname or "", loopback=True)


def is_remote(name: str, settings: Settings) -> bool:
    """Does a model's name mean an endpoint?"""
    kind, slash, _ = name.partition("/")
    return bool(slash) and (kind in PRESETS or kind in settings.endpoints)


def endpoint(name: str, environment: Mapping[str, str], settings: Settings | None = None) -> Endpoint:
    """The endpoint of a name.

    Raises UserError for a name, an address or a missing key with which nothing can be done.
    """
    settings = settings or Settings()
    kind, _, rest = name.partition("/")
    own = settings.endpoints.get(kind)
    preset = PRESETS.get(own.kind if own else kind)
    if preset is None or len(name) > _LONGEST:
        known = [*PRESETS, *settings.endpoints]
        raise UserError(f"no kind of endpoint {kind[:40]!r}{did_you_mean(kind, known, otherwise=f'; known: {known}')}")
    rest, question, options = rest.partition("?")
    model, url = _model_and_url(rest)
    if not model:
        raise UserError(f"{kind}/ names no model: write {kind}/MODEL; thinksmith models lists what is served here")
    usual = base_of((own.url if own else "") or _usual(preset, environment), preset) if not url or own else preset.url
    if not url and not usual:
        raise UserError(f"{kind}/{model} has no address: write {kind}/{model}@http://HOST:PORT")
    base = base_of(url, preset) if url else usual
    if preset.kind == "openai" and base != preset.url:  # what others offer under OpenAI's name is its older API
        preset = replace(
            PRESETS["endpoint"], kind="openai", url=preset.url, key_variable=preset.key_variable, needs_key=True
        )
    found = Endpoint(kind, model, base, preset, _key(preset, own, base, environment), usual=usual)
    found = replace(found, history=(own and own.history) or preset.history, tokenizer=own.tokenizer if own else "")
    found = replace(found, asked=question + options, **_options(options, name)) if options else found
    return found


def _model_and_url(rest: str) -> tuple[str, str]:
    """A model's name may have an @ of its own (a revision): the address is what looks like one."""
    found = [match.start() for match in _URL.finditer(rest)]
    written_out = [at for at in found if re.match(r"@[a-zA-Z][a-zA-Z0-9+.-]*://", rest[at:])]
    at = written_out[0] if written_out else found[-1] if found else len(rest)
    return rest[:at], rest[at + 1 :]


def _usual(preset: Preset, environment: Mapping[str, str]) -> str:
    """OLLAMA_HOST is where its server listens too: all addresses (0.0.0.0) are then reached by this machine's own."""
    told = environment.get("OLLAMA_HOST", "").strip().strip("\"'") if preset.kind == "ollama" else ""
    if not told:
        return preset.url
    scheme, separator, host = told.rpartition("://")
    host = re.sub(r"^(0\.0\.0\.0|\[::\])(?=[:/]|$)", "127.0.0.1", host)
    host = f"127.0.0.1{host}" if host.startswith(":") else host
    bare = host.split("/")[0]
    if not separator and not re.search(r":[0-9]+$", bare):
        host = host.replace(bare, f"{bare}:11434", 1)
    return f"{scheme or 'http'}://{host}"


def base_of(url: str, preset: Preset) -> str:
    """An address as `http://host:port`, without the path of the API. Raises UserError."""
    if not url:
        return ""
    if "://" not in url:
        host = urlsplit(f"//{url}").hostname or ""
        url = f"{'http' if _is_near(host) else 'https'}://{url}"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UserError(f"{url[:100]!r} is no address: write http://HOST:PORT") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url[:100]!r} is no address: write http://HOST:PORT or https://HOST")
    if parts.username or parts.password:
        raise UserError(f"a key does not belong into an address: set {preset.key_variable or 'its variable'} instead")
    if parts.query or parts.fragment:
        raise UserError(f"{url[:100]!r} has more than an address: leave out what comes after the path")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    for known in (preset.path, "/v1", "/api"):
        if known and path.endswith(known):
            path = path.removesuffix(known)
            break
    return f"{parts.scheme}://{host}{f':{port}' if port else ''}{path}"


def _is_near(host: str, *, loopback: bool = False) -> bool:
    """Is it this machine, or (unless `loopback`) one of its own network?"""
    if host == "localhost" or (not loopback and ("." not in host or host.endswith((".local", ".lan", ".internal")))):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or (not loopback and address.is_private)


def _key(preset: Preset, own: Own | None, base: str, environment: Mapping[str, str]) -> str:
    """The key from the environment. A preset's own variable is for the preset's own address, or for one nearby: the key
    of one provider is not sent to another because a name says so."""
    variable = (own and own.key_variable) or preset.key_variable
    key = environment.get(variable, "").strip() if variable else ""
    host = urlsplit(base).hostname or ""
    if preset.needs_key and not key and not _is_near(host):
        raise UserError(f"{preset.kind} needs a key: set {variable} to it")
    if not key:
        return ""
    if any(ord(letter) < 33 or ord(letter) > 126 for letter in key):
        raise UserError(f"{variable} holds no key: it has spaces or letters that no header can carry")
    if base.startswith("http://") and not _is_near(host):
        raise UserError(
            f"{host} is asked without encryption, so that everyone on the way could read {variable}: use https"
        )
    if preset.needs_key and not own and host != urlsplit(preset.url).hostname:
        if _is_near(host):
            return ""
        raise UserError(f"{variable} is for {preset.url} alone: for another address write endpoint/MODEL@URL")
    return key


def _options(text: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pair in text.split("&"):
        key, _, value = pair.partition("=")
        if key == "think" and value in ("on", "off"):
            found["think"] = value == "on"
        elif key == "think" and value in EFFORTS:
            found["effort"], found["think"] = value, True
        elif key == "history" and value in ("none", "tool_loop", "all"):
            found["history"] = value
        elif key == "stream" and value in ("on", "off"):
            found["streamed"] = value == "on"
        else:
            raise UserError(
                f"{name[:100]}: {pair[:40]!r} is not known: think=on|off|{'|'.join(EFFORTS)},"
                " history=none|tool_loop|all, stream=on|off"
            )
    return found
