"""Writes docs/benchmarks.md from bench/results/*.json, so that no figure in it was typed by hand.

    python bench/write_docs.py            # write the page
    python bench/write_docs.py --check    # exit status 1 if the page is not what the results give

A result counts only if it comes from a full run; one of `--quick` is named and its figures are left out.
"""

from __future__ import annotations

import argparse
import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
PAGE = BENCH.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Measured by the scripts in `bench/`, each of which states its goals and writes its figures, the machine and the
versions to `bench/results/`. This page is made from those files by `make docs`; nothing in it is written by hand. A
goal that was missed stays here and says so.
"""


def page(results: Path) -> str:
    """The whole document for a folder of results, in the order of their names."""
    sections = [_section(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(results.glob("*.json"))]
    return "\n".join([HEAD, *sections])


def _section(result: dict[str, Any]) -> str:
    name = result["name"]
    lines = [f"## {name}", "", _about(name), ""]
    if result["quick"]:
        return "\n".join([*lines, f"No full run is recorded. `python bench/{name}.py` makes one.", ""])
    tables: list[str] = []
    rows = ["| figure | value |", "|---|---|"]
    for figure, value in _flat(result["figures"]):
        if _is_table(value):
            tables += ["", f"{figure}:", "", *_table(value)]
        else:
            rows.append(f"| {figure} | {_text(value)} |")
    goals = ", ".join(f"{goal} {_text(value)}" for goal, value in _flat(result["goals"]))
    met = "met" if result["holds"] else "**not met**"
    return "\n".join([*lines, *rows, *tables, "", f"Goals ({met}): {goals or 'none'}.", "", _where(result), ""])


def _about(name: str) -> str:
    """The first paragraph of the script's docstring."""
    tree = ast.parse((BENCH / f"{name}.py").read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").split("\n\n")[0]


def _flat(figures: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested names joined by a full stop; lists stay whole."""
    for name, value in figures.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield _cell(f"{prefix}{name}"), value


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    flat = [dict(_flat(row)) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    body = ["| " + " | ".join(_text(row[name]) if name in row else "" for name in names) + " |" for row in flat]
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|", *body]


def _text(value: Any) -> str:
    """A value for a cell: numbers with thousands separators where they are whole, as they stand otherwise."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "—"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) else _cell(str(value))


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _where(result: dict[str, Any]) -> str:
    machine, versions = result["machine"], result["versions"]
    hardware = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB"
    accelerator = f", {machine['gpu']}" if machine["gpu"] else ""
    software = ", ".join(f"{package} {version}" for package, version in versions.items())
    return f"{result['date'][:10]} on {hardware}{accelerator}; {software}."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if the page is not current")
    text = page(BENCH / "results")
    if parser.parse_args().check:
        return int(not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text)
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
