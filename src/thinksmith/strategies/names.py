"""Strategies by name, as the command line and recipes write them: `single`, `vote@8`, `budget=512`,
`best_of@4:by=confidence`, `adaptive:most=32,threshold=0.9`.

    NAME [@N] [=VALUE] [:key=value,…]

`@N` is the option `n` (how many draws at most), `=VALUE` the option that a strategy is about (`budget`: its tokens).
The options of a strategy are the keyword arguments of its factory, so `STRATEGIES` is all there is to it. A strategy of
your own is named by import path: `my_module:my_factory` (`:key=value` as above).
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from thinksmith.engines.contract import Engine
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean
from thinksmith.records import Sampling
from thinksmith.strategies.contract import Strategy

Opener = Callable[[str], Engine]
"""Opens another model by its name: for a judge, a reward model, a bigger model to escalate to."""

_SPEC = re.compile(
    r"(?P<name>[A-Za-z_]\w*(?:(?:\.\w+)*:[A-Za-z_]\w*(?!\w*=))?)(?:@(?P<n>[^=:@]*))?(?:=(?P<value>[^:]*))?(?::(?P<options>.*))?",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Named:
    """A strategy by name: `make(sampling, sample, open)` gives the async function for the sample-th attempt.

    `spec` is the canonical way to write it (defaults left out): what runs and reports call it.
    """

    spec: str
    name: str
    options: Mapping[str, Any]
    make: Callable[[Sampling, int, Opener], Strategy]


@dataclass(frozen=True, slots=True)
class _Known:
    """Where a factory is (a module of this folder, or the whole path of another), what `=VALUE` means to it, and one
    line for people. `tasks`: it judges tasks of an agent."""

    module: str
    about: str
    value: str = ""
    tasks: bool = False


STRATEGIES: dict[str, _Known] = {
    "single": _Known("single", "ask once"),
    "budget": _Known("budget", "ask once, and bound the thinking from above or below", value="most"),
    "vote": _Known("vote", "the answer that most of n traces give"),
    "adaptive": _Known("adaptive", "vote, and stop asking when the leader is safe"),
    "best_of": _Known("best_of", "of n traces the one that scores best, or the answer whose traces score best"),
    "confident": _Known("confident", "vote weighted by the model's own confidence; weak traces are stopped early"),
    "beam": _Known("beam", "search over steps of the thinking, by a score of each"),
    "dvts": _Known("dvts", "several independent searches, then a vote"),
    "refine": _Known("refine", "answer, be told what is wrong, try again"),
    "race": _Known("race", "draws until one is verified"),
    "cascade": _Known("cascade", "a cheap model first, a bigger one or more thinking where it is unsure"),
    "agent": _Known("thinksmith.agent.evaluated", "plan, call tools, look back, answer", tasks=True),
}
"""Name → the module whose function of the same name makes it. One entry a strategy."""


def strategy(spec: str) -> Named:
    """The strategy that a name stands for. UserError names the nearest one, or the option that is wrong."""
    text = spec.strip()
    match = _SPEC.fullmatch(text)
    if match is None:
        raise UserError(f"no strategy {text!r}: write a name, such as vote@8, budget=512 or adaptive:most=32")
    name = match["name"]
    factory, value = _factory(name)
    known = {key: each for key, each in inspect.signature(factory).parameters.items() if each.kind == each.KEYWORD_ONLY}
    open_to = {key: each for key, each in known.items() if key not in ("sample", "open")}
    options = {
        key: _typed(name, key, raw, open_to, factory) for key, raw in _written(match, name, value, open_to).items()
    }
    for key, each in open_to.items():
        if each.default is each.empty and key not in options:
            raise UserError(f"{name} needs {key}: write {_shown(name, {**options, key: '…'})}")

    def make(sampling: Sampling, sample: int, open_engine: Opener) -> Strategy:
        extra: dict[str, Any] = {"sample": sample} if "sample" in known else {}
        if "open" in known:
            extra["open"] = open_engine
        made: Strategy = factory(sampling, **options, **extra)
        return made

    unlike = {key: each for key, each in options.items() if each != open_to[key].default}
    made = Named(_shown(name, unlike), name, options, make)
    made.make(Sampling(), 0, _no_engine)  # what cannot be is refused now, not after an hour
    return made


def _no_engine(name: str) -> Engine:
    raise RuntimeError(f"{name} is opened when the strategy runs, not when it is made")


def _factory(name: str) -> tuple[Callable[..., Strategy], str]:
    if ":" in name:
        module, _, attribute = name.partition(":")
        if module in STRATEGIES:
            raise UserError(f"{attribute!r} in {name!r}: options are written key=value, with commas between them")
        try:
            found: Callable[..., Strategy] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise UserError(f"no strategy {name!r} can be imported ({error}): is its folder on PYTHONPATH?") from error
        return found, ""
    if name not in STRATEGIES:
        listed = f"; known: {', '.join(STRATEGIES)}"
        raise UserError(f"no strategy {name!r}{did_you_mean(name, STRATEGIES, otherwise=listed)}")
    known = STRATEGIES[name]
    module = known.module if "." in known.module else f"thinksmith.strategies.{known.module}"
    return getattr(importlib.import_module(module), name), known.value


def _written(match: re.Match[str], name: str, value: str, known: Mapping[str, Any]) -> dict[str, str]:
    """The options as texts. UserError for an unknown, a doubled or an empty one."""
    pairs = []
    if match["n"] is not None:
        pairs.append(("n", match["n"]))
    if match["value"] is not None:
        if not value:
            raise UserError(f"{name} takes no value behind =; options are written {name}:key=value")
        pairs.append((value, match["value"]))
    for part in filter(None, (match["options"] or "").split(",")):
        key, equals, raw = (piece.strip() for piece in part.partition("="))
        if not (key and equals and raw):
            raise UserError(f"{part!r} in {match[0]!r}: options are written key=value, with commas between them")
        pairs.append((key, raw))
    found: dict[str, str] = {}
    for key, raw in pairs:
        if key not in known:
            listed = f"; it has: {', '.join(known) or 'none'}"
            raise UserError(f"{name} has no option {key!r}{did_you_mean(key, known, otherwise=listed)}")
        if key in found:
            raise UserError(f"{match[0]!r} gives {key} twice")
        found[key] = raw
    return found


def _typed(name: str, key: str, raw: str, known: Mapping[str, inspect.Parameter], factory: Callable[..., Any]) -> Any:
    """A text as the type that the factory's annotation names: int, float, bool, str, `X | None`, Literal."""
    choices = _choices(inspect.get_annotations(factory, eval_str=True).get(key, str))
    literals = [choice for choice in choices if isinstance(choice, str)]
    kinds = [kind for kind in choices if isinstance(kind, type)] or [str]
    if literals:
        if raw not in literals:
            raise UserError(f"{name}: {key}={raw} is none of {', '.join(literals)}")
        return raw
    for kind in kinds:
        if kind is bool and raw.lower() in ("true", "false", "yes", "no"):
            return raw.lower() in ("true", "yes")
        if kind in (int, float, str):
            try:
                return kind(raw)
            except ValueError:
                continue
    raise UserError(
        f"{name}: {key}={raw} is no {'whole number' if int in kinds else 'number' if float in kinds else 'yes or no'}"
    )


def _choices(wanted: Any) -> list[Any]:
    """The types, and the texts of a Literal, that an annotation allows."""
    if get_origin(wanted) is None:
        return [wanted]
    return [each for part in get_args(wanted) for each in ([part] if isinstance(part, str) else _choices(part))]


def _shown(name: str, options: Mapping[str, Any]) -> str:
    """The canonical spec."""
    rest = dict(options)
    head = f"{name}@{rest.pop('n')}" if "n" in rest else name
    value = STRATEGIES[name].value if name in STRATEGIES else ""
    if value in rest:
        head += f"={rest.pop(value)}"
    return head + (":" + ",".join(f"{key}={rest[key]}" for key in sorted(rest)) if rest else "")
