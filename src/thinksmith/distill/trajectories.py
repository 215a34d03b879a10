"""Trajectories as a student learns them: every turn of its own, and nothing of what was said to it.

An agent's stored attempt has its ids, which are learnt as they were sampled. A conversation with tool turns is written
turn by turn as inference would read and sample it: the prompt, then each of the assistant's turns with the token that
ends it, and between them what the template writes there, which is read and not learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy
from thinksmith.records import Attempt, Message
from thinksmith.training.batches import Example

KEY = "trajectory"
"""Of a sample's `meta`: the ids of an agent's attempt."""
OTHER_IDS = "a trajectory in the ids of another tokenizer"


def ids_of(attempt: Attempt) -> dict[str, Any]:
    """What is kept of an agent's attempt beside its text; nothing of any other."""
    trace = attempt.trace
    if "steps" not in attempt.notes or not trace.prompt_ids or not trace.token_ids:
        return {}
    ids = {
        "prompt_ids": list(trace.prompt_ids),
        "token_ids": list(trace.token_ids),
        "forced": list(trace.forced),
        "completion": trace.completion,
    }
    return {KEY: ids}


def recorded(kept: Mapping[str, Any], policy: Policy) -> Example | str:
    """The example of what `ids_of` kept; or why there is none."""
    prompt, ids = tuple(kept["prompt_ids"]), tuple(kept["token_ids"])
    inside = max((*prompt, *ids)) < policy.vocab_size
    if not inside or not policy.decode(ids).startswith(str(kept["completion"])):
        return OTHER_IDS
    return Example(prompt, ids, tuple(kept["forced"]))


def has_tools(messages: Sequence[Message]) -> bool:
    """Whether a prompt is a conversation in which tools were called."""
    return any(message["role"] == "tool" for message in messages)


def cut_at_turns(messages: Sequence[Message]) -> tuple[list[Message], list[tuple[Message, list[Message]]]]:
    """The prompt before the assistant's first turn; then each of its turns with what was said to it after that."""
    opening: list[Message] = []
    turns: list[tuple[Message, list[Message]]] = []
    for message in messages:
        if message["role"] == "assistant":
            turns.append((message, []))
        elif turns:
            turns[-1][1].append(message)
        else:
            opening.append(message)
    return opening, turns


def put_together(
    policy: Policy,
    opening: Sequence[Message],
    turns: Sequence[tuple[tuple[int, ...], Sequence[Message]]],
    tools: Sequence[Mapping[str, Any]] = (),
) -> Example | None:
    """The example of a conversation: `turns` are the ids of each of the assistant's, its end included, and what was
    said after it. None where the template refuses it."""
    try:
        prompt = policy.render(opening, tools=tools).ids
        ids: list[int] = []
        given: list[int] = []
        for turn, said in turns:
            ids += turn
            if said:
                read = policy.turn(said, ended=True)
                given += range(len(ids), len(ids) + len(read))
                ids += read
    except UserError:
        return None
    return Example(prompt, tuple(ids), tuple(given))
