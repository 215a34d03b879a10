"""Answer, be told what is wrong, try again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Message, Problem, Request, Sampling, Trace
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw, spent
from thinksmith.strategies.feedback import feedback
from thinksmith.strategies.single import problem_seed
from thinksmith.verify import verify

CHECK = (
    "Check your answer to the problem above, step by step, and look for mistakes. "
    "Do not solve it anew if you find none. End with one line that is exactly\nVERDICT: right\nor\nVERDICT: wrong"
)
AGAIN = "Correct the mistakes that were found, and answer the problem again in the form that it asks for."
_WRONG = re.compile(r"VERDICT:\W*wrong\W*\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Critique:
    """What a critic says of the last attempt: the turns that come next in the conversation (none: no more), and `why`
    there are none. `traces` is what it sampled to find out."""

    turns: tuple[Message, ...] = ()
    why: str = ""
    traces: tuple[Trace, ...] = ()


_Critic = Callable[[Trace, tuple[Message, ...], int], Awaitable[_Critique]]
"""Of (the attempt, the conversation up to and with it, the round)."""


def refine(
    sampling: Sampling,
    *,
    rounds: int = 3,
    by: Literal["verifier", "self", "tests"] = "verifier",
    sample: int = 0,
) -> Strategy:
    """An answer, a critique, and another answer in the same conversation, at most `rounds` times, until the critic is
    content.

    `by=verifier` and `by=tests` **look at the gold answer**, through the verifier: it says right or wrong, and why only
    where that follows from the problem (a countdown's rule, the message of the test that a program fails), never what
    was expected (`feedback`). `tests` is for programs alone, and refuses other problems. `by=self` asks the model to
    check itself and does not look at it. What was thought in earlier turns goes along as the messages' `thinking`;
    whether a model is shown it is its template's affair.

    Source: Self-Refine (Madaan et al. 2023, arXiv:2303.17651); for programs Self-Debug (Chen et al. 2023,
    arXiv:2304.05128). Cost: an attempt a round, with `self` a critique besides, and prompts that grow. It helps where
    the critic knows something that the model does not, so with tests and verifiers; without, models of reasoning seldom
    gain (Huang et al. 2023, arXiv:2310.01798). A model must have learnt to go on with a conversation.
    """
    if rounds < 1:
        raise UserError(f"refine needs at least one round, not rounds={rounds}")

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        if by == "tests" and problem.kind != "code":
            raise UserError(f"refine by=tests is for programs, and {problem.id} is of kind {problem.kind}: by=verifier")
        talk = _Talk(problem, engine, sampling, sample)
        critic = talk.check_itself if by == "self" else _by_verifier(problem)
        (attempt,) = await draw(problem, engine, sampling, [sample])
        traces, attempts, messages = [attempt], [attempt], problem.messages
        why = f"the critic was not content in {rounds} rounds"
        for number in range(1, rounds + 1):
            messages = (*messages, _said(attempt))
            critique = await critic(attempt, messages, number)
            traces += critique.traces
            if not critique.turns:
                why = critique.why
                break
            messages = (*messages, *critique.turns)
            attempt = await talk.ask(messages, "attempt", number)
            traces.append(attempt)
            attempts.append(attempt)
        best = _last_answer(attempts)
        return Outcome(best.answer, tuple(traces), spent(traces), why, best, {"attempts": len(attempts)})

    return strategy


@dataclass(frozen=True, slots=True)
class _Talk:
    """The conversation about one problem with one model; each turn has a seed of its own."""

    problem: Problem
    engine: Engine
    sampling: Sampling
    sample: int

    async def ask(self, messages: tuple[Message, ...], what: str, number: int) -> Trace:
        seed = problem_seed(self.sampling.seed, f"{self.problem.id}\0{what} {number}", self.sample)
        (trace,) = await self.engine.sample(Request(messages=messages, sampling=replace(self.sampling, seed=seed)))
        return trace

    async def check_itself(self, attempt: Trace, messages: tuple[Message, ...], number: int) -> _Critique:
        """The critic of `by=self`. It is content unless it ends by saying "wrong"."""
        asked = Message(role="user", content=CHECK)
        told = await self.ask((*messages, asked), "check", number)
        if not _WRONG.search(told.answer.strip()):
            return _Critique(why=f"the model found no mistake in attempt {number}", traces=(told,))
        return _Critique((asked, _said(told), Message(role="user", content=AGAIN)), traces=(told,))


def _by_verifier(problem: Problem) -> _Critic:
    async def critic(attempt: Trace, messages: tuple[Message, ...], number: int) -> _Critique:
        verdict = await asyncio.to_thread(verify, problem, attempt)
        if verdict.correct:
            return _Critique(why=f"attempt {number} was right")
        if verdict.status in ("error", "bad_gold"):  # nothing that the model could mend
            return _Critique(why=f"attempt {number} could not be judged: {verdict.reason}")
        text = await asyncio.to_thread(feedback, problem, attempt, verdict)
        return _Critique((Message(role="user", content=text),))

    return critic


def _said(trace: Trace) -> Message:
    """The trace as a turn of the conversation. One without an answer says so: some templates refuse an empty turn."""
    said = Message(role="assistant", content=trace.answer.strip() or "(no answer)")
    if trace.thinking:
        said["thinking"] = trace.thinking
    return said


def _last_answer(attempts: Sequence[Trace]) -> Trace:
    """The last attempt that came to its end; without one, the first that did not fail."""
    ended = [trace for trace in attempts if trace.finish == "stop" and trace.answer.strip()]
    return ended[-1] if ended else next((trace for trace in attempts if trace.finish != "error"), attempts[0])
