"""A tokenizer as GGUF holds it: byte-level BPE, and the name of the rule by which llama.cpp cuts texts before it
merges.

llama.cpp has these rules compiled in (src/llama-vocab.cpp) and knows them by name, so a tokenizer with another rule
would get other ids there: it is refused. The names below are those whose regular expressions are the tokenizers' own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thinksmith.errors import UserError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens (llama.h, llama_token_type)."""
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
RULES = {
    _CONTRACTIONS + r"\p{N}" + _REST: "qwen2",
    _CONTRACTIONS + r"\p{N}{1,3}" + _REST: "llama-bpe",
}
NEAREST = {r"\d|[()]| ?[A-Za-z]+(?: (?=\d))?| ?[^\sA-Za-z\d()]+[ \n]?|\s": "superbpe"}
"""The embedded models' own rule, by which a space may end a word if a digit follows. llama.cpp has none like it."""
THINKING = ("<think>", "</think>", "<thinking>", "</thinking>", "[THINK]", "[/THINK]")


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`tokens` by id, as text in GPT-2's bytes;

    `types` of each; `merges` as "left right"; `rule` by llama.cpp's name.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    rule: str
    note: str = ""


def vocabulary(tokenizer: Any, size: int, name: str) -> Vocabulary:
    """Of a fast tokenizer, for `size` rows of the embedding. Raises UserError for what llama.cpp does not have."""
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    model = data["model"]
    if model.get("type") != "BPE" or model.get("byte_fallback"):
        kind = "SentencePiece's" if model.get("byte_fallback") else model.get("type", "an unknown")
        raise UserError(f"the tokenizer of {name} is {kind}: only byte-level BPE can be converted here")
    rule, note = _rule(data, name)
    tokens = [f"[PAD{index}]" for index in range(size)]
    types = [UNUSED] * size
    for text, index in model["vocab"].items():
        if index < size:
            tokens[index], types[index] = text, NORMAL
    for added in data.get("added_tokens", []):
        if added["id"] < size:
            # A client must see where the thinking ends, and control tokens are not shown.
            shown = not added["special"] or added["content"] in THINKING
            tokens[added["id"]], types[added["id"]] = added["content"], USER_DEFINED if shown else CONTROL
    merges = tuple(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])
    return Vocabulary(tuple(tokens), tuple(types), merges, rule, note)


def _rule(data: Mapping[str, Any], name: str) -> tuple[str, str]:
    steps = data["pre_tokenizer"] or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True) and not steps[0].get("add_prefix_space"):
        return "gpt-2", ""
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits") and steps[1].get("use_regex", True):
        return "smollm", ""
    if (
        kinds == ["Split", "ByteLevel"]
        and steps[0].get("behavior") == "Isolated"
        and not steps[1].get("use_regex", True)
    ):
        pattern = steps[0]["pattern"].get("Regex", "")
        if pattern in RULES and not (data["normalizer"] and RULES[pattern] == "llama-bpe"):
            return RULES[pattern], ""
        if pattern in NEAREST:
            return NEAREST[pattern], (
                f"llama.cpp has no rule like that of {name}'s tokenizer: a word before another word may get other ids"
                " there than here, so its answers to such questions are worse"
            )
    raise UserError(
        f"the tokenizer of {name} cuts texts by a rule that is not among those known here to be llama.cpp's"
        f" ({', '.join(['gpt-2', 'smollm', *RULES.values()])}): its ids would be others there"
    )


def token_id(tokenizer: Any, kind: str) -> int | None:
    """The id of the bos, eos or pad token."""
    found = getattr(tokenizer, f"{kind}_token_id", None)
    return int(found) if isinstance(found, int) else None


def adds_bos(tokenizer: Any) -> bool:
    """Does a text get the bos token before it?"""
    ids = tokenizer("a")["input_ids"]
    return bool(ids) and tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id


def template_of(tokenizer: Any) -> str:
    """The chat template; empty if there is none."""
    found = getattr(tokenizer, "chat_template", None)
    return found if isinstance(found, str) else ""
