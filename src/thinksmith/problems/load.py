"""The door to every set of problems, by one string: own families, reasoning-gym's, named sets, files, the hub."""

from __future__ import annotations

import heapq
import warnings
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from thinksmith.errors import UserError
from thinksmith.problems import families
from thinksmith.problems.datasets import DATASETS, find_file
from thinksmith.problems.gym import PREFIX as GYM
from thinksmith.problems.gym import gym_problems
from thinksmith.problems.hub import PREFIX as HUB
from thinksmith.problems.hub import hub_rows
from thinksmith.problems.mapping import Placed, columns_from, problems_from
from thinksmith.problems.office import NAME as OFFICE
from thinksmith.problems.office import office
from thinksmith.problems.rows import SUFFIXES, read_rows
from thinksmith.problems.spec import Spec, did_you_mean, is_file, parse_spec, split_of
from thinksmith.records import Problem
from thinksmith.verify import check_gold

MIXED = "mixed"
FAMILY_SIZE = 300
"""How many problems a family gives when no number is named: its own number has no end."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem whose gold answer cannot be verified. `where` is `file:line` (row, for Parquet and the hub)."""

    id: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where or self.id}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Problems, and what was found about their gold answers."""

    problems: tuple[Problem, ...]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class _Source:
    """Problems as they come, and what the source is called in messages."""

    shown: str
    placed: Iterable[Placed]


def load(
    spec: str, n: int | None = None, *, split: str = "test", seed: int = 0, all_if_fewer: bool = False
) -> list[Problem]:
    """Problems by name: a family, `mixed`, `agent/office`, `gym/NAME`, a named set, a file, or `hub/OWNER/NAME`;
    options after a colon.

    `n` problems of a set are drawn by `seed` without replacement; the draw depends on the problems' ids alone, so it
    does not change with the order of the file, and the first 50 of 100 are the 50 that n=50 gives. `n=None` is all of
    a set, in its order, and 300 of a family (all, if it has fewer at this difficulty); `agent/office` has 24 for each
    `seed`. `split` is the family's, named set's or hub set's, unless the spec names one; a file is taken whole. A gold
    answer that cannot be verified gives a warning; see `load_checked`.

    Raises UserError for whatever is wrong with the spec, the number, the file or its rows; also where there are fewer
    than `n`, unless `all_if_fewer`.
    """
    loaded = load_checked(spec, n, split=split, seed=seed, all_if_fewer=all_if_fewer)
    if loaded.findings:
        count = f"{len(loaded.findings)} of {len(loaded.problems)} gold answers cannot be verified"
        warnings.warn(f"{spec}: {count}, the first: {loaded.findings[0]}", stacklevel=2)
    return list(loaded.problems)


def load_checked(
    spec: str, n: int | None = None, *, split: str = "test", seed: int = 0, all_if_fewer: bool = False
) -> Loaded:
    """What `load` gives, with a finding for each gold answer that cannot be verified instead of a warning."""
    if n is not None and n < 1:
        raise UserError(f"the number of problems must be at least 1, not {n}")
    parsed = parse_spec(spec)
    if _begins_with(parsed, {*families.EVERY, MIXED}):
        own = _family_problems(parsed, n or FAMILY_SIZE, split, seed, all_if_fewer or n is None)
        return Loaded(tuple(own), check(own))
    if parsed.source.startswith(GYM) and not parsed.source.endswith(SUFFIXES):
        drawn = gym_problems(parsed, n or FAMILY_SIZE, split=split, seed=seed, all_if_fewer=all_if_fewer or n is None)
        return Loaded(tuple(drawn), check(drawn))
    if brings_tasks(spec):
        _, split, options = split_of(Spec(parsed.source.replace(OFFICE, "office", 1), parsed.options), split)
        return Loaded(tuple(office(options, n, split=split, seed=seed, all_if_fewer=all_if_fewer)), ())
    source = _source(parsed, split)
    placed = _draw(source, n, seed, all_if_fewer)
    places = {one.problem.id: f"{source.shown}:{one.number}" for one in placed}
    problems = tuple(one.problem for one in placed)
    return Loaded(problems, check(problems, places))


def brings_tasks(spec: str) -> bool:
    """Whether a spec names tasks for an agent, judged by the state in which it is left. Raises UserError for one that
    cannot be read."""
    source = parse_spec(spec).source
    return source == OFFICE or source.startswith(f"{OFFICE}/")


def check(problems: Iterable[Problem], places: Mapping[str, str] | None = None) -> tuple[Finding, ...]:
    """A finding for each problem whose gold cannot be verified against itself; `places` tells where an id comes from.

    Raises UserError for an unknown kind.
    """
    places = places or {}
    judged = ((problem, check_gold(problem)) for problem in problems)
    return tuple(Finding(problem.id, places.get(problem.id, ""), reason) for problem, reason in judged if reason)


def _family_problems(spec: Spec, n: int, split: str, seed: int, all_if_fewer: bool) -> list[Problem]:
    name, split, options = split_of(spec, split)
    if split not in ("train", "test"):
        raise UserError(f"{name} has no split {split!r}; it has: test, train")
    if name != MIXED:
        return families.sample(name, options, n, split=split, seed=seed, all_if_fewer=all_if_fewer)
    if options:
        raise UserError(f"mixed takes no options, only a family does: {', '.join(families.EVERY)}")
    return families.mixture(n, split=split, seed=seed)


def _begins_with(spec: Spec, names: Container[str]) -> bool:
    """Whether a spec is NAME or NAME/SPLIT; `gsm8k/test.jsonl` is a file."""
    return spec.source.partition("/")[0] in names and not spec.source.endswith(SUFFIXES)


def _source(spec: Spec, split: str) -> _Source:
    if _begins_with(spec, DATASETS):
        return _named(*split_of(spec, split))
    if spec.source.startswith(HUB):
        return _hub(spec, split)
    if spec.source.endswith(SUFFIXES) or is_file(spec.source):
        return _file(spec)
    raise UserError(_unknown(spec.source))


def _named(name: str, split: str, options: Mapping[str, str]) -> _Source:
    if options:
        raise UserError(f"{name} takes no options but split, not {', '.join(options)}")
    data_set = DATASETS[name]
    path = find_file(data_set, split)
    prefix = data_set.id_prefix.format(split=split)
    return _Source(
        str(path), problems_from(read_rows(path, str(path)), data_set.columns, prefix=prefix, shown=str(path))
    )


def _file(spec: Spec) -> _Source:
    shown = spec.source
    path = Path(shown).expanduser()
    stem = next((path.name.removesuffix(suffix) for suffix in SUFFIXES if path.name.endswith(suffix)), path.stem)
    columns = columns_from(spec.options, shown)
    return _Source(shown, problems_from(read_rows(path, shown), columns, prefix=stem, shown=shown))


def _hub(spec: Spec, split: str) -> _Source:
    options = dict(spec.options)
    config, split = options.pop("config", ""), options.pop("split", split)
    columns = columns_from(options, spec.source)
    rows = hub_rows(spec.source, config=config, split=split)
    prefix = f"{spec.source.rpartition('/')[2]}/{split}"
    return _Source(spec.source, problems_from(rows, columns, prefix=prefix, shown=spec.source))


def _unknown(source: str) -> str:
    known = [*families.EVERY, MIXED, OFFICE, *DATASETS]
    files = ", ".join(SUFFIXES)
    listed = f"; known are {', '.join(known)}, gym/NAME, files ({files}) and hub/OWNER/NAME"
    what = "there is no such file" if "/" in source or "." in source else "there is no such set of problems"
    return f"{source}: {what}{did_you_mean(source.partition('/')[0], known, otherwise=listed)}"


def _draw(source: _Source, n: int | None, seed: int, all_if_fewer: bool) -> list[Placed]:
    """All, or the n with the smallest hashes of seed and id: a draw that no other problem's presence can reorder."""
    if n is None:
        return list(source.placed)
    drawn = heapq.nsmallest(n, source.placed, key=lambda one: sha256(f"{seed}:{one.problem.id}".encode()).digest())
    if len(drawn) < n and not all_if_fewer:
        raise UserError(f"{source.shown} has only {len(drawn)} problems; ask for {len(drawn)} or fewer, not {n}")
    return drawn
