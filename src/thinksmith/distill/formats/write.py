"""Samples into a file, JSON lines or Parquet, so that reading gives the same samples back.

Three forms. `messages`: a row a sample, with chat `messages` whose last content is `<think>…</think>` and the answer;
`reasoning_content`: the same with the thinking beside the content, as servers return it; `openr1`: a row a problem,
with the columns of open-r1/OpenR1-Math-220k (samples of one problem that stand together share a row).

Where a text cannot be told from its tags when it is read (a thinking that holds `</think>`), the column `exact` has it.
Parquet holds neither halves of surrogate pairs nor, for some readers, NUL: they are written as the store writes them
(`store.schema.escape`), and the file's metadata says so.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path
from typing import IO, Any, Literal, get_args

from thinksmith.distill.formats.row import Values
from thinksmith.distill.formats.turn import is_exact, join
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError
from thinksmith.store.attempts import canonical
from thinksmith.store.schema import escape
from thinksmith.training.durable import replacing

Form = Literal["messages", "reasoning_content", "openr1"]
FORMS: tuple[str, ...] = get_args(Form)
ESCAPED = b"thinksmith.escaped"
"""The key in a Parquet file's metadata, or the column of a JSON line, that says that its texts are escaped."""
_ROW_GROUP = 512
# Not UTF-8, or a line's end to some readers of JSON lines: written as JSON's \uXXXX.
_ESCAPE_IN_JSON = re.compile("[\ud800-\udfff\x7f\x85\u2028\u2029]")
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_OPENR1_TEXTS = ("problem_type", "question_type", "source")


def write_samples(samples: Iterable[Sample], path: str | Path, form: Form = "messages") -> int:
    """Write samples to `path` (.jsonl or .parquet) as they come; returns how many.

    An existing file is replaced in one step. Raises UserError for another suffix, and for a place that cannot be
    written (also a full disk): then the old file, if any, is as it was.
    """
    path = Path(path).expanduser()
    with explained(path), replacing(path) as file:
        writer = writer_of(path.name, file)
        counted = _Counted(samples)
        writer(rows(counted, form))
    return counted.count


class _Counted:
    """Passes samples on, and counts them."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._samples, self.count = samples, 0

    def __iter__(self) -> Iterator[Sample]:
        for self.count, sample in enumerate(self._samples, start=1):  # noqa: B020 (the count is what is wanted)
            yield sample


def rows(samples: Iterable[Sample], form: Form) -> Iterator[Values]:
    """The rows of a form, JSON values."""
    if form == "openr1":
        for _, group in groupby(samples, key=_problem):
            yield _openr1_row(list(group))
    else:
        yield from (_messages_row(sample, form) for sample in samples)


def writer_of(name: str, file: IO[bytes]) -> Callable[[Iterable[Values]], None]:
    """What writes rows into a file of this name. UserError for a suffix that is not ours."""
    if name.lower().endswith(".jsonl"):
        return lambda values: _write_jsonl(values, file)
    if name.lower().endswith(".parquet"):
        return lambda values: _write_parquet(values, file)
    raise UserError(f"{name!r}: samples are written to a file that ends in .jsonl or .parquet")


def digest(samples: Iterable[Sample]) -> str:
    """sha256 (hex) of samples in their order, whatever form or file they are written in."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(sample_line(sample))
    return found.hexdigest()


def sample_line(sample: Sample) -> bytes:
    """All of a sample, always written the same way: what hashes of sets are made of."""
    return canonical(_messages_row(sample, "messages")).encode("utf-8", "surrogatepass") + b"\n"


def _messages_row(sample: Sample, form: Form) -> Values:
    turn = {"role": "assistant", "content": join(sample.thinking, sample.answer)}
    if form == "reasoning_content":
        turn = {"role": "assistant", "content": sample.answer, "reasoning_content": sample.thinking}
    row = {
        "messages": [*_prompt(sample), turn],
        "id": sample.id,
        "gold": sample.gold,
        "kind": sample.kind,
        "status": sample.status,
        "tokens": sample.tokens,
        "finish": sample.finish,
        "model": sample.model,
        "meta": dict(sample.meta),
    }
    if form == "messages" and (exact := _exact(sample)):
        row["exact"] = exact
    return row


def _prompt(sample: Sample) -> list[Values]:
    """The prompt's messages; what an assistant thought in one is its `reasoning_content`, as templates call it."""
    return [
        {"reasoning_content" if name == "thinking" else name: value for name, value in message.items()}
        for message in sample.messages
    ]


def _exact(sample: Sample) -> Values | None:
    if is_exact(sample.thinking, sample.answer):
        return None
    return {"thinking": sample.thinking, "answer": sample.answer}


def _problem(sample: Sample) -> str:
    """What the samples of one row must share."""
    return canonical([sample.id, sample.messages, sample.gold, sample.kind, dict(sample.meta)])


def _openr1_row(group: list[Sample]) -> Values:
    first = group[0]
    turns = [join(sample.thinking, sample.answer) for sample in group]
    right = [sample.status == "correct" if sample.status else None for sample in group]
    best = right.index(True) if True in right else 0
    known = {name: first.meta[name] for name in _OPENR1_TEXTS if isinstance(first.meta.get(name), str)}
    solution = first.meta.get("solution")
    return {
        "problem": first.question,
        "solution": solution if isinstance(solution, str) else None,
        "answer": first.gold,
        **{name: known.get(name) for name in _OPENR1_TEXTS},
        "uuid": first.id,
        "is_reasoning_complete": [sample.finish == "stop" for sample in group],
        "generations": turns,
        "correctness_math_verify": right,
        "correctness_llama": None,
        "finish_reasons": [sample.finish for sample in group],
        "correctness_count": right.count(True),
        "messages": [*_prompt(first), {"role": "assistant", "content": turns[best]}],
        "statuses": [sample.status for sample in group],
        "tokens": [sample.tokens for sample in group],
        "models": [sample.model for sample in group],
        "kind": first.kind,
        "meta": dict(first.meta),
        "exact": [_exact(sample) for sample in group],
    }


def json_line(values: Values) -> bytes:
    """A row as a line of JSON.

    JSON makes one character of the two halves of a pair that stand side by side as two: a row with such is escaped, and
    says so in a column of its own.
    """
    line = json.dumps(values, ensure_ascii=False)
    if not line.isascii() and _HALVES.search(line):
        line = json.dumps(_escaped(values) | {ESCAPED.decode(): True}, ensure_ascii=False)
    return _ESCAPE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line).encode() + b"\n"


def _write_jsonl(values: Iterable[Values], file: IO[bytes]) -> None:
    for row in values:
        file.write(json_line(row))


def _write_parquet(values: Iterable[Values], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = iter(values)
    group = list(islice(values, _ROW_GROUP))
    schema = _schema("generations" in group[0] if group else False)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group:
            writer.write_batch(pa.RecordBatch.from_pylist([_flat(row) for row in group], schema=schema))
            group = list(islice(values, _ROW_GROUP))


def _schema(openr1: bool) -> Any:
    import pyarrow as pa

    string, texts = pa.string(), pa.list_(pa.string())
    message = pa.struct([(name, string) for name in ("role", "content", "reasoning_content", "more")])
    exact = pa.struct([("thinking", string), ("answer", string)])
    columns: dict[str, Any] = {"messages": pa.list_(message)}
    if openr1:
        columns |= dict.fromkeys(("problem", "solution", "answer", *_OPENR1_TEXTS, "uuid", "kind", "meta"), string)
        columns |= dict.fromkeys(("generations", "finish_reasons", "statuses", "models"), texts)
        flags = ("is_reasoning_complete", "correctness_math_verify", "correctness_llama")
        columns |= dict.fromkeys(flags, pa.list_(pa.bool_()))
        columns |= {"correctness_count": pa.int64(), "tokens": pa.list_(pa.int64()), "exact": pa.list_(exact)}
    else:
        columns |= dict.fromkeys(("id", "gold", "kind", "status", "finish", "model", "meta"), string)
        columns |= {"tokens": pa.int64(), "exact": exact}
    return pa.schema(list(columns.items()), metadata={ESCAPED: b"1"})


def _flat(row: Values) -> Values:
    """A row as Parquet has it: `meta` and what a message has of its own are JSON texts, and texts are escaped."""
    row = dict(row) | {"meta": canonical(row["meta"])}
    known = ("role", "content", "reasoning_content")
    messages = []
    for message in row["messages"]:
        more = {name: value for name, value in message.items() if name not in known}
        kept = {name: message[name] for name in known if name in message}
        messages.append(kept | ({"more": canonical(more)} if more else {}))
    row["messages"] = messages
    return {name: _escaped(value) for name, value in row.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, list):
        return [_escaped(each) for each in value]
    if isinstance(value, dict):
        return {escape(name): _escaped(each) for name, each in value.items()}
    return value


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """What the system says against writing to a place, in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {place}: {error.strerror or error}; free some space or name another place"
        ) from error
