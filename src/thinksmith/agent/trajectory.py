"""A trajectory as one trace: what training learns from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from thinksmith.agent.contract import Step
from thinksmith.records import Trace


def joined(steps: Sequence[Step], decode: Callable[[Sequence[int]], str] | None = None) -> Trace:
    """All steps of a trajectory whose history are ids (`idstalk.py`), as one trace.

    `prompt_ids` are the first step's, `token_ids` all that the engine read and sampled after it: what it sampled with
    the log-probabilities of sampling, and between that, in `forced`, what it only read (ends of turns, tool output, the
    opening of its turns), with log-probability 0. So the forward pass of training sees what sampling saw, and nothing
    is learnt of what somebody else said. `thinking` is that of all steps, `answer` and `finish` are the last one's;
    `thinking_tokens` and `answer_tokens` count what was sampled. `completion` is the text, of `decode` where it is
    given.

    Raises ValueError for no steps, and for steps whose prompt does not begin with all that came before.
    """
    if not steps:
        raise ValueError("a trajectory without a step is no trace")
    traces = [step.trace for step in steps]
    first, last = traces[0], traces[-1]
    ids: list[int] = []
    logprobs: list[float] | None = []
    forced: list[int] = []
    for trace in traces:
        before = (*first.prompt_ids, *ids)
        if trace.prompt_ids[: len(before)] != before or not trace.prompt_ids:
            raise ValueError("a step was not asked with the ids of those before it: its history is not one of ids")
        read = trace.prompt_ids[len(before) :]
        forced += range(len(ids), len(ids) + len(read))
        ids += read
        forced += [len(ids) + place for place in trace.forced]
        ids += trace.token_ids
        logprobs = (
            None if logprobs is None or trace.logprobs is None else [*logprobs, *[0.0] * len(read), *trace.logprobs]
        )
    return replace(
        first,
        thinking="\n\n".join(trace.thinking for trace in traces if trace.thinking),
        answer=last.answer,
        thinking_status=last.thinking_status,
        token_ids=tuple(ids),
        logprobs=None if logprobs is None else tuple(logprobs),
        thinking_tokens=sum(trace.thinking_tokens for trace in traces),
        answer_tokens=sum(trace.answer_tokens for trace in traces),
        finish=last.finish,
        seconds=sum(trace.seconds for trace in traces),
        completion=_exact(ids, last, decode) if decode else _text(steps),
        error=last.error,
        forced=tuple(forced),
        top_logprobs=None,
    )


def _exact(ids: Sequence[int], last: Trace, decode: Callable[[Sequence[int]], str]) -> str:
    """As it was read and sampled; the last turn without its end, as in every trace."""
    return decode(ids[: len(ids) - len(last.token_ids)]) + last.completion


def _text(steps: Sequence[Step]) -> str:
    """What was said, one below the other, for readers."""
    said = []
    for place, step in enumerate(steps):
        said.append(step.trace.completion if place == 0 else step.trace.text)
        said += [f"<tool_response>\n{observation.text}\n</tool_response>" for observation in step.observations]
    return "\n".join(said)
