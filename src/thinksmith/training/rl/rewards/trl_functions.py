"""TRL's reward functions as ours: called once for all attempts of a step, with lists as GRPOTrainer gives them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from thinksmith.errors import UserError
from thinksmith.records import Attempt

CONVERSATIONAL = "conversational"
"""The option of a recipe that chooses between messages and plain text."""


def from_trl(
    function: Callable[..., Any], *, conversational: bool = True, **fixed: Any
) -> Callable[[Sequence[Attempt]], Sequence[float | None]]:
    """A TRL reward function as a reward of ours that takes all attempts of a step; `fixed` are arguments of its own.

    It is given what GRPOTrainer gives, as far as it asks for it: `prompts`, `completions`, `completion_ids`, a list for
    every key of a problem's `meta` (None where a problem has no such key), and `answer` and `solution`, both the gold
    answer, where `meta` has none of that name. `log_extra` and `log_metric` do nothing. With `conversational` prompts
    are lists of messages and a completion is one assistant message, which is what our engines show to a model; without,
    both are text. A completion is the assistant's whole turn, what the template opened and the prefill included, so
    that a format that begins with `<think>` is found. An `async` function is awaited.

    Raises UserError where the function asks for a column that no problem has. None means what it means here: the
    attempt is left out of its group. (To TRL it means that only this reward is left out of the sum.)
    """

    def scored(attempts: Sequence[Attempt]) -> Sequence[float | None]:
        arguments = _asked(function, _columns(attempts, conversational) | fixed)
        found = function(**arguments)
        return _awaited(found) if inspect.isawaitable(found) else found  # type: ignore[no-any-return]

    return scored


def _columns(attempts: Sequence[Attempt], conversational: bool) -> dict[str, Any]:
    """What TRL would pass, whether it is asked for or not."""
    metas = [attempt.problem.meta for attempt in attempts]
    gold = [attempt.problem.answer for attempt in attempts]
    own: dict[str, Any] = {key: [meta.get(key) for meta in metas] for key in dict.fromkeys(k for m in metas for k in m)}
    texts = [attempt.trace.text for attempt in attempts]
    if conversational:
        prompts: list[Any] = [[dict(message) for message in attempt.problem.messages] for attempt in attempts]
        completions: list[Any] = [[{"role": "assistant", "content": text}] for text in texts]
    else:
        prompts, completions = [attempt.problem.text for attempt in attempts], list(texts)
    return {
        "answer": gold,
        "solution": gold,
        "log_extra": _log,
        "log_metric": _log,
        **own,
        "prompts": prompts,
        "completions": completions,
        "completion_ids": [list(attempt.trace.token_ids) for attempt in attempts],
    }


def _asked(function: Callable[..., Any], columns: dict[str, Any]) -> dict[str, Any]:
    """The columns that the function has parameters for: all of them, if it takes any."""
    parameters = inspect.signature(function).parameters
    for name, each in parameters.items():
        needed = each.default is each.empty and each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
        if needed and name not in columns:
            raise UserError(f"it asks for the column {name!r}, which no problem of this step has in its meta")
    every = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    bound = function.keywords if isinstance(function, partial) else {}
    return {key: value for key, value in columns.items() if (every or key in parameters) and key not in bound}


def _awaited(found: Awaitable[Any]) -> Any:
    """Its result, also where an event loop runs in this thread already, as in a notebook."""

    async def wait() -> Any:
        return await found

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, wait()).result()


def _log(*_: Any, **__: Any) -> None:
    """Stands in for what TRL's trainer lets a reward function log."""
