"""`gym/NAME`: the generators of reasoning-gym (extra `gym`) as problem families.

A problem's id and split depend on its question alone (or on the task that it is a picture of), so what is held out
stays held out whatever the seed and the options. How its answers are judged is decided by the audit, not by the
package.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, Any

from thinksmith.errors import UserError
from thinksmith.problems.family import HELD_OUT_SHARE
from thinksmith.problems.gym_audit import AUDIT, AUDITED, SERVED
from thinksmith.problems.gym_gold import Item, gold_of
from thinksmith.problems.spec import Spec, did_you_mean, split_of
from thinksmith.records import Problem

PREFIX = "gym/"
_PATIENCE = 3_000
"""Items in a row that gave no new problem of the split: then the family is taken to be exhausted."""


def gym_problems(
    spec: Spec, n: int, *, split: str = "test", seed: int = 0, all_if_fewer: bool = False
) -> list[Problem]:
    """n different problems of `gym/NAME[/SPLIT]:option=value,…`, always the same for a seed.

    Raises UserError for a name, split or option that there is not, for a data set that is refused (with the reason),
    where the extra is missing, and where there are fewer than n, unless `all_if_fewer`.
    """
    name, split, options = _named(spec, split)
    chosen: dict[str, Problem] = {}
    misses = 0
    with _items(name, options, seed) as items:
        for item in items:
            problem = problem_of(name, item)
            if problem is None or problem.meta["split"] != split or problem.id in chosen:
                misses += 1
            else:
                chosen[problem.id], misses = problem, 0
            if len(chosen) >= n or misses > _PATIENCE:
                break
    if len(chosen) < n and not (all_if_fewer and chosen):
        raise UserError(
            f"gym/{name} has only {len(chosen)} different {split} problems with these options; ask for fewer than {n}"
        )
    return list(chosen.values())


def _named(spec: Spec, split: str) -> tuple[str, str, dict[str, str]]:
    """Name, split and options of a spec that begins with `gym/`."""
    name, split, options = split_of(spec, split, PREFIX)
    if name not in AUDIT:
        near = did_you_mean(name, SERVED, otherwise="; `thinksmith problems` lists them")
        raise UserError(f"gym/{name}: there is no such data set{near}")
    if not AUDIT[name].rule:
        raise UserError(f"gym/{name} is refused: {AUDIT[name].note}")
    if split not in ("train", "test"):
        raise UserError(f"gym/{name} has no split {split!r}; it has: test, train")
    return name, split, options


def problem_of(name: str, item: Item) -> Problem | None:
    """One item as a problem; None where it cannot be served."""
    audit, gold = AUDIT[name], gold_of(name, item)
    if gold is None:
        return None
    facts = item["metadata"]
    question = str(item["question"]).strip()
    kind, _, rule = (gold.kind or audit.rule).partition("/")
    kept = {key: facts[key] for key in audit.keep}
    meta: dict[str, Any] = {
        "family": f"gym/{name}",
        "split": _split(name, str(facts.get(audit.group, question))),
        **gold.meta,
    }
    if rule == "scorer":
        meta |= {"rule": rule, "dataset": name, "metadata": kept}
    elif rule:
        meta |= {"rule": rule, **kept}
    if facts.get("difficulty"):
        meta["difficulty"] = facts["difficulty"]
    digest = hashlib.sha256(f"gym/{name}:{question}".encode()).hexdigest()
    return Problem(f"gym/{name}/{meta['split']}/{digest[:12]}", question, gold.answer, kind, meta)


def _split(name: str, key: str) -> str:
    """Test for a tenth of all keys, by the rule of our own families."""
    digest = hashlib.sha256(f"gym/{name}:{key}".encode()).digest()
    return "test" if int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32 else "train"


@contextmanager
def _items(name: str, options: Mapping[str, str], seed: int) -> Iterator[Iterator[Item]]:
    """The items of one data set without end, from a process that ends with the block."""
    request = json.dumps({"name": name, "options": dict(options), "seed": seed})
    environment = {**os.environ, "PYTHONHASHSEED": "0"}  # some of the generators walk through sets
    command = [sys.executable, "-P", "-m", "thinksmith.problems.gym_generate", request]
    with (
        TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, env=environment
        ) as generator,
    ):
        try:
            assert generator.stdout is not None
            yield _read(generator.stdout, complaints)
        finally:
            generator.kill()


def _read(lines: IO[bytes], complaints: IO[str]) -> Iterator[Item]:
    """The items; `complaints` is what the generator wrote to stderr. Raises UserError for what it says is wrong."""
    for line in lines:
        record = json.loads(line)
        if "error" in record:
            raise UserError(record["error"])
        if record.get("version", AUDITED) != AUDITED:
            raise UserError(
                f"gym/NAME has not been audited for version {record['version']} of reasoning-gym, only for {AUDITED}: "
                "pip install 'thinksmith[gym]'"
            )
        if "question" in record:
            yield record
    complaints.seek(0)
    said = complaints.read().strip().rpartition("\n")[2]
    if "No module named 'reasoning_gym'" in said:
        raise UserError("gym/NAME needs reasoning-gym: pip install 'thinksmith[gym]'")
    raise RuntimeError(f"reasoning-gym's generator ended: {said}")
