"""Kind `code`: a program is right if it passes its tests. `judge` says how they are run, `program` what is taken."""

from thinksmith.verify.code.judge import check_tests, judge, taken

__all__ = ["check_tests", "judge", "taken"]
