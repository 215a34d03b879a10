"""Intervals, tests and measures over k, on arrays of scores."""
