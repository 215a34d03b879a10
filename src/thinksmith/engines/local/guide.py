"""Holds the answer of a row to its grammar, and its thinking to nothing.

Where the thinking ends is what `thinking.py` says of the text, so the guide reads along with a splitter until the
answer has begun, and sees to it that both agree: a token that ends the thinking and holds the beginning of an answer
comes only where that is one; an end tag that may yet turn out to be quoted is followed by the closing quote or by an
answer; in an answer without a thinking before it no tag comes, for that would make it one. While the model thinks, its
turn cannot end: there would be no answer.

Three states. BEFORE: nothing has come, and the model may open a thinking itself or answer. THINKING: all is free but
what is said above. ANSWER: what the grammar allows, its end included.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from thinksmith.engines.local.grammar import Grammars, reason_of
from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.records import Request
from thinksmith.thinking import Detokeniser, Splitter, Tags

BEFORE, THINKING, HEADER, ANSWER = range(4)
Bits = np.ndarray[Any, np.dtype[np.int32]]
"""One bit a token, 32 in a number: 1 where it may come."""


@dataclass(frozen=True)
class Plan:
    """What all rows of a request share: where its answer begins, and the parser there."""

    policy: Policy
    grammars: Grammars
    request: Request
    opened: str

    @cached_property
    def state(self) -> int:
        """Where the first token stands."""
        splitter = self._opened()
        if splitter.status == "truncated":
            return THINKING
        thinks = any(start in (self.policy.tokenizer.chat_template or "") for start in self.policy.tags.starts)
        return BEFORE if splitter.status == "none" and thinks and not self.opened.strip() else ANSWER

    @cached_property
    def blocked(self) -> bool:
        """Does the turn begin with a thinking? Behind it, no tag is one."""
        return self._opened().status != "none"

    @cached_property
    def first(self) -> Any:
        """The parser behind what the turn begins with. Raises UserError if that begins no answer."""
        if self.state == THINKING:
            return self.behind
        splitter = self._opened()
        found = self.grammars.matcher(self.request, self.blocked and not self.opened[-1:].isspace())
        if splitter.answer:
            found = found.deep_copy()
            if not found.consume_tokens(self.grammars.tokenizer.greedy_tokenize(splitter.answer)):
                raise UserError(f"the answer cannot begin with {splitter.answer[:60]!r}: the schema allows none such")
        return found

    @cached_property
    def behind(self) -> Any:
        """The parser behind a thinking that the model has ended."""
        return self.grammars.matcher(self.request, True)

    @cached_property
    def header(self) -> tuple[int, ...]:
        """What stands between the end of a thinking and the answer."""
        tags = self.policy.tags
        return self.policy.encode(tags.header + tags.answer) if tags.answer else ()

    @cached_property
    def tags(self) -> tuple[bytes, ...]:
        return tuple(tag.encode() for tag in sorted(self.policy.tags.all))

    @cached_property
    def holding(self) -> tuple[int, ...]:
        """Tokens that hold a tag."""
        return self.grammars.vocabulary.holding(self.tags)

    @cached_property
    def ending(self) -> tuple[int, ...]:
        """Those that hold a tag which ends a thinking, and more: they never come in a constrained turn."""
        ends = tuple(tag.encode() for tag in sorted({self.policy.tags.end, *self.policy.tags.answers}))
        vocabulary = self.grammars.vocabulary
        return tuple(token for token in vocabulary.holding(ends) if vocabulary.bytes[token] not in ends)

    def check(self) -> Plan:
        """Compile what will be needed. Raises UserError."""
        for _ in (self.first, self.first if self.state == ANSWER else self.behind):
            pass  # each is made when it is first looked at
        return self

    def _opened(self) -> Splitter:
        splitter = Splitter(self.policy.tags)
        splitter.feed(self.opened)
        splitter.finish()
        return splitter


class Guide:
    """One row's."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tags: Tags = plan.policy.tags
        self._vocabulary = plan.grammars.vocabulary
        self._state = plan.state
        self._matcher: Any = plan.first.deep_copy()
        self._text = Detokeniser(plan.policy.decode)
        self._splitter = Splitter(self._tags)
        self._splitter.feed(plan.opened)
        self._characters = len(plan.opened)
        self._end = plan.opened[-256:]  # of the text so far
        self._path = b""  # of a tag that may open the turn
        self._header = 0  # tokens of it that are still to come
        self.error = ""

    @property
    def thinks(self) -> bool:
        return self._state == THINKING

    def after(self, token: int) -> tuple[int, ...]:
        """The row has a new token, which does not end it. Returns those that must follow."""
        if self._state == ANSWER:
            self._consume((token,))
            if not self._plan.blocked and self._splitter.status == "none":
                self._read(token)
            return ()
        text = self._read(token)
        if self._state == HEADER:
            self._header -= 1
            if not self._header:
                self._state = ANSWER
        elif self._state == BEFORE:
            self._open(token)
        elif self._splitter.answer_from is not None:
            return self._answer(token, text[len(text) - (self._characters - self._splitter.answer_from) :], text)
        return ()

    def ban(self) -> Iterable[int]:
        """While it thinks: what may not come, besides the end of the turn."""
        yield from self._plan.ending
        if held := self._splitter.held:
            for tag in self._ending(held):
                for token in self._vocabulary.starting(tag[len(held.encode()) :]):
                    rest = self._vocabulary.bytes[token][len(tag) - len(held.encode()) :]
                    if rest and not self._may_follow(rest):
                        yield token

    def allow(self) -> torch.Tensor | None:
        """The tokens that may come, packed [vocabulary / 32] (int32); None: any but those of `ban`."""
        held = self._splitter.held
        if self._state == THINKING:
            if held not in (self._tags.end, *self._tags.answers):
                return None
            # The tag is whole, behind an opening quote: its other half makes it text, and all else an answer.
            bits = self._bits(self._plan.behind.deep_copy())
            return torch.from_numpy(_with(bits, self._vocabulary.starting(self._splitter.closing.encode())))
        if self._state == BEFORE and self._matcher is None:
            bits = np.zeros(-(-len(self._vocabulary.bytes) // 32), dtype=np.int32)
        else:
            bits = self._bits(self._matcher)
        if self._state == BEFORE:
            bits = _with(bits, self._opening())
        elif not self._plan.blocked and self._splitter.status == "none":
            bits = _without(bits, [*self._plan.holding, *self._completing(held)])
        return torch.from_numpy(bits)

    # --- what was read

    def _read(self, token: int) -> str:
        text = self._text.feed(token)
        self._splitter.feed(text)
        self._characters += len(text)
        self._end = (self._end + text)[-256:]
        return text

    def _consume(self, tokens: Iterable[int]) -> None:
        if not self.error and not self._matcher.consume_tokens(list(tokens)):
            self.error = f"the answer left its grammar: {reason_of(self._matcher)}"

    def _open(self, token: int) -> None:
        """Has the turn begun with a thinking, or with the answer?"""
        if self._matcher is not None and self._matcher.validate_tokens([token]):
            self._consume((token,))
        else:
            self._matcher = None
        self._path += self._vocabulary.bytes[token]
        if self._splitter.status == "truncated":
            self._state = THINKING
        elif self._path in {tag.encode() for tag in self._tags.answers}:
            self._state, self._matcher = ANSWER, self._plan.first.deep_copy()
        elif not any(tag.startswith(self._path) for tag in self._openers()):
            self._state = ANSWER

    def _answer(self, token: int, begun: str, text: str) -> tuple[int, ...]:
        """The thinking has ended, and of the token's text this is behind it."""
        self._state, self._matcher = ANSWER, self._plan.behind.deep_copy()
        tag_ended = self._end[: len(self._end) - len(begun)].endswith(self._tags.end)
        if self._plan.header and tag_ended:
            self._state, self._header = HEADER, len(self._plan.header)
            return self._plan.header
        self._consume((token,) if begun and begun == text else self._plan.grammars.tokenizer.greedy_tokenize(begun))
        return ()

    # --- what may come

    def _bits(self, matcher: Any) -> Bits:
        bits = np.empty(-(-len(self._vocabulary.bytes) // 32), dtype=np.int32)
        matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        if matcher.is_error():
            self.error = self.error or f"the grammar has become too large: {reason_of(matcher)}"
        only = _only(bits)
        if only is not None and only not in self._plan.policy.eos_ids and not matcher.validate_tokens([only]):
            # What must come reads like a special token, and llguidance takes it for that: it is to be spelled.
            bits.fill(0)
            spelling = self._vocabulary.beginnings(bytes(matcher.compute_ff_bytes()))
            bits = _with(bits, [token for token in spelling if matcher.validate_tokens([token])])
        return bits

    def _openers(self) -> tuple[bytes, ...]:
        return tuple(tag.encode() for tag in (*self._tags.starts, *self._tags.answers))

    def _opening(self) -> set[int]:
        """Tokens that go on with a tag which opens the turn; behind a start tag there may be more in the token."""
        found: set[int] = set()
        for tag in self._openers():
            if tag.startswith(self._path):
                left = tag[len(self._path) :]
                found.update(self._vocabulary.beginnings(left))
                if tag.decode() in self._tags.starts:
                    found.update(self._vocabulary.starting(left))
        return found.difference(self._plan.ending)

    def _ending(self, held: str) -> list[bytes]:
        """Tags that end a thinking and begin so, and are not whole."""
        return [tag.encode() for tag in (self._tags.end, *self._tags.answers) if tag.startswith(held) and tag != held]

    def _completing(self, held: str) -> list[int]:
        """Tokens that make a tag whole which has begun."""
        begun = [tag[len(held.encode()) :] for tag in self._plan.tags if held and tag.startswith(held.encode())]
        return [token for left in begun if left for token in self._vocabulary.starting(left)]

    def _may_follow(self, rest: bytes) -> bool:
        """Can this stand behind the end of the thinking, in the same token? Behind a quoted tag, all can."""
        try:
            text = rest.decode()
        except UnicodeDecodeError:
            return False
        closing = self._splitter.closing
        if closing and text.startswith(closing):
            return True
        if self._plan.header:
            return False
        tokens = self._plan.grammars.tokenizer.greedy_tokenize(text)
        return bool(self._plan.behind.deep_copy().validate_tokens(tokens) == len(tokens))


def _only(bits: Bits) -> int | None:
    """The token that alone may come, if there is one."""
    (places,) = bits.nonzero()
    if len(places) != 1:
        return None
    number = int(bits[places[0]]) & 0xFFFFFFFF
    return None if number & number - 1 else int(places[0]) * 32 + number.bit_length() - 1


def _with(bits: Bits, tokens: Iterable[int]) -> Bits:
    for token in tokens:
        bits[token // 32] |= np.array(1 << token % 32, dtype=np.uint32).view(np.int32)
    return bits


def _without(bits: Bits, tokens: Iterable[int]) -> Bits:
    """If that left nothing, all stays: a text with a tag is what the schema asks for."""
    left = bits.copy()
    for token in tokens:
        left[token // 32] &= ~np.array(1 << token % 32, dtype=np.uint32).view(np.int32)
    return left if left.any() else bits
