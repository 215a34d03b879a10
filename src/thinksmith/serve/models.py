"""What is served, by the names that clients call it: models, and strategies over them.

`MODEL:STRATEGY` (`tiny:vote@8`) is the strategy over the served model MODEL. The operator may name any strategy;
clients those of `ours`: built-in ones whose options name no file, import path or other model, and that need no gold
answer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine, EngineInfo, Reads
from thinksmith.errors import UserError
from thinksmith.problems.spec import did_you_mean
from thinksmith.serve.asked import Refusal
from thinksmith.serve.dialect import About
from thinksmith.serve.gate import Gate
from thinksmith.strategies.names import STRATEGIES, Named, strategy

MOST_DRAWS = 128  # of a strategy that a client names
SHOWN = ("vote@8", "adaptive", "best_of@8", "confident@8", "budget=512")
"""Strategies that listings name beside each model. A client may name others."""
_BY_GOLD = ("verifier", "tests")  # what looks at a gold answer, which nobody sends here
_COUNTS = ("n", "width", "expand", "depth", "rounds", "then_n", "first", "step", "waits")
_DRAWS = {"vote": 8, "adaptive": 16, "best_of": 8, "confident": 16, "beam": 8, "dvts": 8}


@dataclass(eq=False, slots=True)
class Base:
    """An open engine, the gate before it, and what is told of it. `info` is what it said when it was opened."""

    name: str
    engine: Engine
    gate: Gate
    info: EngineInfo
    about: About

    @classmethod
    def of(cls, name: str, engine: Engine, *, places: int, queue: int) -> Base:
        info = engine.info
        return cls(name, engine, Gate(places, queue), info, _about(name, engine, info))


@dataclass(frozen=True, slots=True)
class Served:
    """What answers to a name: a base model, or a strategy over it."""

    base: Base
    about: About
    strategy: Named | None = None
    opener: Any = field(default=None, compare=False)

    @property
    def draws(self) -> int:
        """How many traces it asks for at one time, about."""
        if self.strategy is None:
            return 1
        options = self.strategy.options
        usual = _DRAWS.get(self.strategy.name, 1)
        return max(1, int(options.get("n") or options.get("most") or options.get("width") or usual))


class Shelf:
    """All that is served."""

    def __init__(self, bases: Sequence[Base], named: Mapping[str, tuple[Base, Named]] | None = None) -> None:
        self.bases = {base.name: base for base in bases}
        self._named = {name: self._served(name, base, each) for name, (base, each) in (named or {}).items()}
        self._others: dict[str, Engine] = {}

    @classmethod
    def open(cls, names: Sequence[str], *, places: int = 256, queue: int = 256, **options: Any) -> Shelf:
        """Opens the models that these names need, each once. `options` are those of `open_engine` for models in this
        process. Raises UserError."""
        from thinksmith.engines import is_remote

        wanted = {name: _split(name) for name in names}
        bases: dict[str, Base] = {}
        for model, _ in wanted.values():
            if model not in bases:
                own = {} if is_remote(model) or model.startswith("replay/") else options
                bases[model] = Base.of(model, open_engine(model, **own), places=places, queue=queue)
        shelf = cls(
            list(bases.values()),
            {name: (bases[model], spec) for name, (model, spec) in wanted.items() if spec is not None},
        )
        shelf._open_others()
        return shelf

    def find(self, name: str) -> Served:
        """Raises Refusal, 404, with the names there are."""
        plain = name.removesuffix(":latest")
        for each in (name, plain):
            if each in self._named:
                return self._named[each]
            if each in self.bases:
                base = self.bases[each]
                return Served(base, base.about)
        for base in sorted(self.bases.values(), key=lambda each: -len(each.name)):
            if plain.startswith(f"{base.name}:"):
                return self._served(name, base, ours(plain[len(base.name) + 1 :]))
        if not name:
            raise Refusal(f"model is missing: name one of {self._listed()}", field="model")
        near = did_you_mean(name, [*self._named, *self.bases], otherwise=f"; there are {self._listed()}")
        raise Refusal(f"no model {name[:100]!r} is served{near}", status=404, field="model")

    @property
    def listed(self) -> tuple[About, ...]:
        """What the operator named: base models, then strategies."""
        return (*(base.about for base in self.bases.values()), *(served.about for served in self._named.values()))

    def open_other(self, name: str) -> Engine:
        """Another model for an operator's strategy: a judge, a bigger one. Raises UserError."""
        if name in self.bases:
            return self.bases[name].engine
        if name not in self._others:
            self._others[name] = open_engine(name)
        return self._others[name]

    async def aclose(self) -> None:
        """Close all engines."""
        engines = [*(base.engine for base in self.bases.values()), *self._others.values()]
        await asyncio.gather(*(engine.aclose() for engine in engines), return_exceptions=True)

    def _open_others(self) -> None:
        """Loading takes seconds, so it is not left to the first request."""
        for served in self._named.values():
            options = served.strategy.options if served.strategy else {}
            judged = "judge" in (options.get("by"), options.get("weight")) and options.get("model")
            for name in (options.get("then"), judged):
                if name:
                    self.open_other(str(name))

    def _served(self, name: str, base: Base, named: Named) -> Served:
        about = replace(base.about, name=name, strategy=named.spec, base=base.name, strategies=())
        return Served(base, about, named, self.open_other)

    def _listed(self) -> str:
        return ", ".join([*self.bases, *self._named])


def ours(spec: str) -> Named:
    """The strategy that a client named. Raises Refusal for what is unknown, and for what is not a client's to name."""
    name = spec.partition(":")[0].partition("@")[0].partition("=")[0].strip()
    if name not in STRATEGIES or len(spec) > 200:
        near = did_you_mean(name[:50], STRATEGIES, otherwise=f"; known: {', '.join(STRATEGIES)}")
        raise Refusal(f"no strategy {name[:50]!r}{near}", status=404, field="model")
    if STRATEGIES[name].tasks:  # its tools would be this machine's
        raise Refusal(f"{name} has tools, so it is the operator's to name", status=403, field="model")
    if any(f"{key}=" in spec.replace(" ", "") for key in ("model", "file", "then")):
        raise Refusal("a strategy with model=, file= or then= is the operator's to name", status=403, field="model")
    try:
        named = strategy(spec)
    except UserError as error:
        raise Refusal(str(error), field="model") from None
    for key, value in named.options.items():
        if isinstance(value, str) and (":" in value or "/" in value):
            raise Refusal(f"{key}={value} is the operator's to name", status=403, field="model")
        if isinstance(value, int) and not isinstance(value, bool) and _counts(name, key) and value > MOST_DRAWS:
            raise Refusal(f"{key} may be {MOST_DRAWS} at most here", field="model")
    if (
        name == "race"
        or named.options.get("by", _default_by(name)) in _BY_GOLD
        or named.options.get("weight") in _BY_GOLD
    ):
        raise Refusal(f"{named.spec} looks at a gold answer, and a question over HTTP has none", field="model")
    return named


def _counts(name: str, key: str) -> bool:
    """Is the option a number of draws or rounds, not of tokens?"""
    return key in _COUNTS or (key == "most" and name != "budget")


def _default_by(name: str) -> str:
    return "verifier" if name == "refine" else ""


def _split(name: str) -> tuple[str, Named | None]:
    """An operator's name as model and strategy. Colons also stand in models' names, so what is a strategy decides."""
    at = name.find(":")
    mistake: UserError | None = None
    while at >= 0:
        try:
            return name[:at], strategy(name[at + 1 :])
        except UserError as error:
            mistake = mistake or error
        at = name.find(":", at + 1)
    if mistake and name.split(":")[0] in _embedded():
        raise mistake
    return name, None


def _embedded() -> Sequence[str]:
    from thinksmith.models import EMBEDDED

    return tuple(EMBEDDED)


def _about(name: str, engine: Engine, info: EngineInfo) -> About:
    policy = getattr(engine, "policy", None)
    facts: dict[str, Any] = {}
    if policy is not None:
        weights = list(policy.model.parameters())
        facts = {
            "architecture": str(policy.model.config.model_type),
            "parameters": sum(each.numel() for each in weights),
            "size": sum(each.numel() * each.element_size() for each in weights),
            "dtype": str(policy.model.dtype).removeprefix("torch."),
        }
    return About(
        name=name,
        model=info.name,
        created=int(time.time()),
        context_length=info.context_length,
        digest=info.weights_hash,
        logprobs=info.logprobs,
        tags=engine.tags if isinstance(engine, Reads) else None,
        decode=engine.decode if isinstance(engine, Reads) else None,
        strategies=tuple((spec, STRATEGIES[strategy(spec).name].about) for spec in SHOWN if _works(spec, info)),
        **facts,
    )


def _works(spec: str, info: EngineInfo) -> bool:
    """Does the engine have what the strategy looks at?"""
    name = strategy(spec).name
    return (info.logprobs or name not in ("best_of", "confident")) and (info.budget or name != "budget")
