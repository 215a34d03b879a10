"""Curates traces into a set: looks at each, compares them, chooses, writes what is chosen and tells what was dropped.

What is kept in memory of a trace is some numbers (its signature of 512 bytes is most of them) and names, not its text.
The same traces, options and seed give the same set, with any number of processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from thinksmith.distill.curate.choice import choose, lots
from thinksmith.distill.curate.funnel import Difficulty, Found, Funnel, Stage
from thinksmith.distill.curate.near import near_duplicates
from thinksmith.distill.curate.options import Curation
from thinksmith.distill.curate.passes import Check, Chosen, Look, Picked, Processes, Seen
from thinksmith.distill.curate.reasons import KEPT, ORDER, number
from thinksmith.distill.curate.signature import K
from thinksmith.distill.curate.writing import Output, check_place, write_set
from thinksmith.distill.formats.parts import Part, open_source
from thinksmith.errors import UserError
from thinksmith.problems.load import load_checked
from thinksmith.problems.overlap import Overlap

Result = TypeVar("Result")
Progress = Callable[[str, int, int], None]
"""Told of what is being done, how many parts are, and of how many."""


@dataclass(frozen=True, slots=True)
class Curated:
    """What came of it. `hash` is that of the set, "" where none was written."""

    funnel: Funnel
    hash: str = ""
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class _Traces:
    """All traces, N of them, as far as they are kept in memory. `row_N` is a trace's row of `signature_SK`, -1 for one
    that has none. It stands in the row `line_N` of part `part_N`, as the `nth_N` there."""

    ids: list[str]
    models: list[str]
    wheres: list[str]
    part_N: NDArray[np.int64]
    line_N: NDArray[np.int64]
    nth_N: NDArray[np.int64]
    reason_N: NDArray[np.int8]
    status_N: NDArray[np.int8]
    tokens_N: NDArray[np.int64]
    problem_N: NDArray[np.uint64]
    digest_N2: NDArray[np.uint64]
    row_N: NDArray[np.int64]
    signature_SK: NDArray[np.uint32]
    details: dict[int, str]
    judged: dict[int, str]
    hits: list[Found]

    @property
    def left(self) -> NDArray[np.int64]:
        """The traces that nothing dropped so far."""
        return np.flatnonzero(self.reason_N == KEPT)

    def picked(self, part: Part, at_M: NDArray[np.int64]) -> Picked:
        """Some traces of a part, for a pass."""
        return Picked(part, self.line_N[at_M], self.nth_N[at_M])

    def drop(self, at_M: NDArray[np.int64], reason: str) -> None:
        self.reason_N[at_M] = number(reason)


def curate(
    sources: Sequence[str],
    options: Curation,
    output: Output | None = None,
    *,
    store: str | None = None,
    processes: int | None = None,
    on_progress: Progress = lambda what, done, of: None,
) -> Curated:
    """Curate the traces of `sources` (sets, files, runs of the store); with an `output` the set is written.

    Raises UserError for a source or an evaluation that cannot be read, for a place that cannot be written, and where
    nothing is left; then nothing is written, and what was there before is as it was.
    """
    if output:
        check_place(output.folder)  # told before an hour is spent
    opened = [open_source(name, store) for name in sources]
    if not opened:
        raise UserError("name what to curate: a run, a file or a set")
    parts = [part for source in opened for part in source.parts]
    evaluations = {name: load_checked(name, all_if_fewer=True).problems for name in options.against}
    overlap = Overlap(evaluations, n=options.gram, share=options.trace_share)
    with Processes(Look(options, overlap), len(parts), processes) as pool:
        traces = _gathered(list(_told("looking", pool.look(parts), len(parts), on_progress)))
        _drop_duplicates(traces, options)
        difficulty = _drop_by_rate(traces, options)
        if options.false_equations < 1:
            places = _by_part(traces, len(parts))
            tasks = [traces.picked(part, at_M) for part, at_M in zip(parts, places, strict=True)]
            checks = pool.run(Check(options.false_equations), tasks)
            for at_M, found in zip(places, _told("checking equations", checks, len(parts), on_progress), strict=True):
                _drop_false(traces, at_M, found)
        _choose(traces, options)
        funnel = _funnel(traces, difficulty)
        if not funnel.kept:
            raise UserError(_nothing(funnel))
        if output is None:
            return Curated(funnel)
        chosen = _chosen(traces, parts)
        set_hash = write_set(output, pool, chosen, funnel, options, opened, _dropped(traces), on_progress)
    return Curated(funnel, set_hash, output.folder)


def _told(what: str, results: Iterable[Result], count: int, on_progress: Progress) -> Iterator[Result]:
    """Passes results on, and tells of each."""
    for done, result in enumerate(results, 1):
        yield result
        on_progress(what, done, count)


def _gathered(seen: Sequence[Seen]) -> _Traces:
    sizes = [len(each.reason_N) for each in seen]
    begins = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    reason_N = np.concatenate([each.reason_N for each in seen])
    row_N = np.full(len(reason_N), -1, dtype=np.int64)
    row_N[reason_N == KEPT] = np.arange(np.count_nonzero(reason_N == KEPT))
    ids = [name for each in seen for name in each.ids]
    wheres = [where for each in seen for where in each.wheres]
    return _Traces(
        ids,
        [name for each in seen for name in each.models],
        wheres,
        np.repeat(np.arange(len(seen)), sizes),
        np.concatenate([each.line_N for each in seen]),
        np.concatenate([np.arange(len(each.line_N)) - np.searchsorted(each.line_N, each.line_N) for each in seen]),
        reason_N,
        np.concatenate([each.status_N for each in seen]),
        np.concatenate([each.tokens_N for each in seen]),
        np.concatenate([each.problem_N for each in seen]),
        np.concatenate([each.digest_N2 for each in seen]),
        row_N,
        np.concatenate([each.signature_SK for each in seen]).reshape(-1, K),
        {
            begin + at: told
            for begin, each in zip(begins.tolist(), seen, strict=False)
            for at, told in each.details.items()
        },
        {
            begin + at: told
            for begin, each in zip(begins.tolist(), seen, strict=False)
            for at, told in each.judged.items()
        },
        [
            Found(wheres[begin + at], ids[begin + at], hit)
            for begin, each in zip(begins.tolist(), seen, strict=False)
            for at, hit in each.hits
        ],
    )


def _drop_duplicates(traces: _Traces, options: Curation) -> None:
    """What came before, word for word or nearly."""
    left = traces.left
    if options.duplicates and len(left):
        _, first_U, inverse_M = np.unique(traces.digest_N2[left], axis=0, return_index=True, return_inverse=True)
        original_M = left[first_U[inverse_M.reshape(-1)]]
        again = original_M != left
        traces.drop(left[again], "duplicate")
        for at, original in zip(left[again].tolist(), original_M[again].tolist(), strict=True):
            traces.details[at] = f"of {traces.wheres[original]}"
    left = traces.left
    if options.similarity < 1 and len(left):
        leader_M, similar_M = near_duplicates(traces.signature_SK[traces.row_N[left]], options.similarity)
        again = leader_M >= 0
        traces.drop(left[again], "near duplicate")
        for at, original, similar in zip(
            left[again].tolist(), left[leader_M[again]].tolist(), similar_M[again], strict=True
        ):
            traces.details[at] = f"{similar:.0%} like {traces.wheres[original]}"


def _drop_by_rate(traces: _Traces, options: Curation) -> Difficulty:
    """Traces of problems that are solved too often or too seldom, by all attempts that were read."""
    counted_N = (traces.status_N == 1) | (traces.status_N == 2)
    _, inverse_N = np.unique(traces.problem_N, return_inverse=True)
    tried_P = np.bincount(inverse_N, weights=counted_N)
    right_P = np.bincount(inverse_N, weights=traces.status_N == 1)
    readable_P = np.bincount(inverse_N, weights=traces.reason_N != number("unreadable")) > 0
    known_P = (tried_P >= options.min_attempts) & readable_P
    rate_P = np.divide(right_P, tried_P, out=np.zeros_like(right_P), where=tried_P > 0)
    easy_P, hard_P = known_P & (rate_P > options.easiest), known_P & (rate_P < options.hardest)
    left = traces.left
    for mask_P, reason in ((easy_P, "too easy"), (hard_P, "too hard")):
        dropped = left[mask_P[inverse_N[left]]]
        traces.drop(dropped, reason)
        for at in dropped.tolist():
            problem = inverse_N[at]
            traces.details[at] = f"solved {right_P[problem]:.0f} times of {tried_P[problem]:.0f}"
    bins = np.bincount(np.minimum(rate_P[known_P] * 10, 9).astype(np.int64), minlength=10)
    easier, harder = int(easy_P.sum()), int(hard_P.sum())
    known = int(known_P.sum())
    return Difficulty(known - easier - harder, easier, harder, int(readable_P.sum()) - known, tuple(bins.tolist()))


def _by_part(traces: _Traces, parts: int) -> list[NDArray[np.int64]]:
    """The traces that are left, by part."""
    left = traces.left
    return np.split(left, np.searchsorted(traces.part_N[left], np.arange(1, parts)))


def _drop_false(traces: _Traces, at_M: NDArray[np.int64], found: dict[int, str]) -> None:
    for index, told in found.items():
        at = int(at_M[index])
        traces.reason_N[at] = number("false equations")
        traces.details[at] = told


def _choose(traces: _Traces, options: Curation) -> None:
    left = traces.left
    chosen_M = choose(
        traces.problem_N[left],
        traces.tokens_N[left],
        lots(traces.digest_N2[left], options.seed),
        traces.signature_SK[traces.row_N[left]],
        how=options.choose,
        per_problem=options.per_problem,
        most=options.most,
    )
    traces.drop(left[~chosen_M], "not chosen")


def _funnel(traces: _Traces, difficulty: Difficulty) -> Funnel:
    stages, left = [], len(traces.reason_N)
    for at, reason in enumerate(ORDER):
        dropped = int(np.count_nonzero(traces.reason_N == at))
        left -= dropped
        stages.append(Stage(reason, dropped, left))
    kept = traces.left
    tokens_M = traces.tokens_N[kept]
    readable_N = traces.reason_N != number("unreadable")
    faults = np.flatnonzero(~readable_N)[:5].tolist()
    return Funnel(
        read=len(traces.reason_N),
        problems=len(np.unique(traces.problem_N[readable_N])),
        stages=tuple(stages),
        kept=len(kept),
        kept_problems=len(np.unique(traces.problem_N[kept])),
        difficulty=difficulty,
        tokens={
            "sum": int(tokens_M.sum()),
            "mean": round(float(tokens_M.mean()), 1),
            "median": float(np.median(tokens_M)),
            "p95": float(np.quantile(tokens_M, 0.95)),
        }
        if len(kept)
        else {},
        teachers=dict(Counter(traces.models[at] or "unknown" for at in kept.tolist()).most_common()),
        unjudged=int(np.count_nonzero(traces.status_N[kept] == 0)),
        judged=len(traces.judged),
        faults=tuple(f"{traces.wheres[at]}: {traces.details[at]}" for at in faults),
        hits=tuple(traces.hits),
    )


def _nothing(funnel: Funnel) -> str:
    """One line for a set that would be empty."""
    if not funnel.read:
        return "nothing is left: there were no traces"
    most, others = funnel.most, [f"{each.reason} {each.dropped:,}" for each in funnel.shown]
    fault = f"; the first row that is none: {funnel.faults[0]}" if most.reason == "unreadable" else ""
    return (
        f"nothing is left of {funnel.read:,} traces: most were dropped as {most.reason!r} ({most.about}); "
        f"all reasons: {', '.join(others)}{fault}"
    )


def _chosen(traces: _Traces, parts: Sequence[Part]) -> list[Chosen]:
    """What is to be fetched of each part."""
    found: list[Chosen] = []
    for part, at_M in zip(parts, _by_part(traces, len(parts)), strict=True):
        judged = {index: traces.judged[at] for index, at in enumerate(at_M.tolist()) if at in traces.judged}
        found.append((traces.picked(part, at_M), judged))
    return found


def _dropped(traces: _Traces) -> Iterator[dict[str, str]]:
    """What `dropped.jsonl` says of each dropped trace, in the order of the input."""
    for at in np.flatnonzero(traces.reason_N != KEPT).tolist():
        yield {
            "id": traces.ids[at],
            "model": traces.models[at],
            "where": traces.wheres[at],
            "reason": ORDER[traces.reason_N[at]],
            "detail": traces.details.get(at, ""),
        }
