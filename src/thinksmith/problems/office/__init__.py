"""Tasks for an agent in an office: files, a SQLite database, Python. `family.py` makes them by seed."""

from thinksmith.problems.office.family import NAME, TASKS, office

__all__ = ["NAME", "TASKS", "office"]
