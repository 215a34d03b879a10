"""The formats that are read: told by their columns, and each turned into samples, row by row.

| format | columns |
|---|---|
| thinksmith export | `problem`, `trace`, `verdict` (JSON lines), or `problem_id`, `thinking`, `completion` (Parquet) |
| OpenR1 | `problem`, `generations`: one sample a generation |
| messages | `messages`: thinking in tags within the last content, or beside it as `reasoning_content` |
| conversations | `conversations` with `from` and `value`: ShareGPT, OpenThoughts, and what descends from them |
| alpaca | `instruction`, `output`, and `input` if there is one |

A column that means nothing to us stays in `meta` under its name, so that nothing is lost.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from thinksmith.distill.formats.row import BadRow, Values, messages, named, own_prompt, prompt_and_turn, take, text
from thinksmith.distill.formats.turn import take_apart
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError
from thinksmith.records import Message, Status
from thinksmith.store.attempts import attempt_from_json
from thinksmith.thinking import Split

IDS = ("id", "uuid", "problem_id", "unique_id", "uid")
GOLDS = ("gold", "answer", "ground_truth", "expected_answer", "final_answer")
RIGHT = ("correct", "is_correct", "correctness")
TOKENS = ("tokens", "num_tokens", "completion_tokens")
FINISHES = ("finish", "finish_reason")
END = {"stop": "stop", "eos": "stop", "eos_token": "stop", "end_turn": "stop", "stop_sequence": "stop",
       "length": "length", "max_tokens": "length", "budget": "budget", "error": "error"}  # fmt: skip
"""Why a text ended, as others call it → as we do."""
MODELS = ("model", "teacher", "generator")
COTS = ("cot", "chain_of_thought", "rationale", "reasoning", "reasoning_content", "thinking")

OWN = frozenset({"messages", "id", "gold", "kind", "status", "tokens", "finish", "model", "meta", "exact"})
"""The columns that we write, all of them and no other: then every field is read back as it was."""
OWN_OPENR1 = frozenset({"statuses", "tokens", "models", "kind", "meta", "exact"})
"""The columns that we write beside OpenR1's."""


@dataclass(frozen=True, slots=True)
class Format:
    """`needs` are the columns by which it is told; `read` gives the samples of a row, or raises BadRow."""

    name: str
    needs: tuple[str, ...]
    read: Callable[[Values], Iterator[Sample]]


def detect(columns: Iterable[str], where: str) -> Format:
    """The format whose columns these are. UserError, with what was seen and what is known, where it is none."""
    seen = list(columns)
    for known in FORMATS:
        if set(known.needs) <= set(seen):
            return known
    listed = ", ".join(repr(name) for name in seen[:12]) + (", …" if len(seen) > 12 else "")
    formats = "; ".join(f"{known.name} ({', '.join(known.needs)})" for known in FORMATS)
    raise UserError(f"{where}: no known format has the columns {listed or '(none)'}; known are {formats}")


def _read_messages(values: Values) -> Iterator[Sample]:
    if OWN >= set(values) >= OWN - {"exact"}:
        yield _own_messages(values)
        return
    values = dict(values)
    prompt, turn = prompt_and_turn(messages(values.pop("messages"), "messages"), "messages")
    yield _foreign(values, prompt, _parts(turn), turn)


def _own_messages(values: Values) -> Sample:
    *before, turn = values["messages"]
    thinking, answer = turn.get("reasoning_content"), turn["content"]
    if thinking is None:
        parts = take_apart(answer)
        thinking, answer = parts.thinking, parts.answer
    if exact := values.get("exact"):
        thinking, answer = exact["thinking"], exact["answer"]
    return _checked(
        Sample(
            id=values["id"],
            messages=own_prompt(before),
            thinking=thinking,
            answer=answer,
            gold=values["gold"],
            kind=values["kind"],
            status=values["status"],
            tokens=values["tokens"],
            finish=values["finish"],
            model=values["model"],
            meta=_meta(values["meta"]),
        )
    )


def _checked(sample: Sample) -> Sample:
    """The sample, where its fields are what they should be: somebody may have changed the file. Raises BadRow."""
    texts = (sample.id, sample.thinking, sample.answer, sample.kind, sample.status, sample.finish, sample.model)
    if not all(isinstance(each, str) for each in (*texts, sample.gold or "")) or not isinstance(sample.tokens, int):
        raise BadRow("a column is of another type than `thinksmith` writes it")
    return sample


def _parts(turn: Values) -> Split:
    """Thinking and answer of a turn: apart already, or within the tags of its content."""
    if turn.get("thinking"):
        return Split(turn["thinking"], turn["content"], "closed")
    return take_apart(turn["content"])


def _foreign(values: Values, prompt: tuple[Message, ...], parts: Split, turn: Values) -> Sample:
    """A sample of a row that others wrote: what its columns are called tells what they are. Uses up `values`."""
    name = take(values, IDS, (str, int))
    gold = take(values, GOLDS, (str, int, float))
    kind = take(values, ("kind",), str)
    right = take(values, RIGHT, bool)
    status = "" if right is None else "correct" if right else "wrong"
    if values.get("status") in get_args(Status):
        status = values.pop("status")
    finish = next((END[values.pop(column)] for column in FINISHES if values.get(column) in END), "")
    rest = {key: value for key, value in turn.items() if key not in ("role", "content", "thinking")}
    return Sample(
        id=named(prompt) if name is None else str(name),
        messages=prompt,
        thinking=parts.thinking,
        answer=parts.answer,
        gold=None if gold is None else str(gold),
        kind=kind if kind is not None else "math" if gold is not None else "",
        status=status,
        tokens=take(values, TOKENS, int) or 0,
        finish=finish or ("length" if parts.status == "truncated" else "stop"),
        model=take(values, MODELS, str) or "",
        meta={key: value for key, value in values.items() if value is not None} | ({"turn": rest} if rest else {}),
    )


def _read_conversations(values: Values) -> Iterator[Sample]:
    values = dict(values)
    said = messages(values.pop("conversations"), "conversations")
    system = take(values, ("system", "system_prompt"), str)
    if system:
        said = [{"role": "system", "content": system}, *said]
    prompt, turn = prompt_and_turn(said, "conversations")
    yield _foreign(values, prompt, _parts(turn), turn)


def _read_alpaca(values: Values) -> Iterator[Sample]:
    values = dict(values)
    instruction, output = text(values, "instruction"), text(values, "output")
    given = values.get("input")
    if given is not None and not isinstance(given, str):
        raise BadRow("'input' is not text")
    for column in ("instruction", "output", "input"):
        values.pop(column, None)
    if not instruction.strip():
        raise BadRow("'instruction' is empty")
    system = take(values, ("system", "system_prompt"), str)
    asked = f"{instruction}\n\n{given}" if given else instruction
    prompt = (*([Message(role="system", content=system)] if system else []), Message(role="user", content=asked))
    thought = take(values, COTS, str)
    parts = Split(thought, output, "closed") if thought else take_apart(output)
    yield _foreign(values, prompt, parts, {})


def _read_openr1(values: Values) -> Iterator[Sample]:
    values = dict(values)
    own = set(values) >= OWN_OPENR1
    problem, generations = text(values, "problem"), values.pop("generations")
    if not isinstance(generations, list) or not generations:
        raise BadRow("'generations' is no list of texts, or an empty one")
    prompt: tuple[Message, ...] = (Message(role="user", content=problem),)
    said = values.pop("messages", None)
    if said and not own:
        prompt, _ = prompt_and_turn(messages(said, "messages"), "messages")
    del values["problem"]
    each = _per_generation(values, len(generations))
    if own:
        yield from _own_openr1(values, own_prompt(said[:-1]), generations, each)
        return
    gold, name = take(values, GOLDS, (str, int, float)), take(values, IDS, (str, int))
    values.pop("correctness_count", None)
    for number, generation in enumerate(generations):
        if not isinstance(generation, str):
            raise BadRow("'generations' holds something that is no text")
        parts = take_apart(generation)
        complete = each["is_reasoning_complete"][number]
        cut = parts.status == "truncated" or complete is False
        right = each["correctness_math_verify"][number]
        if right is None:
            right = each["correctness_llama"][number]
        yield Sample(
            id=named(prompt) if name is None else str(name),
            messages=prompt,
            thinking=parts.thinking,
            answer=parts.answer,
            gold=None if gold is None else str(gold),
            kind="math" if gold is not None else "",
            status="" if right is None else "correct" if right else "wrong",
            finish=each["finish_reasons"][number] or ("length" if cut else "stop"),
            meta=_rest(values, each, number),
        )


def _rest(values: Values, each: dict[str, Sequence[Any]], number: int) -> Values:
    """What a generation's row says beside."""
    judged = each["correctness_llama"][number]
    more = {} if judged is None else {"correctness_llama": judged}
    return {key: value for key, value in values.items() if value is not None} | more


_LISTS = ("is_reasoning_complete", "correctness_math_verify", "correctness_llama", "finish_reasons")
_OWN_LISTS = ("statuses", "tokens", "models", "exact")


def _per_generation(values: Values, count: int) -> dict[str, Sequence[Any]]:
    """Takes out the columns that hold one value a generation; a missing one is all None."""
    found: dict[str, Sequence[Any]] = {}
    for column in (*_LISTS, *_OWN_LISTS):
        value = values.pop(column, None) if column in _LISTS or isinstance(values.get(column), list) else None
        if value is not None and (not isinstance(value, list) or len(value) != count):
            raise BadRow(f"{column!r} has not one value for each of the {count} generations")
        found[column] = value if value is not None else [None] * count
    return found


def _own_openr1(
    values: Values, prompt: tuple[Message, ...], generations: list[str], each: dict[str, Sequence[Any]]
) -> Iterator[Sample]:
    meta = _meta(values["meta"])
    for number, generation in enumerate(generations):
        parts, exact = take_apart(generation), each["exact"][number]
        yield _checked(
            Sample(
                id=values["uuid"],
                messages=prompt,
                thinking=exact["thinking"] if exact else parts.thinking,
                answer=exact["answer"] if exact else parts.answer,
                gold=values["answer"],
                kind=values["kind"],
                status=each["statuses"][number],
                tokens=each["tokens"][number],
                finish=each["finish_reasons"][number],
                model=each["models"][number],
                meta=meta,
            )
        )


def _meta(value: Any) -> dict[str, Any]:
    """In Parquet it is a text."""
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise BadRow("'meta' is no object")
    return found


def _read_attempt(values: Values) -> Iterator[Sample]:
    try:
        yield Sample.of(attempt_from_json(values))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadRow(f"not an attempt as `thinksmith export` writes it: {error!r}"[:200]) from None


def _read_flat_attempt(values: Values) -> Iterator[Sample]:
    prompt, _ = prompt_and_turn(
        [*messages(values["messages"], "messages"), {"role": "assistant", "content": ""}], "messages"
    )
    yield Sample(
        id=text(values, "problem_id"),
        messages=prompt,
        thinking=text(values, "thinking"),
        answer=text(values, "answer"),
        gold=values.get("gold"),
        kind=text(values, "kind"),
        status=text(values, "status"),
        tokens=len(values.get("token_ids") or ()) or values["thinking_tokens"] + values["answer_tokens"],
        finish=text(values, "finish"),
        model=text(values, "model"),
        meta=_meta(values["meta"]),
    )


FORMATS = (
    Format("thinksmith export", ("problem", "trace", "verdict"), _read_attempt),
    Format("thinksmith export (Parquet)", ("problem_id", "thinking", "completion", "messages"), _read_flat_attempt),
    Format("OpenR1", ("problem", "generations"), _read_openr1),
    Format("messages", ("messages",), _read_messages),
    Format("conversations", ("conversations",), _read_conversations),
    Format("alpaca", ("instruction", "output"), _read_alpaca),
)


def samples_of(values: Values, known: Format) -> Iterator[Sample]:
    """The samples of a row. Raises BadRow."""
    missing = [name for name in known.needs if values.get(name) is None]
    if missing:
        raise BadRow(f"the column {missing[0]!r} is missing")
    try:
        yield from list(known.read(values))  # all of them or none
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, BadRow):
            raise
        raise BadRow(f"a {known.name} row that cannot be read: {error!r}"[:200]) from None
