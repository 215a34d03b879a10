"""A sample as the student learns it: the ids that inference would read, and those that it would have sampled.

The prompt is rendered as the engine renders it, generation prompt included, and the completion is the text that comes
after that: what the template makes of a finished assistant's turn is never used. Many templates strip the thinking from
it, or write it otherwise, and then training would be on other tokens than inference is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from thinksmith.distill.sample import Sample
from thinksmith.distill.trajectories import KEY, cut_at_turns, has_tools, put_together, recorded
from thinksmith.errors import UserError
from thinksmith.policy.policy import Policy, Rendered
from thinksmith.policy.tools import hermes
from thinksmith.records import Message, ToolCall
from thinksmith.thinking import Tags, is_open, split
from thinksmith.training.batches import Example
from thinksmith.training.supervised.shelf import Shelf

Thinking = Literal["prefilled", "learnt", "template"]

PROBE: tuple[Message, ...] = (Message(role="user", content="How much is 1 + 1?"),)
THOUGHT, SAID = "mmm-thought", "mmm-said"  # words that no template has
CUT = ("length", "error")  # ways to finish that leave no whole trace
# Why a sample is not learnt.
UNFINISHED, EMPTY, REFUSED = "cut off", "without an answer", "its messages are refused by the chat template"
UNWRITABLE, ENDS_INSIDE, ELSE = "not writable by the tokenizer", "an end of turn inside", "not read back as it was"


@dataclass(frozen=True, slots=True)
class Turn:
    """How a student's turn is written, found by asking its template and its tokenizer.

    `opens`: the generation prompt opens the thinking. `end_id`: the token that ends the turn, at which the engine
    stops. `strips`: the template leaves the thinking out of earlier turns. `notes`: a sentence for each thing that a
    user may not expect.
    """

    tags: Tags
    opens: bool
    end_id: int
    strips: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """Samples that can be learnt, in their order, and what is learnt of each; `dropped` counts the others by reason."""

    samples: Sequence[Sample]
    examples: Sequence[Example]
    dropped: Mapping[str, int]


def set_thinking(policy: Policy, thinking: Thinking) -> bool:
    """Have the student's chat template open the thinking (`prefilled`), or leave that to the model (`learnt`); was it
    changed for that?

    It is changed in memory, for training and for whoever samples this policy, and saved with the model. Raises
    UserError where the template cannot be changed so that nothing else of it changes.
    """
    asked = policy.render(PROBE)
    opens = is_open(asked.text, policy.tags)
    if thinking == "template" or opens == (thinking == "prefilled"):
        return False
    template: str = policy.tokenizer.chat_template
    if thinking == "prefilled":
        opened = policy.tags.start + "\n"
        wanted = asked.text + opened
        changed = template.removesuffix("\n") + _opening(opened)
    else:
        wanted = asked.text.removesuffix(asked.opened)
        changed = _without(template, asked.opened)
    _try(policy, template, changed, asked, wanted, thinking)
    return True


def turn_of(policy: Policy) -> Turn:
    """Ask the student's template and tokenizer. Raises UserError where its turns could not end, or not be thought."""
    asked, tags = policy.render(PROBE), policy.tags
    opens = is_open(asked.text, tags)
    if asked.opened and not opens:
        raise UserError(
            f"the chat template of {policy.name} closes the thinking before it begins, so there is none to be learnt: "
            "take its thinking variant, or another student"
        )
    notes = list(_tag_notes(policy, tags))
    end_id, said = _end_of_turn(policy)
    notes += [said] if said else []
    turns = _whole_turns(policy, tags)
    strips = turns is not None and THOUGHT not in turns
    if strips:
        notes.append(
            f"the chat template of {policy.name} strips the thinking from earlier turns: completions are made of its "
            "generation prompt and the text, so all of a sample's thinking is learnt"
        )
    return Turn(tags, opens, end_id, strips, tuple(notes))


def examples_of(samples: Iterable[Sample], policy: Policy, turn: Turn, max_length: int = 0) -> Made:
    """What can be learnt of `samples`. One that is longer than `max_length` tokens (0: the model's context) is dropped,
    since a trace that is cut teaches not to finish."""
    most = max_length or policy.context_length
    kept: list[Sample] = []
    examples = Shelf()
    dropped: Counter[str] = Counter()
    rendered: dict[tuple[tuple[str, str], ...], Rendered | None] = {}
    for sample in samples:
        found = _example(sample, policy, turn, rendered)
        if isinstance(found, Example) and found.tokens > most:
            found = f"longer than {most:,} tokens"
        if isinstance(found, Example):
            kept.append(sample)
            examples.add(found)
        else:
            dropped[found] += 1
    return Made(kept, examples, dict(dropped))


def completion_text(sample: Sample, turn: Turn) -> str:
    """What is sampled after the generation prompt, without the token that ends the turn."""
    return _written(sample.thinking, sample.answer, turn)


def _written(thinking: str, answer: str, turn: Turn) -> str:
    tags, thinking, answer = turn.tags, thinking.strip("\n"), answer.strip("\n")
    if not thinking and not turn.opens:
        return answer
    if tags.answer:
        start = "" if turn.opens else tags.start
        return f"{start}{thinking}{tags.end}{tags.header}{tags.answer}{answer}"
    start = "" if turn.opens else tags.start + "\n"
    return f"{start}{thinking}\n{tags.end}\n\n{answer}"


def _example(
    sample: Sample, policy: Policy, turn: Turn, rendered: dict[tuple[tuple[str, str], ...], Rendered | None]
) -> Example | str:
    """What is learnt of a sample, or why nothing is."""
    if sample.finish in CUT:
        return UNFINISHED
    if not sample.answer.strip():
        return EMPTY
    if KEY in sample.meta:
        return recorded(sample.meta[KEY], policy)
    if has_tools(sample.messages):
        return _conversation(sample, policy, turn)
    prompt = _prompt(sample, policy, rendered)
    if prompt is None:
        return REFUSED
    ids = _turn_ids(sample.thinking, sample.answer, policy, turn, prompt.text.endswith("\n"))
    return ids if isinstance(ids, str) else Example(prompt.ids, ids)


def _conversation(sample: Sample, policy: Policy, turn: Turn) -> Example | str:
    """A conversation with tools: all of the assistant's turns are learnt."""
    last = Message(role="assistant", content=sample.answer, thinking=sample.thinking)
    opening, turns = cut_at_turns([*sample.messages, last])
    written = []
    for message, said in turns:
        calls = [ToolCall(name=call["name"], arguments=call["arguments"]) for call in message.get("tool_calls") or ()]
        answer = "\n".join(filter(None, (message["content"].strip("\n"), hermes(calls))))
        thinking = message.get("thinking", "")
        if not thinking:
            parts = split(answer, turn.tags)
            thinking, answer = parts.thinking, parts.answer
        ids = _turn_ids(thinking, answer, policy, turn, True)
        if isinstance(ids, str):
            return ids
        written.append((ids, said))
    return put_together(policy, opening, written, _tools(sample)) or REFUSED


def _tools(sample: Sample) -> list[Mapping[str, Any]]:
    """The descriptions of tools that a row has beside its messages."""
    found = sample.meta.get("tools")
    found = json.loads(found) if isinstance(found, str) and found else found
    return [tool for tool in found or () if isinstance(tool, Mapping) and "function" in tool]


def _turn_ids(thinking: str, answer: str, policy: Policy, turn: Turn, on_a_line: bool) -> tuple[int, ...] | str:
    """A turn as it would have been sampled, its end included, or why it cannot be. `on_a_line`: the prompt before it
    ends a line."""
    text = _written(thinking, answer, turn)
    if turn.opens and not turn.tags.answer and not on_a_line:
        text = "\n" + text  # the thinking begins on a line of its own
    ids = policy.encode(text)
    if _unknown(policy) in ids:
        return UNWRITABLE
    if policy.eos_ids & {*ids}:
        return ENDS_INSIDE
    # As the engine reads what it samples.
    read = split(policy.decode(ids), turn.tags, opened=turn.opens)
    if (read.thinking.strip(), read.answer.strip()) != (thinking.strip(), answer.strip()):
        return ELSE
    return (*ids, turn.end_id)


def _unknown(policy: Policy) -> int | None:
    """The id of what the tokenizer cannot write; none where that is a token with a meaning: then it can write all."""
    found: int | None = policy.tokenizer.unk_token_id
    return None if found in policy.eos_ids or found == policy.tokenizer.bos_token_id else found


def _prompt(
    sample: Sample, policy: Policy, rendered: dict[tuple[tuple[str, str], ...], Rendered | None]
) -> Rendered | None:
    """As the engine renders it; several samples share one."""
    key = tuple((message["role"], str(message)) for message in sample.messages)
    if key not in rendered:
        try:
            rendered[key] = policy.render(sample.messages)
        except UserError:
            rendered[key] = None
    return rendered[key]


def _opening(opened: str) -> str:
    """A piece of template that writes `opened` after the generation prompt."""
    escaped = opened.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return "{% if add_generation_prompt %}{{ '" + escaped + "' }}{% endif %}"


def _without(template: str, opened: str) -> str:
    """The template without the last place that writes `opened`, which stands there escaped or as it is."""
    for form in (opened.replace("\n", "\\n"), opened):
        before, found, after = template.rpartition(form)
        if found:
            return before + after
    return template


def _try(policy: Policy, template: str, changed: str, asked: Rendered, wanted: str, thinking: Thinking) -> None:
    """Set the changed template if it writes what is wanted, and finished turns as before; else UserError."""
    before = _chat(policy, PROBE, prompt=False)
    policy.tokenizer.chat_template = changed
    try:
        if policy.render(PROBE).text == wanted and _chat(policy, PROBE, prompt=False) == before:
            return
    except UserError:
        pass
    policy.tokenizer.chat_template = template
    raise UserError(
        f'the chat template of {policy.name} cannot be changed to thinking = "{thinking}": change it in its folder, '
        'or set thinking = "template"'
    )


def _chat(policy: Policy, messages: Sequence[Message], *, prompt: bool) -> str | None:
    """None where the template refuses the messages: it is a program of the model's maker and may raise anything."""
    try:
        chat = [dict(message) for message in messages]
        found: Any = policy.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=prompt)
    except Exception:
        return None
    return str(found)


def _whole_turns(policy: Policy, tags: Tags) -> str | None:
    """A conversation whose first answer was thought about, as the model is told it in the second turn."""
    content = f"{tags.start}\n{THOUGHT}\n{tags.end}\n\n{SAID}"
    turns: tuple[Message, ...] = (*PROBE, Message(role="assistant", content=content), *PROBE)
    return _chat(policy, turns, prompt=True)


def _end_of_turn(policy: Policy) -> tuple[int, str]:
    """The token that ends a turn: what the template writes there, if the engine stops at it; and what to say of it."""
    if not policy.eos_ids:
        raise UserError(
            f"model {policy.name} has no token that ends a turn, so its traces would never end: name eos_token in its "
            "tokenizer_config.json"
        )
    whole = _chat(policy, (*PROBE, Message(role="assistant", content=SAID)), prompt=False) or ""
    ids = policy.encode(whole.rpartition(SAID)[2]) if SAID in whole else ()
    if ids and ids[0] in policy.eos_ids:
        return ids[0], ""
    own = policy.tokenizer.eos_token_id
    end_id = own if own in policy.eos_ids else min(policy.eos_ids)
    if not ids:
        return end_id, ""
    return end_id, (
        f"the chat template of {policy.name} ends a turn with {policy.decode(ids[:1])!r}, at which generation does not "
        f"stop: {policy.decode([end_id])!r} is learnt as the end"
    )


def _tag_notes(policy: Policy, tags: Tags) -> Iterable[str]:
    """Tags that are no tokens of their own. Raises UserError for those that cannot be written at all."""
    unknown = _unknown(policy)
    plain = []
    for tag in (tags.start, tags.end):
        ids = policy.encode(tag)
        if not ids or unknown in ids:
            raise UserError(f"the tokenizer of {policy.name} cannot write {tag!r}: take another student")
        plain += [tag] if len(ids) > 1 else []
    if plain:
        yield f"{' and '.join(plain)} are no tokens of {policy.name}'s own: they are learnt as plain text"
