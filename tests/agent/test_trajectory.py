"""A trajectory as one trace: all that was read and sampled, and nothing learnt but what was sampled."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.contract import Step
from thinksmith.agent.idstalk import IdsTalk
from thinksmith.agent.trajectory import joined
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.records import Message, Sampling, Trace
from thinksmith.training.batches import Example, pad
from thinksmith.training.micro import micros
from thinksmith.training.sft import summed_loss


@cache
def played(said: str = "Wait, 84 <|im_end|> is not </think> it.") -> tuple[Policy, tuple[Step, ...]]:
    """Three turns of tiny's, with results of tools between them."""
    policy = load_policy("tiny", dtype="float32")
    engine = LocalEngine(policy)
    talk = IdsTalk(engine)
    talk.hear([Message(role="user", content="What is 12 * 7?")])
    steps = []
    for number in range(3):
        (trace,) = asyncio.run(
            engine.sample(talk.request(Sampling(temperature=1.0, seed=number, max_tokens=48), (), "auto"))
        )
        steps.append(Step(number, "act", trace))
        talk.say(trace, Message(role="assistant", content=trace.answer))
        talk.hear([Message(role="tool", content=said)])
    engine.close()
    return policy, tuple(steps)


def test_its_ids_are_what_the_engine_saw() -> None:
    policy, steps = played()
    trace = joined(steps, policy.decode)
    last = steps[-1].trace
    assert trace.prompt_ids + trace.token_ids == last.prompt_ids + last.token_ids
    sampled = [number for place, number in enumerate(trace.token_ids) if place not in set(trace.forced)]
    assert sampled == [number for step in steps for number in step.trace.token_ids]
    assert trace.logprobs is not None
    assert len(trace.logprobs) == len(trace.token_ids)
    assert [trace.logprobs[place] for place in trace.forced] == [0.0] * len(trace.forced)
    assert trace.completion.startswith(steps[0].trace.completion)
    assert trace.completion.endswith(last.completion)
    assert trace.answer == last.answer
    assert trace.thinking_tokens + trace.answer_tokens == len(sampled)


def test_the_forward_of_training_gives_what_was_sampled_its_log_probability() -> None:
    """Promise 3, over all turns in one pass: to 1e-4."""
    policy, steps = played()
    trace = joined(steps)
    ids = torch.tensor([trace.prompt_ids + trace.token_ids])
    with torch.no_grad():
        expected = torch.log_softmax(policy.model(ids).logits[0].double(), -1)
    start = len(trace.prompt_ids)
    assert trace.logprobs is not None
    for place, (number, logprob) in enumerate(zip(trace.token_ids, trace.logprobs, strict=True)):
        if place not in set(trace.forced):
            assert abs(float(expected[start + place - 1, number]) - logprob) < 1e-4
    (micro,) = micros(policy, [example_of(trace)], 4096)
    with torch.no_grad():
        found = micro.score(policy, False, 1.0).logprobs_N
    kept = [value for place, value in enumerate(trace.logprobs) if place not in set(trace.forced)]
    torch.testing.assert_close(found, torch.tensor(kept), atol=1e-4, rtol=0)


def example_of(trace: Trace) -> Example:
    return Example(trace.prompt_ids, trace.token_ids, trace.forced)


def test_what_was_only_read_has_no_part_in_the_loss() -> None:
    """The trainer's loss is that of labels which leave every such token out; their gradient is zero."""
    policy, steps = played()
    trace = joined(steps)
    batch = pad([example_of(trace)], [0], 0)
    loss = summed_loss(policy.model, policy.model.get_decoder(), batch)
    policy.model.zero_grad()
    (gradient,) = torch.autograd.grad(loss, [policy.model.model.norm.weight])
    labels = batch.input_ids_BT.clone()
    labels[0, : len(trace.prompt_ids)] = -100
    for place in trace.forced:
        labels[0, len(trace.prompt_ids) + place] = -100
    labels[0, batch.tokens :] = -100
    logits = policy.model(batch.input_ids_BT).logits[0, :-1]
    plain = torch.nn.functional.cross_entropy(logits, labels[0, 1:], ignore_index=-100, reduction="sum")
    (expected,) = torch.autograd.grad(plain, [policy.model.model.norm.weight])
    torch.testing.assert_close(loss, plain, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(gradient, expected, rtol=1e-3, atol=1e-3)
    assert trace.forced
    assert batch.completion_BT.sum() == len(trace.token_ids) - len(trace.forced)


Turn = tuple[list[int], list[int], list[int]]
"""What is read before it, what is sampled, and the positions in it that the engine forced."""
IDS = st.lists(st.integers(0, 9), min_size=1, max_size=5)
TURNS = st.lists(st.tuples(IDS, IDS, st.lists(st.integers(0, 4), unique=True)), min_size=1, max_size=5)


def steps_of(turns: list[Turn]) -> list[Step]:
    steps, before = [], ()
    for number, (read, sampled, forced) in enumerate(turns):
        prompt = (*before, *read)
        given_ = tuple(sorted(place for place in forced if place < len(sampled)))
        logprobs = tuple(-float(number) for number in sampled)
        trace = Trace("", "", token_ids=tuple(sampled), prompt_ids=prompt, logprobs=logprobs, forced=given_)
        steps.append(Step(number, "act", trace))
        before = (*prompt, *sampled)
    return steps


@given(TURNS)
def test_of_any_turns_nothing_is_lost_or_learnt_twice(turns: list[Turn]) -> None:
    steps = steps_of(turns)
    trace = joined(steps)
    learnt = [place for place in range(len(trace.token_ids)) if place not in set(trace.forced)]
    free = [
        (number, -float(number))
        for step in steps
        for place, number in enumerate(step.trace.token_ids)
        if place not in step.trace.forced
    ]
    assert trace.logprobs is not None
    assert [(trace.token_ids[place], trace.logprobs[place]) for place in learnt] == free
    assert list(trace.forced) == sorted(set(trace.forced))
    last = steps[-1].trace
    assert trace.prompt_ids + trace.token_ids == last.prompt_ids + last.token_ids


def test_a_history_of_messages_is_refused() -> None:
    first, second = steps_of([([1], [2], []), ([3], [4], [])])
    for wrong in ((9, 9, 9), ()):
        changed = replace(second, trace=replace(second.trace, prompt_ids=wrong))
        with pytest.raises(ValueError, match="history"):
            joined([first, changed])
    with pytest.raises(ValueError, match="without a step"):
        joined([])
    assert joined([first, replace(second, trace=replace(second.trace, logprobs=None))]).logprobs is None
