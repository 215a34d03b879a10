"""Model servers on this machine: which answer, with which models. Nobody else's machine is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from thinksmith.health.finding import Finding, plain
from thinksmith.health.servers import Endpoint, Patience, look

PORTS = {11434: "Ollama", 8000: "vLLM, NIM", 30000: "SGLang", 8080: "llama.cpp", 1234: "LM Studio"}
"""Where servers listen if nobody told them otherwise."""

_SHOWN = 3  # models named of each server


@dataclass(frozen=True, slots=True)
class Candidates:
    """Addresses on loopback to ask, and what OLLAMA_HOST names if that is not one of them."""

    bases: tuple[str, ...]
    elsewhere: str = ""


def candidates(environment: Mapping[str, str]) -> Candidates:
    """The usual ports; Ollama's where OLLAMA_HOST says, if that is on this machine."""
    usual = [f"http://127.0.0.1:{port}" for port in PORTS]
    told = environment.get("OLLAMA_HOST", "").strip().strip("\"'").strip()
    ollama = _ollama(told) if told else usual[0]
    if ollama is None:
        return Candidates(tuple(usual), plain(told, 80))
    return Candidates(tuple(dict.fromkeys((ollama, *usual[1:]))))


def _ollama(told: str) -> str | None:
    """The address that OLLAMA_HOST means, by Ollama's rules (envconfig/config.go); None if it is not on loopback."""
    scheme, separator, rest = told.partition("://") if "://" in told else ("http", "", told)
    port = 80 if separator else 11434
    host = rest.split("/")[0]
    before, colon, after = host.rpartition(":")
    if colon and ("]" not in after) and (":" not in before or before.endswith("]")):
        host = before
        if after.isdecimal() and len(after) < 6 and int(after) < 65536:
            port = int(after)
    host = host.strip("[]")
    if scheme != "http":
        return None
    if host in ("", "localhost"):
        return f"http://127.0.0.1:{port}"
    try:
        address = ip_address(host)
    except ValueError:  # a name: who knows where it leads
        return None
    if address.is_unspecified:  # where a server listens on all addresses, it does on loopback
        address = ip_address("127.0.0.1" if address.version == 4 else "::1")
    if not address.is_loopback:
        return None
    return f"http://{address if address.version == 4 else f'[{address}]'}:{port}"


def findings(asked: Candidates, patience: Patience | None = None) -> list[Finding]:
    """What answered, one finding each, and in one line what did not."""
    found = look(asked.bases, patience)
    listed = [_answering(endpoint) for endpoint in found if not endpoint.silent]
    if asked.elsewhere:
        value = f"{asked.elsewhere}: not asked, it is not on this machine's loopback"
        listed.append(Finding("endpoints", "OLLAMA_HOST", value))
    if silent := [endpoint.base.removeprefix("http://") for endpoint in found if endpoint.silent]:
        listed.append(Finding("endpoints", "silent", ", ".join(silent)))
    return listed


def _answering(endpoint: Endpoint) -> Finding:
    name = endpoint.base.removeprefix("http://")
    if endpoint.trouble:
        if not endpoint.hangs:  # another kind of server, most likely: no concern of ours
            return Finding("endpoints", name, endpoint.trouble)
        usual = PORTS.get(int(name.rpartition(":")[2]), "a model server")
        return Finding("endpoints", name, endpoint.trouble, "note", f"restart it, if it is meant to be {usual}")
    server = " ".join(filter(None, (endpoint.server or "an OpenAI-compatible server", endpoint.version)))
    value = f"{server}, {_models(endpoint.models)} ({endpoint.seconds * 1000:.0f} ms)"
    if not endpoint.models:
        remedy = "ollama pull NAME" if endpoint.server == "Ollama" else "load a model in it"
        return Finding("endpoints", name, value, "note", remedy)
    return Finding("endpoints", name, value)


def _models(names: tuple[str, ...]) -> str:
    if not names:
        return "no models"
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
