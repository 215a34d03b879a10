"""Log-probabilities as `/v1/completions` tells them: arrays beside each other, one entry a token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from thinksmith.records import Trace
from thinksmith.serve.dialect import About
from thinksmith.thinking import Detokeniser

LOWEST = -9999.0  # JSON has no minus infinity


@dataclass(frozen=True, slots=True)
class Scored:
    """A prompt's own tokens: natural log-probabilities, None for the first, and the likeliest (id, log-probability)
    pairs at each place."""

    ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]
    top: tuple[tuple[tuple[int, float], ...] | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A token: its text, where that begins in the choice's text (characters), its log-probability, the likeliest."""

    token: str
    offset: int
    logprob: float | None
    top: dict[str, float] | None


def of_prompt(scored: Scored, about: About) -> list[Told]:
    """The tokens of a prompt, which stands at the beginning of the text."""
    return list(_told(scored.ids, scored.logprobs, scored.top, about, 0))


def of_trace(trace: Trace, about: About, begins: int) -> list[Told]:
    """The tokens of a completion whose text begins at `begins`. An end of turn that was sampled is one of them, though
    the text does not have it: lm-eval takes the last token away, whatever it is."""
    return list(_told(trace.token_ids, trace.logprobs or (), trace.top_logprobs or (), about, begins))


def _told(
    ids: Sequence[int],
    logprobs: Sequence[float | None],
    top: Sequence[tuple[tuple[int, float], ...] | None],
    about: About,
    begins: int,
) -> Iterator[Told]:
    assert about.decode is not None
    decode, text = about.decode, Detokeniser(about.decode)
    known: dict[int, str] = {}

    def word(number: int) -> str:
        if number not in known:
            known[number] = decode([number])
        return known[number]

    for at, number in enumerate(ids):
        offset = begins + text.characters
        text.feed(number)
        logprob = logprobs[at] if at < len(logprobs) else None
        likeliest: dict[str, float] | None = None
        pairs = top[at] if at < len(top) else ()
        if logprob is not None:
            logprob = max(logprob, LOWEST)
            likeliest = {word(number): logprob}  # also where it is none of the likeliest, as OpenAI does
            for each, value in pairs or ():
                if each != number:  # several ids may have the same text: the likelier one is told
                    likeliest[word(each)] = max(value, LOWEST, likeliest.get(word(each), LOWEST))
        yield Told(word(number), offset, logprob, likeliest)


def together(told: Sequence[Told]) -> dict[str, Any]:
    """As OpenAI's arrays."""
    return {
        "tokens": [each.token for each in told],
        "token_logprobs": [each.logprob for each in told],
        "top_logprobs": [each.top for each in told],
        "text_offset": [each.offset for each in told],
    }
