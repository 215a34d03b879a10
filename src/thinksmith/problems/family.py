"""What a problem family is: a generator, a solver that writes a trace, and a split that no training crosses.

A family is one file with three functions (`generate`, `solve`, and a `check` through its verifier kind) and one
`Family` record that names them. The split is by a hash of the problem itself, so a problem is held out
whatever seed, wording or operand range produced it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from thinksmith.errors import UserError
from thinksmith.problems.writer import Writer
from thinksmith.records import Problem

HELD_OUT_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One difficulty setting of a family: a whole number in low..high, or one of `choices`."""

    default: int | str
    about: str
    low: int = 0
    high: int = 0
    choices: tuple[str, ...] = ()


Parameters = Mapping[str, int | str]


@dataclass(frozen=True, slots=True)
class Family:
    """A problem family.

    `generate(rng, parameters)` draws one problem of either split; `solve(problem, writer)` writes the thinking
    into the writer and returns the answer that this thinking leads to (the right one unless the writer slipped);
    `guess(problem, rng)` is a plausible wrong answer, for models that answer without thinking.
    """

    name: str
    about: str
    kind: str
    parameters: Mapping[str, Parameter]
    generate: Callable[[Random, Parameters], Problem]
    solve: Callable[[Problem, Writer], str]
    guess: Callable[[Problem, Random], str]

    def settings(self, given: Mapping[str, str]) -> dict[str, int | str]:
        """Checked parameters with defaults filled in. Raises UserError for an unknown or out-of-range one."""
        result: dict[str, int | str] = {name: p.default for name, p in self.parameters.items()}
        for name, text in given.items():
            if name not in self.parameters:
                known = ", ".join(self.parameters)
                raise UserError(f"family {self.name!r} has no parameter {name!r}; it has: {known}")
            result[name] = _checked(self.name, name, self.parameters[name], text)
        return result


def _checked(family: str, name: str, parameter: Parameter, text: str) -> int | str:
    if parameter.choices:
        if text not in parameter.choices:
            raise UserError(f"{family}: {name}={text!r} must be one of {', '.join(parameter.choices)}")
        return text
    try:
        value = int(text)
    except ValueError:
        raise UserError(f"{family}: {name}={text!r} must be a whole number") from None
    if not parameter.low <= value <= parameter.high:
        raise UserError(f"{family}: {name}={value} must lie in {parameter.low}..{parameter.high}")
    return value


def make_problem(family: str, key: str, prompt: str, answer: str, kind: str, **meta: object) -> Problem:
    """A problem whose id and split depend on `key` alone: the canonical form of what is asked, not its wording."""
    digest = hashlib.sha256(f"{family}:{key}".encode()).digest()
    held_out = int.from_bytes(digest[:4], "big") < HELD_OUT_SHARE * 2**32
    split = "test" if held_out else "train"
    return Problem(
        id=f"{family}/{split}/{digest.hex()[:12]}",
        prompt=prompt,
        answer=answer,
        kind=kind,
        meta={"family": family, "split": split, "key": key, **meta},
    )
