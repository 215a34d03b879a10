"""How a model is served: which engine, in which formats, how long a context, how many at a time."""

from __future__ import annotations

from dataclasses import dataclass

from thinksmith.errors import UserError

MOST = 10**9  # tokens, and requests at a time: more is a slip of the finger


@dataclass(frozen=True, slots=True)
class Serving:
    """How a model is served. `format` of the weights (`published`: as they are), `kv_format` of keys and values.

    `context`: tokens of one sequence, its prompt and what it thinks and answers. `batch`: sequences at a time.
    `prompt`: tokens of each one's prompt, at most `context`; only the local engine's need depends on it. `filtered`:
    tokens are drawn with top-k or top-p, as the makers of most reasoning models recommend. `group`: sequences that have
    one prompt, of which the local engine keeps it once.
    Raises UserError for numbers that mean nothing.
    """

    engine: str = "local"
    format: str = "published"
    kv_format: str = "bf16"
    context: int = 8192
    batch: int = 1
    prompt: int = 512
    filtered: bool = True
    group: int = 1

    def __post_init__(self) -> None:
        for name in ("context", "batch", "prompt", "group"):
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MOST:
                raise UserError(f"{name} must be a whole number between 1 and {MOST}, not {str(number)[:40]}")
        for name, word in (("engine", self.engine), ("format", self.format), ("kv_format", self.kv_format)):
            if not isinstance(word, str):
                raise UserError(f"{name} must be a name, not {str(word)[:40]}")

    @property
    def prompts(self) -> int:
        """How many different prompts there are at a time."""
        return -(-self.batch // self.group)
