"""What a trace shows by itself: whether it is dropped, by which reason, and what it is compared with others by."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from hashlib import sha256

from xxhash import xxh3_128_digest

from thinksmith.audit.answers import first_appearance
from thinksmith.audit.equations import find_equations
from thinksmith.audit.language import is_foreign, latin_language, script_of_text, script_share, without_formulas
from thinksmith.audit.loops import find_loop, may_loop
from thinksmith.audit.suspects import may_be_false
from thinksmith.distill.curate.options import Curation
from thinksmith.distill.curate.signature import Signature, signature
from thinksmith.distill.sample import Sample
from thinksmith.problems.overlap import Hit, Overlap
from thinksmith.problems.wording import Wording
from thinksmith.records import Problem, Trace
from thinksmith.verify.extract import extract
from thinksmith.verify.verdict import VERIFIERS, verify

JUDGEABLE = ("number", "math", "choice", "exact", "remainder", "json", "countdown")
"""Kinds that a verdict can be had of without running what a model wrote."""
_IN_THINKING = ("", "number", "math", "remainder", "exact")
"""Kinds whose answer a thinking comes to in so many words."""
_BEGINNING = 250  # words that tell a language
_CHARACTERS = 4  # of a token, where nobody counted
_BESIDE = re.compile(r"[\w^]|[.,][0-9]")
_DRESS = re.compile(r"\s|\\left|\\right|\\!|\\,|\\;|\$")


@dataclass(frozen=True, slots=True)
class Looked:
    """A trace as it was looked at. `reason` is "" where it passes, then there is a `signature`. `status` is the
    sample's own, or the verdict that was made. `problem` is a hash of what is asked, `digest` (2 numbers) of all."""

    reason: str
    detail: str
    status: str
    tokens: int
    problem: int
    digest: tuple[int, int]
    signature: Signature | None = None
    hits: tuple[Hit, ...] = ()


def look(sample: Sample, options: Curation, overlap: Overlap) -> Looked:
    """Look at one sample. Never raises for what a model wrote."""
    question = sample.question
    problem = int.from_bytes(sha256(question.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    text = f"{question}\0{sample.thinking}\0{sample.answer}".encode("utf-8", "surrogatepass")
    digest = xxh3_128_digest(text)
    tokens = sample.tokens or (len(sample.thinking) + len(sample.answer)) // _CHARACTERS
    status = sample.status or _judged(sample, options)
    found = Looked("", "", status, tokens, problem, (int.from_bytes(digest[:8]), int.from_bytes(digest[8:])))
    if fault := _by_record(sample, options, status, tokens):
        return replace(found, reason=fault[0], detail=fault[1])
    said = Wording.of(f"{sample.thinking}\n{sample.answer}")
    if fault := _by_text(sample, options, question, said):
        return replace(found, reason=fault[0], detail=fault[1])
    hits = tuple(overlap.hits(question, _wholes(sample), said))
    if hits:
        return replace(found, reason="contaminated", detail=_told(hits), hits=hits)
    return replace(found, signature=signature(said.hashes_W))


def _judged(sample: Sample, options: Curation) -> str:
    """The verdict on a sample that has none, as far as one can be had."""
    if options.unjudged != "judge" or sample.gold is None or sample.kind not in JUDGEABLE or _is_cut(sample):
        return ""
    assert sample.kind in VERIFIERS
    problem = Problem(sample.id, sample.messages, sample.gold, sample.kind, sample.meta)
    return verify(problem, Trace(sample.thinking, sample.answer, "closed" if sample.thinking else "none")).status


def _is_cut(sample: Sample) -> bool:
    return sample.finish != "stop" or (bool(sample.thinking) and not sample.answer.strip())


def _by_record(sample: Sample, options: Curation, status: str, tokens: int) -> tuple[str, str] | None:
    """What the record says, without reading the text."""
    if status == "truncated" or (_is_cut(sample) and sample.finish != "error"):
        open_ = sample.thinking and not sample.answer.strip()
        return "truncated", "its thinking is still open" if open_ else f"it ended by {sample.finish}"
    if sample.finish == "error" or status not in ("", "correct"):
        return "not correct", status.replace("_", " ") or "the engine failed"
    if not status and options.unjudged == "drop":
        return "not judged", "there is no verdict"
    if options.need_thinking and not sample.thinking.strip():
        return "no thinking", ""
    if tokens < options.min_tokens:
        return "too short", f"{tokens} tokens"
    if tokens > options.max_tokens:
        return "too long", f"{tokens} tokens"
    return None


def _by_text(sample: Sample, options: Curation, question: str, said: Wording) -> tuple[str, str] | None:
    """What the text says."""
    if foreign := _foreign(sample, options, question, said):
        return "wrong language", foreign
    if options.answer_in_thinking and (missing := _missing(sample)) is not None:
        return "answer not in thinking", missing
    if options.loops and may_loop(said.hashes_W):
        for text in (sample.thinking, sample.answer):
            if loop := find_loop(text):
                return "repetition loop", f"{loop.repeats} times {' '.join(loop.unit.split())[:80]!r}"
    return None


def _foreign(sample: Sample, options: Curation, question: str, said: Wording) -> str:
    """Why the thinking is in another language; "" where it is not, or where that cannot be told."""
    if options.language == "any":
        return ""
    text = sample.thinking if sample.thinking.strip() else sample.answer
    begins = said.words[:_BEGINNING]
    if options.language != "question":
        return is_foreign(text, begins, options.language, options.language_share)
    script = script_of_text(question, options.language_share)
    if not script:
        return ""  # it mixes scripts itself, or has no letters: it says nothing of how to think
    own = script_share(text if script == "latin" else without_formulas(text), script)
    if own < options.language_share:
        return f"{own:.0%} of its letters are {script}, as the question's are"
    if script != "latin":
        return ""
    told = latin_language(begins)
    asked = latin_language(Wording.of(question).words)
    return f"its words are {told}, the question's {asked}" if asked and told and asked != told else ""


def _missing(sample: Sample) -> str | None:
    """The answer, where the thinking never comes to it; None where it does, or that cannot be told."""
    if not sample.thinking.strip() or sample.kind not in _IN_THINKING:
        return None
    found = extract(sample.answer)
    if found is None or len(found.text) > 200:
        return None
    for part in found.parts or (found.text,):
        if not _comes_up(sample.thinking, part.strip()):
            return part.strip()[:80]
    return None


def _comes_up(thinking: str, answer: str) -> bool:
    """Whether the answer stands in the thinking: as it is, as a number written otherwise, or in other dress."""
    if _stands(thinking, answer) or first_appearance(thinking, [], answer) is not None:
        return True
    bare = _bare(answer)
    return not bare or bare in _bare(thinking)


def _stands(text: str, answer: str) -> bool:
    """Whether the answer stands in the text with no letter or digit glued to it."""
    at = text.find(answer)
    while at >= 0 and answer:
        before, end = text[at - 1 : at] if at else "", at + len(answer)
        if not (before.isalnum() or before == ".") and not _BESIDE.match(text, end):
            return True
        at = text.find(answer, at + 1)
    return False


def _bare(text: str) -> str:
    """Without what changes only how a formula looks."""
    return _DRESS.sub("", text.casefold()).replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")


def _wholes(sample: Sample) -> list[str]:
    """The texts each of which may be a short problem of an evaluation as a whole."""
    texts = [message["content"] for message in sample.messages if message["role"] != "system"]
    bare = sample.meta.get("prompt")  # without the frame in which it was asked
    return [*texts[-1:], *([bare] if isinstance(bare, str) else [])]


def _told(hits: tuple[Hit, ...]) -> str:
    first = hits[0]
    more = f" (and {len(hits) - 1} more)" if len(hits) > 1 else ""
    return f"{first.evaluation} {first.id}: its {first.part} in the {first.where}, {first.words!r}{more}"


def false_share(sample: Sample) -> tuple[int, int]:
    """How many equations of a trace's thinking and answer are false, of how many; (0, 0) where none is false."""
    texts = (sample.thinking, sample.answer)
    if not any(may_be_false(text, hasty=True) for text in texts):
        return 0, 0
    found = [equation.true for text in texts for equation in find_equations(text)]
    return (0, 0) if all(found) else (len(found) - sum(found), len(found))
