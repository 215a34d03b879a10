"""A run as a file for other programs: JSON lines or Parquet.

JSON lines hold every field of each record, nested as the records are, and `read_jsonl` gives the records back. Parquet
holds the same fields as flat columns. A file appears whole or not at all: it is written beside its place under another
name and then renamed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from thinksmith.errors import UserError
from thinksmith.records import Attempt
from thinksmith.store.attempts import attempt_from_json, attempt_to_json, canonical
from thinksmith.store.store import Store, StoredAttempt

_ROW_GROUP = 512  # attempts in a Parquet row group

_SURROGATE = re.compile("[\ud800-\udfff]")
# Not UTF-8, or a line's end to some readers of JSON lines: written as JSON's \uXXXX.
_ESCAPE_IN_JSON = re.compile("[\ud800-\udfff\x7f\x85\u2028\u2029]")


def export(store: Store, run_id: str, path: str | Path) -> int:
    """Write a run's attempts to `path` (.jsonl or .parquet), in the order of storing; returns how many.

    An existing file is replaced in one step. Raises UserError for another suffix, an unknown run, or a place that
    cannot be written (also a full disk); then the old file, if any, is as it was.
    """
    path = Path(path).expanduser()
    writers = {".jsonl": _write_jsonl, ".parquet": _write_parquet}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise UserError(f"{path.name!r}: an export is a file that ends in .jsonl or .parquet")
    attempts = store.attempts(run_id)
    with _replacing(path) as file:
        return writer(attempts, file)


def read_jsonl(path: str | Path) -> Iterator[Attempt]:
    """The attempts of a JSON-lines export, one at a time. Raises UserError with file and line for anything else."""
    try:
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield _parse(line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(line: bytes, where: str) -> Attempt:
    try:
        return attempt_from_json(json.loads(line))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"{where}: not an attempt as `thinksmith export` writes it ({reason})") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file that takes `path`'s place when the block ends well, and vanishes when it does not."""
    target = path.resolve()  # a link stays a link, to the new file
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or name another place"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _write_jsonl(attempts: Iterator[StoredAttempt], file: IO[bytes]) -> int:
    count = 0
    for count, stored in enumerate(attempts, start=1):  # noqa: B007 (the count is the result)
        head = {"id": stored.id, "run_id": stored.run_id, "made": stored.made.isoformat()}
        line = json.dumps(head | attempt_to_json(stored.attempt), ensure_ascii=False)
        line = _ESCAPE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)
        file.write(line.encode() + b"\n")
    return count


def _write_parquet(attempts: Iterator[StoredAttempt], file: IO[bytes]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema, count = _parquet_schema(), 0
    with pq.ParquetWriter(file, schema) as writer:
        while rows := [_flat(stored) for stored in islice(attempts, _ROW_GROUP)]:
            writer.write_batch(pa.RecordBatch.from_pylist(rows, schema=schema))
            count += len(rows)
    return count


def _parquet_schema() -> Any:
    """Flat columns. `messages` always holds the prompt; `prompt` holds it too where it was a plain text."""
    import pyarrow as pa

    texts = "run_id problem_id prompt gold kind meta strategy status extracted reason judge model sampling finish "
    texts += "error thinking answer thinking_status opened completion notes usage"
    counts = "id sample thinking_tokens answer_tokens prompt_tokens"
    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    columns = {name: pa.string() for name in texts.split()}
    columns |= {name: pa.int64() for name in counts.split()}
    columns |= {"seconds": pa.float64(), "score": pa.float64(), "made": pa.timestamp("us", tz="UTC")}
    columns |= {name: pa.list_(pa.int32()) for name in ("token_ids", "prompt_ids", "forced")}
    likely = pa.struct([("id", pa.int32()), ("logprob", pa.float64())])
    columns |= {"top_logprobs": pa.list_(pa.list_(likely))}
    columns |= {"logprobs": pa.list_(pa.float64()), "messages": pa.list_(message)}
    return pa.schema(list(columns.items()))


def _flat(stored: StoredAttempt) -> dict[str, Any]:
    """One row. `meta`, `sampling`, `notes` and `usage` are JSON texts.

    A lone surrogate, which Parquet cannot hold, becomes U+FFFD.
    """
    record = attempt_to_json(stored.attempt)
    problem, trace, verdict = record["problem"], record["trace"], record["verdict"]
    gold, prompt = problem.pop("answer"), problem.pop("prompt")
    row = {"id": stored.id, "run_id": stored.run_id, "made": stored.made, "problem_id": problem.pop("id"), "gold": gold}
    row |= problem | trace | verdict | {"sample": record["sample"], "strategy": record["strategy"]}
    row |= {"prompt": prompt if isinstance(prompt, str) else None}
    texts = {"meta": problem["meta"], "sampling": trace["sampling"], "notes": record["notes"]}
    row |= {name: canonical(value) for name, value in texts.items()}
    row["usage"] = trace["usage"] and canonical(trace["usage"])
    if trace["top_logprobs"] is not None:
        row["top_logprobs"] = [[{"id": i, "logprob": p} for i, p in each] for each in trace["top_logprobs"]]
    row = {key: _utf8(value) if isinstance(value, str) else value for key, value in row.items()}
    messages = stored.attempt.problem.messages
    row["messages"] = [{"role": _utf8(m["role"]), "content": _utf8(m["content"])} for m in messages]
    return row


def _utf8(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)
