"""Is it right? One file per kind of answer; `verify(problem, trace)` decides by `problem.kind`."""

from thinksmith.verify.batch import check_all, judged, judged_beside, verify_all
from thinksmith.verify.verdict import VERIFIERS, Verifier, check_gold, require, verify

__all__ = [
    "VERIFIERS",
    "Verifier",
    "check_all",
    "check_gold",
    "judged",
    "judged_beside",
    "require",
    "verify",
    "verify_all",
]
