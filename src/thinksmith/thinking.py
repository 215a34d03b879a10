"""Splits what a model writes into thinking and answer, whole or streamed, as text or as tokens.

The result is a function of the text alone: every chunking of it gives the same thinking, answer and status. The
rules, each of which can be decided with a look-ahead of one character behind a tag:

**Where thinking begins.** A start tag opens a block when only whitespace stands before it in the turn, or between it
and the block before. `opened=True` says that the template (or a prefill) has opened the block already; a model that
then repeats the start tag at once loses nothing, the second tag is dropped too. `is_open` tells it from a rendered
prompt.

**Where it ends.** At the first end tag that is not quoted. Quoted means: directly between two matching quote
characters (`` ` `` `"` `'` or “ ” ‘ ’ « » 「 」), the first of which opens a quote, that is, it follows whitespace,
`([{=*`, a non-ASCII character or nothing. So "`</think>`" and `split("</think>")` stay in the thinking, while `say
"Hi"</think>"Hi"` ends it. **Code fences protect nothing**, and three backticks are a fence, not a quote: models leave
fences open, whether one will ever be closed cannot be known while streaming, and the answer often has fences of its
own. An end tag swallowed by a fence would cost the whole answer; one that ends the thinking too early costs nothing
but a tidy border, for the rest still stands in the answer.

**Tags elsewhere.** A start tag inside thinking is text (blocks do not nest). Blocks with only whitespace between them
are one thinking; the whitespace between them stays. An end tag directly behind another is dropped. Once an answer has
begun after a block, every tag in it is text.

**Missing or late start tag.** Without any block so far, an unquoted end tag, or a start tag at the beginning of a
line, shows that what came before was thinking: it is moved there (`Splitter.recast` turns True). Text that was
already handed out as answer cannot be taken back, so a consumer that shows pieces looks at `recast`. `opened=True`
avoids this.

**Whitespace** is space, tab, CR and LF. Thinking and answer lose the blank rest of the tag's line and the blank lines
after it; the indentation of their first line stays if it is not the tag's line. Thinking loses its trailing
whitespace. Nothing else is ever lost, and nothing added. Without thinking (status `none`) the answer is the
completion, letter for letter. Whatever follows an end tag at once, such as a tool call, is answer, as it stands.

**Status.** `closed`: there was a block (perhaps an empty one) and it ended. `truncated`: it never ended; part of a
tag at the very end is text. `none`: there was no block.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from thinksmith.errors import UserError
from thinksmith.records import ThinkingStatus

WHITESPACE = " \t\r\n"
QUOTES = {"`": "`", '"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」"}
BEFORE_QUOTE = WHITESPACE + "([{=*"
REPLACEMENT = "\ufffd"
_SPACE = re.compile(f"[{WHITESPACE}]*")


@dataclass(frozen=True, slots=True)
class Tags:
    """The tags of a model's thinking.

    `answer`, where a format has it, is a tag that opens the answer: it is dropped, and it ends the thinking as `end`
    does. `header` may stand before `start` and `answer` and is dropped with them. Raises UserError for tags that could
    not be told apart while streaming: empty ones, and one that contains another other than as its end.
    """

    start: str
    end: str
    answer: str = ""
    header: str = ""

    def __post_init__(self) -> None:
        if not self.start.strip() or not self.end.strip():
            raise UserError("thinking tags must not be empty: give a start tag and an end tag")
        if any(tag[0] in WHITESPACE for tag in self.all):
            raise UserError("thinking tags must not begin with whitespace")
        for tag in self.all:
            for other in self.all:
                if tag != other and other in tag[:-1]:
                    raise UserError(
                        f"thinking tags {tag!r} and {other!r} overlap: choose tags that do not contain each other"
                    )
        if self.start == self.end or self.end == self.answer or self.start == self.answer:
            raise UserError(f"thinking tags must differ from each other, got {self.start!r} and {self.end!r}")

    @property
    def starts(self) -> frozenset[str]:
        """Every string that opens a block."""
        return frozenset({self.start, self.header + self.start})

    @property
    def answers(self) -> frozenset[str]:
        """Every string that opens the answer; empty for most formats."""
        return frozenset({self.answer, self.header + self.answer}) if self.answer else frozenset()

    @property
    def all(self) -> frozenset[str]:
        """Every string that is a tag."""
        return self.starts | self.answers | {self.end}


THINK = Tags("<think>", "</think>")
THINKING = Tags("<thinking>", "</thinking>")
CHANNEL = Tags(
    "<|channel|>analysis<|message|>",
    "<|end|>",
    answer="<|channel|>final<|message|>",
    header="<|start|>assistant",
)
BRACKET = Tags("[THINK]", "[/THINK]")
TAGS = {"think": THINK, "thinking": THINKING, "channel": CHANNEL, "bracket": BRACKET}

# Where the assistant's turn begins, in the templates in use.
TURN = re.compile(
    r"<\|im_start\|>assistant|<｜Assistant｜>|<\|[Aa]ssistant\|>|<\|start_header_id\|>assistant<\|end_header_id\|>"
    r"|\[/INST\]|<start_of_turn>model|<\|start\|>assistant|<\|start_of_role\|>assistant<\|end_of_role\|>"
    r"|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>|<\|im_assistant\|>assistant<\|im_middle\|>"
)


def detect_tags(template_or_text: str) -> Tags:
    """The tags that a chat template or a rendered prompt uses: those that occur last in it, THINK if none does."""

    def last(tags: Tags) -> int:
        # A format with a header may share its end tag with unrelated templates (<|end|> is Phi's end of turn too).
        own = (tags.start, tags.answer, tags.header) if tags.header else (tags.start, tags.end)
        return max(template_or_text.rfind(tag) for tag in own if tag)

    best = max(TAGS.values(), key=last)
    return best if last(best) >= 0 else THINK


def is_open(prompt: str, tags: Tags = THINK) -> bool:
    """Does this rendered prompt, prefill included, leave a thinking block open?

    Only the assistant's last turn counts, so a user who writes about tags changes nothing. Where the template's
    mark of that turn is not known, the prompt must begin with the open block or end with the start tag.
    """
    turn = re.split(TURN, prompt)[-1].strip(WHITESPACE)
    if any(turn.endswith(start) for start in tags.starts):
        return True
    return turn.startswith(tuple(tags.starts)) and split(turn, tags).status == "truncated"


Part = Literal["thinking", "answer"]


class Piece(NamedTuple):
    """A stretch of text and where it belongs. Pieces of one part, joined, are that part (see `Splitter.recast`)."""

    part: Part
    text: str


_new = tuple.__new__


@dataclass(frozen=True, slots=True)
class Split:
    """A completion taken apart: text without tags, and how the thinking ended."""

    thinking: str
    answer: str
    status: ThinkingStatus


def split(completion: str, tags: Tags = THINK, opened: bool = False) -> Split:
    """Split a whole completion. `opened`: the prompt had already opened the thinking (see `is_open`)."""
    splitter = Splitter(tags, opened)
    splitter.feed(completion)
    splitter.finish()
    return Split(splitter.thinking, splitter.answer, splitter.status)


@dataclass(frozen=True, slots=True)
class _Finder:
    """Finds whole tags, and the longest tail of a text that may still become one."""

    whole: re.Pattern[str]
    partial: re.Pattern[str]
    reach: int  # characters of the longest proper prefix of a tag
    mark: str  # the character that every tag begins with; "" (which is in every text) where they differ

    @classmethod
    def of(cls, tags: Iterable[str]) -> _Finder:
        tags = sorted(tags)
        prefixes = sorted({tag[:n] for tag in tags for n in range(1, len(tag))}, key=len, reverse=True)
        marks = {tag[0] for tag in tags}
        return cls(
            whole=re.compile("|".join(map(re.escape, tags))),
            partial=re.compile("(?:" + "|".join(map(re.escape, prefixes)) + r")\Z") if prefixes else re.compile("(?!)"),
            reach=max(map(len, prefixes), default=0),
            mark=marks.pop() if len(marks) == 1 else "",
        )

    def tail(self, text: str, start: int) -> int:
        """Where in text[start:] a tag may have begun that is not whole yet; len(text) if nowhere."""
        match = self.partial.search(text, max(start, len(text) - self.reach))
        return match.start() if match else len(text)


@lru_cache(maxsize=64)
def _finders(tags: Tags) -> tuple[_Finder, _Finder]:
    """What is looked for outside a block (every tag) and inside one (what ends it)."""
    return _Finder.of(tags.all), _Finder.of(tags.answers | {tags.end})


def _after_tag(space: str) -> str:
    """What stays of whitespace that follows a tag: the indentation of the first line that is not the tag's own."""
    return space[space.rfind("\n") + 1 :] if "\n" in space else ""


def _closing_quote(before: str) -> str:
    """The character which, directly after a tag, makes it a quoted one; "" if what stands before opens no quote.

    `before` holds the (up to three) characters before the tag, back to the last tag.
    """
    quote = before[-1:]
    if quote not in QUOTES:
        return ""
    if quote in "`\"'":  # the same sign opens and closes, so see whether it can be an opening one
        context = before[:-2] if before.endswith("``") else before[:-1]  # three backticks open none: a fence
        if context and context[-1].isascii() and context[-1] not in BEFORE_QUOTE:
            return ""
    return QUOTES[quote]


# The five states. START: only whitespace so far. GAP: only whitespace since a block ended. PLAIN: text that no block
# came before, an answer as far as one can tell. ANSWER: the answer after a block, in which nothing is a tag any more.
_START, _THINKING, _GAP, _ANSWER, _PLAIN = range(5)


class Splitter:
    """Splits a stream of text. Time is linear in the characters, whatever the chunks; see the module for the rules.

    Held back, and handed out as soon as it is decided: what may become a tag, a tag after an opening quote (for one
    character), and whitespace next to which a tag may come. `finish` hands out the rest; do not feed after it.
    """

    __slots__ = (
        "_add", "_answer", "_block", "_block_from", "_gap_from", "_held", "_inside", "_mark", "_outside",
        "_part", "_seen", "_space", "_state", "_tags", "_thinking", "_trail", "answer_from", "recast",
    )  # fmt: skip

    def __init__(self, tags: Tags = THINK, opened: bool = False) -> None:
        self._tags = tags
        self._outside, self._inside = _finders(tags)
        self._thinking: list[str] = []
        self._answer: list[str] = []
        self._block = opened  # was there a block?
        self._mark = ""  # text without it holds no beginning of a tag that matters in this state (none does in ANSWER)
        self._part: Part = "answer"  # what plain text is in this state, and where to
        self._add = self._answer.append
        self._trail = ""  # characters that, at the end of a chunk, wait for what follows
        self._enter(_START)
        self._held = ""  # may become a tag: never longer than one
        self._space: list[str] = []  # whitespace not handed out yet; it stands before _held
        self._gap_from = 0  # index in _space of what came after the last end tag
        self._block_from = 0  # index in _thinking of the current block's first text
        self._seen = 0  # characters fed
        self.answer_from: int | None = None if opened else 0
        """How many characters of the completion the thinking takes, closing tag included; None while it is open."""
        self.recast = False
        """Was text that had been handed out as answer found to be thinking (missing or late start tag)?"""

    @property
    def status(self) -> ThinkingStatus:
        """How the thinking stands so far; final after `finish`."""
        if self._state == _THINKING or (self._state == _START and self._block):
            return "truncated"
        return "closed" if self._block else "none"

    @property
    def thinking(self) -> str:
        """The thinking so far, joined anew at each access."""
        return "".join(self._thinking)

    @property
    def answer(self) -> str:
        """The answer so far, joined anew at each access."""
        return "".join(self._answer)

    @property
    def held(self) -> str:
        """What is not handed out since it may become a tag, or a tag that may yet turn out to be quoted."""
        return self._held

    @property
    def closing(self) -> str:
        """The character which, directly behind a tag that began here, would make it a quoted one; "" if none would."""
        return _closing_quote(self._before())

    def feed(self, text: str) -> list[Piece]:
        """Take the next chunk (of any length); return the pieces that it decides, in order."""
        if not text:
            return []
        self._seen += len(text)
        if self._mark in text or self._held:
            return self._scan(text, final=False)
        if self._space or text[-1] in self._trail:
            return self._think(text)
        # The short way, taken for most tokens. Piece's own constructor would cost twice as much.
        self._add(text)
        return [_new(Piece, (self._part, text))]

    def finish(self) -> list[Piece]:
        """The text is over: return what was held back."""
        out = self._scan("", final=True)
        if self._state == _START and not self._block:
            out += self._reply("".join(self._space))
        self._space.clear()
        return out

    def _scan(self, text: str, final: bool) -> list[Piece]:
        buffer, self._held = self._held + text, ""
        out: list[Piece] = []
        at = 0
        while at < len(buffer):
            if self._state in (_START, _GAP):
                at = self._step_between(buffer, at, final, out)
            elif self._state == _ANSWER:
                out += self._reply(buffer[at:])
                at = len(buffer)
            else:
                at = self._step_within(buffer, at, final, out)
        return out

    def _step_between(self, buffer: str, at: int, final: bool, out: list[Piece]) -> int:
        """At the turn's start or after a block: skip whitespace, take a tag, or see that text begins."""
        begin, at = at, _SPACE.match(buffer, at).end()  # type: ignore[union-attr]  # it matches "" too
        if at > begin:
            self._space.append(buffer[begin:at])
        if match := self._outside.whole.match(buffer, at):
            self._take(match.group(), self._seen - len(buffer) + match.end())
            return match.end()
        if not final and self._outside.tail(buffer, at) == at:
            self._held = buffer[at:]
            return len(buffer)
        if self._state == _START and self._block:
            self._begin_block()
        elif self._state == _START:
            self._enter(_PLAIN)
            out += self._reply("".join(self._space))
            self._space.clear()
        else:
            self._enter(_ANSWER)
            out += self._reply(_after_tag("".join(self._space[self._gap_from :])))
            self._space.clear()
        return at

    def _step_within(self, buffer: str, at: int, final: bool, out: list[Piece]) -> int:
        """Inside a block, or in text that no block came before: go on to the next tag and decide whether it is one."""
        finder, emit = (self._inside, self._think) if self._state == _THINKING else (self._outside, self._reply)
        match = finder.whole.search(buffer, at)
        if not match:
            stop = len(buffer) if final else finder.tail(buffer, at)
            out += emit(buffer[at:stop])
            self._held = buffer[stop:]
            return len(buffer)
        tag = match.group()
        out += emit(buffer[at : match.start()])
        before = self._before()
        closing = _closing_quote(before)
        if closing and match.end() == len(buffer) and not final:
            self._held = tag
            return len(buffer)
        quoted = closing and buffer[match.end() : match.end() + 1] == closing
        if quoted or (tag in self._tags.starts and before[-1:] != "\n"):
            out += emit(tag)
        else:
            self._take(tag, self._seen - len(buffer) + match.end())
        return match.end()

    def _take(self, tag: str, end: int) -> None:
        """Act on a tag whose last character is number `end` of the completion."""
        if self._state == _PLAIN:
            self._recast()
        if tag in self._tags.starts:
            if not self._thinking:
                self._space.clear()
            self._begin_block()
            return
        if tag == self._tags.end or self._state != _START:
            self._block = True  # in particular: an answer that begins at once had no thinking
        self._enter(_GAP)
        self._gap_from = len(self._space)
        self.answer_from = end if self._block else 0

    def _begin_block(self) -> None:
        self._enter(_THINKING)
        self._block = True
        self._block_from = len(self._thinking)
        self.answer_from = None

    def _enter(self, state: int) -> None:
        self._state = state
        thinking = state == _THINKING
        self._part = "thinking" if thinking else "answer"
        self._add = (self._thinking if thinking else self._answer).append
        self._trail = WHITESPACE if thinking else ""
        # "" is in every text: there every character asks for a closer look.
        self._mark = {_PLAIN: self._outside.mark, _ANSWER: "\0"}.get(state, "")
        if thinking and self._thinking:
            self._mark = self._inside.mark

    def _recast(self) -> None:
        """A tag shows that what was taken for an answer is thinking."""
        text = self.answer
        rest = text.lstrip(WHITESPACE)
        body = rest.rstrip(WHITESPACE)
        self._thinking.append(_after_tag(text[: len(text) - len(rest)]) + body)
        self._space = [rest[len(body) :]] if len(body) < len(rest) else []
        self._answer.clear()
        self.recast = True

    def _think(self, text: str) -> list[Piece]:
        """Add to the thinking; whitespace waits until something follows it."""
        body = text.rstrip(WHITESPACE)
        piece = ""
        if body:
            piece = "".join([*self._space, body])
            self._space.clear()
            if not self._thinking:
                rest = piece.lstrip(WHITESPACE)
                piece = _after_tag(piece[: len(piece) - len(rest)]) + rest
                self._mark = self._inside.mark
            self._thinking.append(piece)
        if len(body) < len(text):
            self._space.append(text[len(body) :])
        return [_new(Piece, ("thinking", piece))] if piece else []

    def _reply(self, text: str) -> list[Piece]:
        """Add to the answer."""
        if not text:
            return []
        self._answer.append(text)
        return [_new(Piece, ("answer", text))]

    def _before(self) -> str:
        """The last three characters before a tag, of the text since the tag before it."""
        if self._space:
            return self._space[-1][-3:]
        parts, first = (self._thinking, self._block_from) if self._state == _THINKING else (self._answer, 0)
        return "".join(parts[max(first, len(parts) - 3) :])[-3:]


class TokenSplitter:
    """Splits a stream of token ids: detokenises them as they come and feeds a `Splitter`.

    `decode` turns ids into text; it must keep special tokens that are tags, and must not tidy up spaces (for
    transformers: `skip_special_tokens=False, clean_up_tokenization_spaces=False`). Each call decodes a short window,
    so the time is linear. A character whose bytes lie in several tokens is held back until it is whole; bytes that
    never become one come out as U+FFFD.

    Every token is counted once. A thinking token is one that begins before the end of the tag that closed the
    thinking, so tags count as thinking, and so does a token that holds the end of the tag and the start of the answer.
    A token begins where the text of the tokens before it ends; one without text (an end-of-turn id that `decode`
    skips) begins there too. While the thinking is open all tokens are thinking tokens; without thinking all are the
    answer's.
    """

    def __init__(self, decode: Callable[[list[int]], str], tags: Tags = THINK, opened: bool = False) -> None:
        self._splitter = Splitter(tags, opened)
        self._text = Detokeniser(decode)
        self._begins: list[int] = []  # for each token, the characters before it

    @property
    def status(self) -> ThinkingStatus:
        """How the thinking stands so far; final after `finish`."""
        return self._splitter.status

    @property
    def thinking(self) -> str:
        """The thinking so far, joined anew at each access."""
        return self._splitter.thinking

    @property
    def answer(self) -> str:
        """The answer so far, joined anew at each access."""
        return self._splitter.answer

    @property
    def recast(self) -> bool:
        """See `Splitter.recast`."""
        return self._splitter.recast

    @property
    def thinking_tokens(self) -> int:
        """Tokens fed so far that belong to the thinking."""
        border = self._splitter.answer_from
        return len(self._begins) if border is None else bisect_left(self._begins, border)

    @property
    def answer_tokens(self) -> int:
        """Tokens fed so far that belong to the answer."""
        return len(self._begins) - self.thinking_tokens

    def feed(self, token_id: int) -> list[Piece]:
        """Take the next token; return the pieces that it decides, in order."""
        self._begins.append(self._text.characters)
        return self._splitter.feed(self._text.feed(token_id))

    def finish(self) -> list[Piece]:
        """The tokens are over: return what was held back."""
        return self._splitter.feed(self._text.finish()) + self._splitter.finish()


def tokens_before(decode: Callable[[Sequence[int]], str], tokens: Sequence[int], border: int) -> int:
    """How many tokens begin before character `border`; the text of a prefix only ever grows, so halving finds it."""
    if border <= 0:
        return 0
    return bisect_left(range(len(tokens)), border, key=lambda count: len(decode(tokens[:count]).rstrip(REPLACEMENT)))


class Detokeniser:
    """Turns token ids into text as they come.

    A token's text may depend on its neighbours (bytes of one character; a leading space), so a window of recent tokens
    is decoded, and what it adds is new text unless it ends in U+FFFD, which may be the beginning of a character. The
    window is only ever cut where characters were whole, because decoders with byte fallback void a whole run of bytes
    if one is missing.
    """

    WINDOW = 16  # tokens; a longer window is cut at the next chance
    WAIT = 4  # tokens without a whole character; UTF-8 needs no more, so there U+FFFD is meant

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._text = ""  # of the window
        self._shown = 0  # characters of _text handed out
        self._waiting = 0  # tokens since the text was last whole
        self._total = 0  # characters handed out

    @property
    def characters(self) -> int:
        """Whole characters so far, held back or not."""
        return self._total + max(0, len(self._text.rstrip(REPLACEMENT)) - self._shown)

    def feed(self, token_id: int) -> str:
        """The text that this token completes; "" while a character is incomplete."""
        text = self._decode([*self._window, token_id])
        if text == self._text and not text.endswith(REPLACEMENT):
            return ""  # a token without text: as context it would be of no use
        self._window.append(token_id)
        self._text = text
        self._waiting += 1
        if not text.endswith(REPLACEMENT):
            return self._show(len(text), context=self._waiting)
        if self._waiting >= self.WAIT:  # not UTF-8; only the last sign may still become a character
            return self._show(len(text) - 1, context=self.WAIT)
        return ""

    def feed_all(self, ids: Sequence[int]) -> str:
        """What feeding them one by one gives, in one decoding where they are whole characters."""
        text = self._decode([*self._window, *ids]) if len(ids) > 1 else REPLACEMENT
        if REPLACEMENT in text:
            return "".join(map(self.feed, ids))
        self._window += ids
        self._text = text
        return self._show(len(text), context=self.WAIT)

    def finish(self) -> str:
        """What is held back."""
        return self._show(len(self._text), context=0)

    def _show(self, stop: int, context: int) -> str:
        """Hand out the window's text up to `stop`; keep at least the last `context` tokens of it."""
        new = self._text[self._shown : stop]
        self._total += len(new)
        self._shown = max(stop, self._shown)
        if self._shown == len(self._text):
            self._waiting = 0
        if len(self._window) > self.WINDOW:
            held = len(self._text) - self._shown
            self._window = self._window[-context:]
            self._text = self._decode(self._window)
            self._shown = len(self._text) - held  # counted from the end: the cut may change the beginning
        return new
