"""Which models can be named here: embedded, in Hugging Face's cache on this disk, served by endpoints on this machine.

Nobody else's machine is asked, and what a server says of itself is shown as plain text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from thinksmith import models
from thinksmith.health.endpoints import candidates
from thinksmith.health.finding import plain
from thinksmith.health.servers import Patience, look

KINDS = {
    "Ollama": "ollama",
    "vLLM": "vllm",
    "NIM": "nim",
    "SGLang": "sglang",
    "llama.cpp": "llamacpp",
    "LM Studio": "lmstudio",
}
"""What a server calls itself → how its models' names begin."""
MOST = 200  # models shown of one place: a router may serve thousands


@dataclass(frozen=True, slots=True)
class Listed:
    """A model by the `name` that every command takes. `size` in bytes, 0 if unknown."""

    name: str
    where: Literal["embedded", "cache", "endpoint"]
    size: int = 0
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def models_here(
    environment: Mapping[str, str], *, endpoints: bool = True, patience: Patience | None = None
) -> list[Listed]:
    """All of them, in that order."""
    return [*_embedded(), *_cached(), *(_served(environment, patience) if endpoints else [])]


def _embedded() -> list[Listed]:
    details = {
        "tiny": "thinks about small arithmetic, equations and countdown",
        "tiny-base": "what quickstart trains",
        "tiny-tools": "knows when to call a calculator: for thinksmith agent",
    }
    return [Listed(name, "embedded", _bytes(models.path(name)), details[name]) for name in models.EMBEDDED]


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def _cached() -> list[Listed]:
    """Models with weights in the cache of Hugging Face's hub: those that load without the network."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        found = scan_cache_dir()
    except (CacheNotFound, OSError, ValueError):
        return []
    listed = []
    for repo in sorted(found.repos, key=lambda repo: repo.repo_id):
        architecture = next((_architecture(revision.snapshot_path) for revision in repo.revisions), "")
        if repo.repo_type == "model" and architecture:
            listed.append(Listed(plain(repo.repo_id, 120), "cache", repo.size_on_disk, architecture))
    return listed[:MOST]


def _architecture(folder: Path) -> str:
    """What a folder's config says that generates text; empty for anything else."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (name,) = config.get("architectures") or [""]
    except (OSError, ValueError, AttributeError, TypeError):
        return ""
    weights = any(folder.glob("*.safetensors")) or any(folder.glob("*.bin"))
    return plain(str(name), 60) if weights and str(name).endswith("ForCausalLM") else ""


def _served(environment: Mapping[str, str], patience: Patience | None) -> list[Listed]:
    from thinksmith.engines.remote.presets import PRESETS

    listed = []
    for endpoint in look(candidates(environment).bases, patience):
        kind = KINDS.get(endpoint.server, "endpoint")
        usual = PRESETS[kind].url == endpoint.base
        server = " ".join(filter(None, (endpoint.server or "speaks OpenAI's API", endpoint.version)))
        where = "" if usual else f"@{endpoint.base}"
        listed += [Listed(f"{kind}/{model}{where}", "endpoint", 0, server) for model in endpoint.models[:MOST]]
        if len(endpoint.models) > MOST:
            listed.append(Listed(f"{kind}/…", "endpoint", 0, f"{len(endpoint.models) - MOST:,} more"))
    return listed
