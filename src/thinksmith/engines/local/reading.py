"""A completion read as it grows: its text, and the pieces of it that are settled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thinksmith.policy.policy import Policy
from thinksmith.thinking import Detokeniser, Piece, Splitter

if TYPE_CHECKING:
    from thinksmith.engines.local.rows import Job, Row


class Text:
    """The text so far, and its pieces; what may become a stop string is held back."""

    def __init__(self, policy: Policy, job: Job) -> None:
        self._detokeniser = Detokeniser(policy.decode)
        self._plain = job.request.plain
        self._splitter = Splitter(policy.tags)
        self._splitter.feed(job.opened)
        self.text = ""
        self._shown = 0

    def feed(self, token: int, stops: Sequence[str]) -> tuple[int | None, list[Piece]]:
        """Take a token; return where a stop string begins (None: nowhere) and the pieces that are settled."""
        old = len(self.text)
        self.text += self._detokeniser.feed(token)
        found = [at for stop in stops if (at := self.text.find(stop, max(0, old - len(stop) + 1))) >= 0]
        if found:
            return min(found), []
        safe = min((_tail(self.text, stop) for stop in stops), default=len(self.text))
        pieces = self._split(self.text[self._shown : safe])
        self._shown = max(safe, self._shown)
        return None, pieces

    def feed_all(self, tokens: Sequence[int]) -> list[Piece]:
        """Take tokens of a completion that no stop string can end."""
        self.text += (new := self._detokeniser.feed_all(tokens))
        self._shown = len(self.text)
        return self._split(new)

    def finish(self, cut: str | None) -> list[Piece]:
        """What was held back. `cut` is the whole text, where a stop string ended it."""
        if cut is None:
            self.text += self._detokeniser.finish()
            cut = self.text
        return self._split(cut[self._shown :]) + ([] if self._plain else self._splitter.finish())

    def _split(self, text: str) -> list[Piece]:
        if self._plain:
            return [Piece("answer", text)] if text else []
        return self._splitter.feed(text)


def _tail(text: str, stop: str) -> int:
    """Where the longest end of `text` begins that is a beginning of `stop`."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return len(text) - length
    return len(text)


class Reading:
    """One row, read by another thread than the engine's while that goes on: only tokens that are there are looked at.

    A row that begins again for want of memory has fewer tokens for a while, and samples the same ones: none is read
    twice.
    """

    def __init__(self, policy: Policy, job: Job) -> None:
        sampling = job.request.sampling
        self._text = Text(policy, job)
        self._stops = tuple(filter(None, sampling.stop))
        self._ends = {*policy.eos_ids, *sampling.stop_ids}
        self._read = 0  # tokens
        self._cut = False  # by a stop string

    def more(self, row: Row) -> list[Piece]:
        """The pieces that have come."""
        new = row.tokens[self._read :]
        self._read += len(new)
        tokens = [token for token in new if token not in self._ends]
        if not self._stops:
            return self._text.feed_all(tokens)
        pieces: list[Piece] = []
        for token in tokens:
            if not self._cut:
                at, found = self._text.feed(token, self._stops)
                self._cut = at is not None
                pieces += found
        return pieces

    def last(self, row: Row) -> list[Piece]:
        """What is left, of a row that has ended."""
        return [*self.more(row), *self._text.finish(row.text)]
