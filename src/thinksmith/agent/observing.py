"""What a tool gave, on its way to the model: cleaned, without anything that a chat template or a reader of calls could
take for its own, marked as data, and cut in the middle where it is long.

The marks are for the model's sake. That data cannot become turns, thinking or calls does not rest on them: no call is
ever read out of an observation, and the letters that would make a token of the template are replaced here.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from thinksmith.agent.texts import LEFT_OUT

LARGEST = 4_000_000  # characters of a result that are kept at all

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TAGS = "think|thinking|thought|reasoning|tool_?calls?|tool_?responses?|tool_results?|function_calls?|tools|s"
_SPECIAL = re.compile(
    r"<(?=\|[^<>|\n]{1,64}\|>"  # <|im_end|> and all of its kind
    r"|｜[^<>\n]{1,64}｜>"  # DeepSeek's
    rf"|/?(?:{_TAGS})\b[^<>\n]{{0,64}}>"
    r"|(?:function|parameter)=|/(?:function|parameter)>"
    r"|(?:start|end)_of_\w{1,16}>|(?:bos|eos|pad|unk|sop|eop)>|\w{1,32}_TOKEN>|SPECIAL_\d{1,4}>|</?SYS>>"
    r"|/?(?:seed|minimax):\w{1,32}>|/?longcat_\w{1,32}>)"
    r"|\[(?=/?(?:INST|THINK|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|AVAILABLE_TOOLS|SYSTEM_PROMPT|CALL_ID|ARGS"
    r"|gMASK|PREFIX|MIDDLE|SUFFIX|IMG)\])"
    r"|\[(?=data from |end of data )",
    re.IGNORECASE,
)
_HARMLESS = {"<": "‹", "[": "⟦"}


def clean(text: str) -> str:
    """Text that can stand in a message and in a store: no control characters but line breaks and tabs, no halves of
    surrogate pairs (each becomes U+FFFD), at most LARGEST characters."""
    text = text[:LARGEST].replace("\r\n", "\n")
    return _CONTROL.sub("\ufffd", text)


def harmless(text: str) -> str:
    """The text, with another sign in place of the first letter of whatever a template or a reader could take for its
    own: `‹|im_end|>`. So the model still sees what stands there."""
    return _SPECIAL.sub(lambda found: _HARMLESS[found[0]], text)


def cut(text: str, most: int, more: str = "") -> str:
    """The beginning and the end of a text of more than `most` characters, and how many were left out between; `more`
    tells how to read them, from the place {start}."""
    if len(text) <= most:
        return text
    head = most * 2 // 3
    tail = most - head
    told = more.format(start=head) if more else ""
    return text[:head] + LEFT_OUT.format(left=len(text) - most, more=told) + text[len(text) - tail :]


def marked(text: str, source: str, nonce: str) -> str:
    """The text between marks that say that it is data. What it holds cannot know the `nonce` of its end."""
    return f"[data from {source}, {nonce}]\n{text}\n[end of data {nonce}]"


def nonce(secret: bytes, step: int, at: int) -> str:
    """A word that whoever wrote the data could not know."""
    return blake2b(f"{step}:{at}".encode(), key=secret[:64], digest_size=4).hexdigest()
