"""Is it right? One file per kind of answer; `verify(problem, trace)` decides by `problem.kind`."""

from thinksmith.verify.verdict import VERIFIERS, check_gold, verify

__all__ = ["VERIFIERS", "check_gold", "verify"]
