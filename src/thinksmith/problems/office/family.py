"""`agent/office`: 24 different tasks of a seed, easy to hard, each with a checked end state.

agent/office                      the 24 tasks of the seed
agent/office:level=1              the eight easy ones (2, 3)
agent/office:task=merge_tables    one of them
agent/office:variants=4           four of each kind
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from hashlib import sha256
from random import Random

from thinksmith.errors import UserError
from thinksmith.problems.office import database, programs, sheets, texts, traps
from thinksmith.problems.office.task import Task, problem_of
from thinksmith.problems.spec import did_you_mean
from thinksmith.records import Problem

NAME = "agent/office"
MOST_VARIANTS = 1000

TASKS: dict[str, Callable[[Random], Task]] = {
    make.__name__: make
    for make in (
        sheets.sum_column,
        sheets.sorted_names,
        sheets.unit_table,
        texts.newest_error,
        texts.count_status,
        texts.fill_letter,
        texts.follow_pointers,
        texts.rename_setting,
        sheets.merge_tables,
        sheets.dedupe_contacts,
        texts.memo_edits,
        texts.newer_notice,
        texts.restore_backup,
        texts.json_by_schema,
        texts.broken_links,
        database.null_average,
        sheets.currency_total,
        sheets.unpaid_invoices,
        database.lost_revenue,
        database.org_chart,
        programs.fix_script,
        programs.write_function,
        traps.nothing_to_change,
        traps.injected_note,
    )
}
"""Name → what makes a task of it from a random source. The eight easy ones come first, then the others by level."""


def office(
    options: Mapping[str, str], n: int | None = None, *, split: str = "test", seed: int = 0, all_if_fewer: bool = False
) -> list[Problem]:
    """The tasks of a seed, in the order of `TASKS`; `n` of them are drawn by the seed, easy and hard alike, and the
    first ones of a larger draw are those of a smaller one. Tasks of the split `train` have other contents.

    Raises UserError for an unknown option or split, and where there are fewer than `n`, unless `all_if_fewer`.
    """
    if split not in ("train", "test"):
        raise UserError(f"{NAME} has no split {split!r}; it has: test, train")
    level, only, variants = _settings(options)
    made = [
        problem_of(make(Random(f"{seed}:{NAME}:{split}:{name}:{variant}")), name, split)
        for variant in range(variants)
        for name, make in TASKS.items()
        if only in ("", name)
    ]
    found = [problem for problem in made if level in (0, problem.meta["level"])]
    if n is None:
        return found
    if len(found) < n and not all_if_fewer:
        raise UserError(f"{NAME} has {len(found)} such tasks: ask for fewer than {n}, or for variants={-(-n // 24)}")
    return sorted(found, key=lambda each: sha256(f"{seed}:{each.id}".encode()).digest())[:n]


def _settings(options: Mapping[str, str]) -> tuple[int, str, int]:
    """level (0: any), task (empty: any) and variants."""
    for name in options:
        if name not in ("level", "task", "variants"):
            raise UserError(f"{NAME} has no option {name!r}; it has: level, task, variants")
    level, only, variants = options.get("level", "any"), options.get("task", ""), options.get("variants", "1")
    if level not in ("any", "1", "2", "3"):
        raise UserError(f"{NAME}: level={level} must be 1, 2, 3 or any")
    if only and only not in TASKS:
        listed = f"; it has: {', '.join(TASKS)}"
        raise UserError(f"{NAME} has no task {only!r}{did_you_mean(only, TASKS, otherwise=listed)}")
    if not (variants.isascii() and variants.isdecimal() and 1 <= int(variants) <= MOST_VARIANTS):
        raise UserError(f"{NAME}: variants={variants} must be a whole number in 1..{MOST_VARIANTS}")
    return 0 if level == "any" else int(level), only, int(variants)
