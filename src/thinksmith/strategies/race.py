"""Draw until the verifier says that one is right."""

from __future__ import annotations

import asyncio

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.records import Problem, Sampling, Trace, Verdict
from thinksmith.strategies.contract import Outcome, Strategy
from thinksmith.strategies.draws import draw, spent
from thinksmith.verify import verify


def race(sampling: Sampling, *, most: int = 8, step: int = 1, sample: int = 0) -> Strategy:
    """The first of at most `most` draws that the verifier calls correct, `step` of them asked for at a time.

    **It looks at the gold answer**, through the verifier: its accuracy is pass@`most` of the same draws, at the price
    of those up to the first right one. So it fits where the verifier is part of the task and not of the exam: programs
    with tests, puzzles that are checked by their rule, making training data. Source: repeated sampling with a verifier
    (Brown et al. 2024, "Large language monkeys", arXiv:2407.21787).

    Cost: with a share p of right draws (1 - (1 - p)^most) / p draws on average; a larger `step` is answered sooner and
    spends up to `step` - 1 draws more. A wave that was begun is paid for whole: of a request that is cancelled nobody
    would know the tokens. Helps where the verifier is there when the answer is needed, and a few draws mostly do.
    """
    if most < 1:
        raise UserError(f"race needs at least one draw, not most={most}")
    if not 1 <= step <= most:
        raise UserError(f"race asks for 1 to {most} draws at a time (step), not {step}")

    async def strategy(problem: Problem, engine: Engine) -> Outcome:
        traces: list[Trace] = []
        last = Verdict("no_answer")
        while len(traces) < most:
            first = sample * most + len(traces)
            wave = await draw(problem, engine, sampling, range(first, first + min(step, most - len(traces))))
            for number, trace in enumerate(wave, len(traces) + 1):
                last = await asyncio.to_thread(verify, problem, trace)
                if last.correct:
                    traces += wave
                    why = f"draw {number} of at most {most} was right"
                    return Outcome(trace.answer, tuple(traces), spent(traces), why, trace, {"won": number})
            traces += wave
            if last.status == "bad_gold":  # no draw can ever be right
                break
        why = (
            f"the gold answer cannot be used: {last.reason}"
            if last.status == "bad_gold"
            else f"none of {most} was right"
        )
        answered = next((trace for trace in traces if trace.finish == "stop" and trace.answer.strip()), traces[0])
        return Outcome(answered.answer, tuple(traces), spent(traces), why, answered, {"won": 0})

    return strategy
