"""One completion of an endpoint: its calls, what is done when one breaks, and the bounds of its thinking.

**A stream that breaks** is gone on with where the endpoint can (`continuing.py`), and else asked for again; then what
was told is taken back by a `reset`, and its tokens count as lost, not as sampled.

**Budgets.** `max_thinking_tokens` goes to the server where it has a field for it. Else the first call may sample so
many tokens; if it is still thinking then, the end tag is put behind it (with `closing` before), and a second call
goes on from there: budget forcing (Muennighoff et al. 2025, arXiv:2501.19393). `min_thinking_tokens`: a thinking that
ended too early is opened again behind `wait`; the answer that had come is lost.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from thinksmith.engines.contract import Delta
from thinksmith.engines.remote import dialects
from thinksmith.engines.remote.continuing import Continuing, cannot
from thinksmith.engines.remote.dialects.piece import Ask, Said
from thinksmith.engines.remote.draft import Draft
from thinksmith.engines.remote.names import Endpoint
from thinksmith.engines.remote.wire.client import Client, Progress
from thinksmith.engines.remote.wire.faults import Broken, Fault, Refused
from thinksmith.errors import UserError
from thinksmith.records import Request, Sampling

BREAKS = 4
"""Calls that may break in the middle of one completion."""
WAITS = 8
"""Times that a thinking is opened again."""
SLACK = 32
"""Tokens by which a thinking may pass its budget: servers end it at a sentence, or at their next look."""


class Turn:
    """One completion in the making: `deltas` makes it, `draft` is what there is of it."""

    def __init__(self, endpoint: Endpoint, client: Client, request: Request, sampling: Sampling) -> None:
        self._endpoint, self._client = endpoint, client
        self._sampling = sampling
        self._continuing = Continuing(endpoint, client)
        self.draft = Draft(prefill=request.prefill)
        self._breaks = self._waits = 0
        self._ask = self._first_ask(request)
        self._forcing = self._forces()
        self._check_law(request)

    def _first_ask(self, request: Request) -> Ask:
        endpoint, sampling = self._endpoint, self._sampling
        think, budget = endpoint.think, sampling.max_thinking_tokens
        if budget == 0 and endpoint.preset.switch:
            think, budget = False, None
        return Ask(
            endpoint,
            sampling,
            sampling.max_tokens,
            messages=request.messages,
            prompt=request.token_ids,
            budget=budget if endpoint.preset.budget else None,
            think=think,
            streamed=endpoint.streamed,
            tools=request.tools,
            tool_choice=request.tool_choice,
            schema=request.schema,
        )

    def _forces(self) -> bool:
        """Is the budget ours to keep? Raises UserError where nobody can."""
        sampling, continuing = self._sampling, self._continuing
        if sampling.min_thinking_tokens and not continuing.anywhere:
            raise UserError(cannot(self._endpoint, "think longer than it wants to (min_thinking_tokens)"))
        if sampling.max_thinking_tokens is None or self._ask.budget is not None or self._ask.think is False:
            return False
        if self._ask.raw or not continuing.answers:
            raise UserError(cannot(self._endpoint, "bound the thinking (max_thinking_tokens)"))
        return True

    def _check_law(self, request: Request) -> None:
        """A server holds a whole answer to a schema, or to be a call; not one that begins in the middle of a turn."""
        compulsory = request.tool_choice not in ("auto", "none")
        if compulsory and not self._endpoint.preset.chooses:
            raise UserError(f"{self._endpoint.kind} cannot be told that a tool must be called: leave tool_choice auto")
        if not compulsory and request.schema is None:
            return
        if self._ask.raw or request.prefill or self._forcing or self._sampling.min_thinking_tokens:
            what = "go on with a turn by a schema, or with a call that must be made"
            raise UserError(
                f"{self._endpoint.kind} at {self._endpoint.base} cannot {what}: leave out the prefill and the budget"
            )

    async def deltas(self) -> AsyncGenerator[Delta]:
        """The pieces as they come; the trace is the engine's to make. Raises Fault, UserError."""
        draft = self.draft
        begun = self._goes_on()
        while True:
            ask = replace(self._ask, max_tokens=self._allowed())
            if begun:
                before = draft.parts.answer
                ask = await self._continuing.ask(ask, draft)
                if draft.parts.answer != before:  # the template opened a thinking that was told as answer
                    draft.recast()
                    yield Delta("reset")
                    for piece in dialects.reader(ask, draft.tags, draft.is_open, draft.text).turn.so_far:
                        yield Delta(piece.part, piece.text)
            reader = dialects.reader(ask, draft.tags, draft.is_open, draft.text)
            call = dialects.call(ask)
            draft.note(*call.notes)
            progress, came, told, recast = Progress(), False, False, False
            fault: Fault | None = None
            try:
                events = self._client.call(call.path, call.body, framing=call.framing, progress=progress)
                async with aclosing(events):
                    async for event in events:
                        came = True
                        pieces = reader.feed(event.data)
                        if reader.turn.recast and not recast:  # an end tag without a start: all of it again
                            recast, pieces = True, reader.turn.so_far
                            draft.recast()
                            yield Delta("reset")
                        for piece in pieces:
                            draft.saw(piece.part)
                            told = True
                            yield Delta(piece.part, piece.text)
            except Fault as caught:
                if not (came and caught.retryable):
                    raise
                fault = caught
            draft.calls += progress.tries
            said = reader.finish()
            if not said.ended:
                fault = fault or Broken(f"{self._endpoint.base} ended the answer without a reason")
                begun = self._after_break(fault, said)
                if told and not draft.text:
                    yield Delta("reset")
                continue
            for piece in said.rest:
                draft.saw(piece.part)
                yield Delta(piece.part, piece.text)
            draft.add(said)
            thinking, waits = draft.parts.thinking, self._waits
            if not self._next(said):
                self._look_back()
                return
            begun = self._goes_on()
            if self._waits > waits or not draft.text:  # what was told is taken back
                yield Delta("reset")
                thinking = ""
            if more := draft.parts.thinking.removeprefix(thinking):
                yield Delta("thinking", more)

    def _allowed(self) -> int:
        """Tokens that the next call may sample."""
        left = self._sampling.max_tokens - self.draft.sampled
        budget = self._sampling.max_thinking_tokens
        if self._forcing and budget is not None and self.draft.place != "answer":
            left = min(left, budget - self.draft.thinking_tokens)
        return max(1, left)

    def _after_break(self, fault: Fault, said: Said) -> bool:
        """Is the turn gone on with from what came (or does it begin again)? Raises the fault when it broke too
        often.
        """
        self._breaks += 1
        if self._breaks > BREAKS:
            raise fault
        draft = self.draft
        kept = draft.text, draft.thinking_tokens, draft.answer_tokens
        draft.add(replace(said, counted="estimate"))
        lawful = self._ask.tools or self._ask.schema is not None  # calls come whole, and so do answers by a schema
        if not said.completion or lawful or not self._continuing.sure(draft):
            draft.text, draft.thinking_tokens, draft.answer_tokens = kept
            draft.lose(said)
            if not draft.text:
                draft.first.clear()
        return self._goes_on()

    def _goes_on(self) -> bool:
        """Is the next call one that goes on? With a budget to keep, raw completions do from the start:

        they tell what the template opened.
        """
        return bool(self.draft.whole) or (self._forcing and self._continuing.raw)

    def _next(self, said: Said) -> bool:
        """Is there another call to make? What stands in the turn before it is put there."""
        draft, sampling, tags = self.draft, self._sampling, self.draft.tags
        left = sampling.max_tokens - draft.sampled
        if left <= 0 or said.finish not in ("length", "stop"):
            return False
        if said.finish == "length" and self._forcing:
            if draft.place == "answer" and not self._continuing.sure(draft):
                return self._without_budget(said)
            if draft.place != "answer":
                start = "" if draft.place == "thinking" or draft.is_open else f"{tags.start}\n"
                draft.text += f"{start}{sampling.closing}\n{tags.end}\n\n"
            return True  # in the answer, the first call had the budget of both
        early = draft.parts.status == "closed" and draft.thinking_tokens < sampling.min_thinking_tokens
        if said.finish == "stop" and early and self._waits < WAITS:
            self._waits += 1
            self._reopen()
            return True
        return False

    def _without_budget(self, said: Said) -> bool:
        """The first call brought an answer without a thinking, cut at the thinking's budget: it is asked for again."""
        self._forcing = False
        self.draft.lose(said)
        self.draft.text, self.draft.thinking_tokens, self.draft.answer_tokens = "", 0, 0
        self.draft.note("no thinking was told apart, so its budget could not be kept: asked again without it")
        return True

    def _reopen(self) -> None:
        """The answer and the end of the thinking are taken back, and it is made to go on."""
        draft = self.draft
        start = "" if draft.is_open else f"{draft.tags.start}\n"
        draft.text = f"{start}{draft.parts.thinking}\n{self._sampling.wait}"
        draft.lost_tokens += draft.answer_tokens
        draft.answer_tokens = 0

    def _look_back(self) -> None:
        """Notice what the server ignored."""
        draft, most = self.draft, self._sampling.max_thinking_tokens
        if most is not None and not self._forcing and draft.thinking_tokens > most + max(SLACK, most // 10):
            draft.note(f"the server ignored the thinking budget: {draft.thinking_tokens:,} tokens of {most:,}")
        if draft.sampled > self._sampling.max_tokens + SLACK:
            draft.note(f"the server ignored max_tokens: {draft.sampled:,} tokens of {self._sampling.max_tokens:,}")
        if self._ask.think is False and draft.parts.thinking:
            draft.note("the server was told not to think, and thought")


def is_models_own(fault: Fault) -> bool:
    """Is this the failure of one request, and not of the endpoint? Then it is a trace with an error."""
    return isinstance(fault, Refused) and fault.status not in (404, 405)
