"""How the makers of a model advise to sample it: what its generation_config.json says, or the card of a known model.

Sources, each from the model's card on the hub: DeepSeek-R1 and its distillations ("set the temperature within the range
of 0.5-0.7 (0.6 is recommended) to prevent endless repetitions", top-p 0.95, no system prompt), Qwen3 ("for thinking
mode use Temperature=0.6, TopP=0.95, TopK=20, and MinP=0. DO NOT use greedy decoding"), QwQ-32B (Temperature=0.6,
TopP=0.95, TopK between 20 and 40 "instead of greedy decoding, to avoid endless repetitions").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinksmith.engines.contract import EngineInfo
from thinksmith.records import Sampling

NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""The settings of a `Sampling` that a model's makers advise on."""


@dataclass(frozen=True, slots=True)
class Advice:
    """`settings` are fields of a `Sampling` (none: nothing is advised); `source` says whose they are, for people."""

    settings: Mapping[str, Any]
    source: str = ""


# What stands in a model's name → its card. The first that fits is taken.
_CARDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    (r"deepseek-?r1|r1-distill|(?<![a-z])r1(?=[-:]|$)", "DeepSeek-R1", {"temperature": 0.6, "top_p": 0.95}),
    (r"qwq", "QwQ", {"temperature": 0.6, "top_p": 0.95, "top_k": 40}),
    (r"qwen-?3", "Qwen3", {"temperature": 0.6, "top_p": 0.95, "top_k": 20}),
)


def advice(info: EngineInfo) -> Advice:
    """What is advised for the model of an engine: its own configuration first, then the card that its name fits."""
    plain = Sampling()
    own = {name: getattr(info.sampling, name) for name in NAMES}
    if own != {name: getattr(plain, name) for name in NAMES}:
        return Advice(
            {name: value for name, value in own.items() if value != getattr(plain, name) or name == NAMES[0]},
            "the model's own",
        )
    known = card_of(info.name)
    return Advice(known[1], f"the card of {known[0]}") if known else Advice({})


def advised(info: EngineInfo, given: Mapping[str, Any]) -> Sampling:
    """Sampling as the makers of an engine's model advise, else at temperature 1; what is `given` (None: it is not)
    goes before."""
    told = {name: value for name, value in given.items() if value is not None}
    return Sampling(**{"temperature": 1.0, **advice(info).settings, **told})


def card_of(model: str) -> tuple[str, dict[str, Any]] | None:
    """The card that a model's name fits, with its name; None for a model that is not known."""
    for pattern, name, settings in _CARDS:
        if re.search(pattern, model.casefold()):
            return name, settings
    return None


def greedy_forbidden(model: str, advised: Sampling | None = None) -> str:
    """Who advises against temperature 0, for people; "" if nobody is known to."""
    known = card_of(model)
    if known:
        return f"the card of {known[0]}"
    return "the model's generation_config" if advised and advised.temperature > 0 and advised != Sampling() else ""
