"""An Attempt as rows of the tables, as one JSON object, and back.

Token ids are packed as little-endian int32. Log-probabilities are packed as float32 when every one of them is a
float32 number, which is what engines compute, and as float64 otherwise: either way the numbers that come back are
equal to those that were given.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from typing import Any

import numpy as np

from thinksmith.errors import UserError
from thinksmith.records import Attempt, Problem, Sampling, Trace, Usage, Verdict
from thinksmith.store.figures import cost_of

Row = Mapping[str, Any]

_NAMES: Mapping[type, tuple[str, ...]] = {
    kind: tuple(field.name for field in fields(kind)) for kind in (Problem, Trace, Verdict, Sampling, Usage)
}
_BUT_SEED = attrgetter(*(name for name in _NAMES[Sampling] if name != "seed"))
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values give equal texts. Raises TypeError for what is not JSON."""
    return _JSON.encode(value)


def digest(text: str) -> str:
    """sha256 of a text (lone surrogates allowed), in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def pack_ids(ids: Sequence[int]) -> bytes:
    """Ids as little-endian int32. Raises OverflowError for an id outside ±2^31."""
    try:
        return struct.pack(f"<{len(ids)}i", *ids)  # half the time of NumPy
    except struct.error as error:
        raise OverflowError(f"a token id is no 32-bit whole number: {error}") from error


def unpack_ids(packed: bytes) -> tuple[int, ...]:
    return tuple(np.frombuffer(packed, dtype="<i4").tolist())


def pack_floats(values: Sequence[float]) -> tuple[bytes, str]:
    """Numbers as bytes, and the NumPy type they are in: `<f4` if that loses nothing, else `<f8`."""
    wide = np.asarray(values, dtype="<f8")
    with np.errstate(over="ignore"):
        narrow = wide.astype("<f4")
    same = narrow == wide
    exact = bool(same.all()) or bool((same | np.isnan(wide)).all())
    return (narrow.tobytes(), "<f4") if exact else (wide.tobytes(), "<f8")


def unpack_floats(packed: bytes, dtype: str) -> tuple[float, ...]:
    return tuple(np.frombuffer(packed, dtype=dtype).tolist())


def problem_row(problem: Problem) -> dict[str, Any]:
    """The problem as a row of `problems`. The hash (128 bits of sha256, in hex) covers every field.

    Raises UserError if `meta` cannot be written as JSON: it comes from the user's data set.
    """
    try:
        meta = canonical(dict(problem.meta))
    except (TypeError, ValueError) as error:
        raise UserError(f"problem {problem.id!r}: its meta is not JSON ({error}); leave that column out") from error
    prompt = canonical(problem.prompt)
    content = canonical([problem.id, prompt, problem.answer, problem.kind, meta])
    return {
        "hash": digest(content)[:32],
        "problem_id": problem.id,
        "prompt": prompt,
        "gold": problem.answer,
        "kind": problem.kind,
        "meta": meta,
    }


def attempt_row(attempt: Attempt) -> dict[str, Any]:
    """The attempt as a row of `attempts`, without the columns `id`, `run_id`, `made` and `problem_hash`."""
    trace, verdict = attempt.trace, attempt.verdict
    logprobs, logprobs_type = (None, None) if trace.logprobs is None else pack_floats(trace.logprobs)
    return {
        "problem_id": attempt.problem.id,
        "sample": attempt.sample,
        "strategy": attempt.strategy,
        "status": verdict.status,
        "score": verdict.score,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
        "judge": verdict.judge or None,
        "model": trace.model,
        "thinking_status": trace.thinking_status,
        "finish": trace.finish,
        "tokens": trace.tokens,
        "thinking_tokens": trace.thinking_tokens,
        "answer_tokens": trace.answer_tokens,
        "prompt_tokens": trace.prompt_tokens,
        "seconds": trace.seconds,
        "error": trace.error,
        "sampling": _sampling_text(trace.sampling),
        "thinking": trace.thinking,
        "answer": trace.answer,
        "opened": trace.opened,
        "completion": trace.completion,
        "token_ids": pack_ids(trace.token_ids),
        "prompt_ids": pack_ids(trace.prompt_ids),
        "logprobs": logprobs,
        "logprobs_type": logprobs_type,
        "forced": pack_ids(trace.forced) if trace.forced else None,
        "top_logprobs": None if trace.top_logprobs is None else canonical(trace.top_logprobs),
        "notes": canonical(dict(attempt.notes)) if attempt.notes else None,
        "usage": None if trace.usage is None else canonical(_shallow(trace.usage)),
        "spent": attempt.notes.get("spent"),
        "traces": attempt.notes.get("traces"),
        "cost": None if math.isnan(cost := cost_of(attempt)) else cost,
    }


def attempt_from_row(row: Row) -> Attempt:
    """The attempt again, from a row of `attempts` joined with its problem."""
    problem = Problem(
        row["problem_id"],
        prompt_from_json(json.loads(row["prompt"])),
        row["gold"],
        row["kind"],
        json.loads(row["meta"]),
    )
    trace = Trace(
        thinking=row["thinking"],
        answer=row["answer"],
        thinking_status=row["thinking_status"],
        token_ids=unpack_ids(row["token_ids"]),
        logprobs=None if row["logprobs"] is None else unpack_floats(row["logprobs"], row["logprobs_type"]),
        thinking_tokens=row["thinking_tokens"],
        answer_tokens=row["answer_tokens"],
        finish=row["finish"],
        model=row["model"],
        sampling=_sampling(json.loads(row["sampling"])),
        seconds=_number(row["seconds"]),
        prompt_tokens=row["prompt_tokens"],
        prompt_ids=unpack_ids(row["prompt_ids"]),
        opened=row["opened"],
        completion=row["completion"],
        error=row["error"],
        forced=unpack_ids(row["forced"] or b""),
        top_logprobs=_pairs(row["top_logprobs"] and json.loads(row["top_logprobs"])),
        usage=_usage(row["usage"] and json.loads(row["usage"])),
    )
    verdict = Verdict(row["status"], _number(row["score"]), row["extracted"], row["reason"], row["judge"] or "")
    notes = json.loads(row["notes"]) if row["notes"] else {}
    return Attempt(problem, trace, verdict, row["sample"], row["strategy"], notes)


def attempt_to_json(attempt: Attempt) -> dict[str, Any]:
    """Every field of the record, nested as the records are, ready for `json.dumps`."""
    return {
        "problem": _shallow(attempt.problem) | {"meta": dict(attempt.problem.meta)},
        "trace": trace_to_json(attempt.trace),
        "verdict": _shallow(attempt.verdict),
        "sample": attempt.sample,
        "strategy": attempt.strategy,
        "notes": dict(attempt.notes),
    }


def attempt_from_json(value: Row) -> Attempt:
    """The inverse of `attempt_to_json`. Raises KeyError, TypeError or ValueError for anything else."""
    problem = dict(value["problem"])
    problem["prompt"] = prompt_from_json(problem["prompt"])
    return Attempt(
        Problem(**problem),
        trace_from_json(value["trace"]),
        Verdict(**value["verdict"]),
        value["sample"],
        value["strategy"],
        dict(value.get("notes", {})),
    )


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """Every field of a trace, as `attempt_to_json` has it."""
    return _shallow(trace) | {"sampling": _shallow(trace.sampling), "usage": trace.usage and _shallow(trace.usage)}


def trace_from_json(value: Mapping[str, Any]) -> Trace:
    """The inverse of `trace_to_json`. Raises KeyError, TypeError or ValueError for anything else."""
    trace = dict(value)
    trace["sampling"] = _sampling(trace["sampling"])
    trace["token_ids"], trace["prompt_ids"] = tuple(trace["token_ids"]), tuple(trace["prompt_ids"])
    trace["logprobs"] = None if trace["logprobs"] is None else tuple(trace["logprobs"])
    trace["forced"], trace["top_logprobs"] = tuple(trace.get("forced", ())), _pairs(trace.get("top_logprobs"))
    trace["usage"] = _usage(trace.get("usage"))
    return Trace(**trace)


def _shallow(record: Problem | Trace | Verdict | Sampling | Usage) -> dict[str, Any]:
    """Fields by name. `dataclasses.asdict` would walk through every token id."""
    return {name: getattr(record, name) for name in _NAMES[type(record)]}


def prompt_from_json(value: Any) -> Any:
    """A problem's prompt again: messages are a tuple."""
    return value if isinstance(value, str) else tuple(value)


def _sampling(value: Mapping[str, Any]) -> Sampling:
    return Sampling(**{**value, "stop": tuple(value["stop"]), "stop_ids": tuple(value.get("stop_ids", ()))})


def _sampling_text(sampling: Sampling) -> str:
    """`canonical` of its fields. The samplings of a run differ in their seeds alone, so the rest is written once."""
    before, after = _around_seed(*_BUT_SEED(sampling))
    return f"{before}{sampling.seed}{after}"


@lru_cache(maxsize=64, typed=True)
def _around_seed(*values: Any) -> tuple[str, str]:
    rest = dict(zip((name for name in _NAMES[Sampling] if name != "seed"), values, strict=True))
    before, _, after = canonical(rest | {"seed": None}).partition('"seed":null')
    return before + '"seed":', after


def _usage(value: Mapping[str, Any] | None) -> Usage | None:
    return None if value is None else Usage(**{**value, "notes": tuple(value["notes"])})


def _pairs(value: Any) -> tuple[tuple[tuple[int, float], ...], ...] | None:
    return None if value is None else tuple(tuple((number, logprob) for number, logprob in each) for each in value)


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
