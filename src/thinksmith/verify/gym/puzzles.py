"""Kind `gym`, puzzles that may have several solutions: an answer is held against the puzzle, not against the gold.

Each function takes the answer and the problem's meta, and returns None or the first rule that is broken. What is
given in the puzzle must stand in the answer as it was.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thinksmith.verify.gym.forms import bare, parsed, rows
from thinksmith.verify.judgement import Unreadable

Grid = Sequence[Sequence[int]]


def _whole(answer: str, height: int, width: int) -> list[list[int]]:
    """A grid of whole numbers of this size. Raises Unreadable for another."""
    grid = rows(answer)
    if len(grid) != height or any(len(row) != width for row in grid):
        raise Unreadable(f"that is no grid of {height} rows of {width}")
    if not all(re.fullmatch(r"[0-9]{1,6}", cell) for row in grid for cell in row):
        raise Unreadable("there are cells that are no whole numbers")
    return [[int(cell) for cell in row] for row in grid]


def _changed(puzzle: Grid, grid: Grid, empty: int = 0) -> bool:
    """Whether a given number was replaced."""
    return any(
        given not in (empty, cell)
        for one, other in zip(puzzle, grid, strict=True)
        for given, cell in zip(one, other, strict=True)
    )


def _once_each(lines: Iterable[Sequence[int]], size: int) -> bool:
    return all(sorted(line) == list(range(1, size + 1)) for line in lines)


def _columns(grid: Grid) -> list[tuple[int, ...]]:
    return list(zip(*grid, strict=True))


def judge_sudoku(answer: str, meta: Mapping[str, Any]) -> str | None:
    """Every row, column and box holds each number once; boxes are 3x3, in a mini sudoku 2x2."""
    puzzle = meta["puzzle"]
    size, box = len(puzzle), 3 if len(puzzle) == 9 else 2
    grid = _whole(answer, size, size)
    if _changed(puzzle, grid):
        return "a given number was changed"
    corners = [(r, c) for r in range(0, size, box) for c in range(0, size, box)]
    boxes = [[grid[r + i][c + j] for i in range(box) for j in range(box)] for r, c in corners]
    for name, lines in (("row", grid), ("column", _columns(grid)), ("box", boxes)):
        if not _once_each(lines, size):
            return f"a {name} does not hold each number once"
    return None


def judge_futoshiki(answer: str, meta: Mapping[str, Any]) -> str | None:
    """A Latin square that keeps the signs; the signs may be repeated in the answer or left out."""
    puzzle = meta["puzzle"]
    size = len(puzzle)
    lines = [re.sub(r"[<>∧∨^v\s,|]+", " ", line).strip() for line in bare(answer).splitlines()]
    grid = _whole("\n".join(line for line in lines if line), size, size)
    if _changed(puzzle, grid):
        return "a given number was changed"
    for name, group in (("row", grid), ("column", _columns(grid))):
        if not _once_each(group, size):
            return f"a {name} does not hold each number once"
    for r1, c1, r2, c2, sign in meta["constraints"]:
        a, b = grid[r1][c1], grid[r2][c2]
        if not (a < b if sign == "<" else a > b):
            return f"{a} {sign} {b} is not true"
    return None


def judge_kakurasu(answer: str, meta: Mapping[str, Any]) -> str | None:
    """Zeros and ones; a one counts its column in the row's sum and its row in the column's sum."""
    row_sums, column_sums = meta["row_sums"], meta["col_sums"]
    grid = _whole(answer, len(row_sums), len(column_sums))
    if any(cell > 1 for row in grid for cell in row):
        raise Unreadable("there are other numbers than 0 and 1")
    for name, lines, sums in (("row", grid, row_sums), ("column", _columns(grid), column_sums)):
        if [sum(place * cell for place, cell in enumerate(line, 1)) for line in lines] != list(sums):
            return f"a {name} has another sum"
    return None


def judge_survo(answer: str, meta: Mapping[str, Any]) -> str | None:
    """The gaps are filled with the given numbers, each once, so that the last of every row and column is its sum."""
    puzzle = meta["puzzle"]
    grid = _whole(answer, len(puzzle), len(puzzle))
    if _changed(puzzle, grid):
        return "a given number was changed"
    filled = [
        cell for one, row in zip(puzzle, grid, strict=True) for given, cell in zip(one, row, strict=True) if not given
    ]
    if Counter(filled) != Counter(meta["candidate_numbers"]):
        return "the gaps are not filled with the given numbers"
    if any(sum(line[:-1]) != line[-1] for line in (*grid, *_columns(grid))):
        return "a sum is not right"
    return None


def judge_queens(answer: str, meta: Mapping[str, Any]) -> str | None:
    """A queen in every row; none attacks another; those that stood there stand."""
    puzzle = meta["puzzle"]
    grid = rows(re.sub(r"([Q_])(?=[Q_])", r"\1 ", bare(answer)))
    size = len(puzzle)
    if len(grid) != size or any(len(row) != size or not set(row) <= {"Q", "_"} for row in grid):
        raise Unreadable(f"that is no board of {size} rows of Q and _")
    if any(
        given == "Q" != cell
        for one, row in zip(puzzle, grid, strict=True)
        for given, cell in zip(one, row, strict=True)
    ):
        return "a given queen was moved"
    queens = [(r, c) for r, row in enumerate(grid) for c, cell in enumerate(row) if cell == "Q"]
    if len(queens) != size:
        return f"{len(queens)} queens instead of {size}"
    lines = {
        "row": {r for r, _ in queens},
        "column": {c for _, c in queens},
        "falling diagonal": {r - c for r, c in queens},
        "rising diagonal": {r + c for r, c in queens},
    }
    return next((f"two queens on one {name}" for name, held in lines.items() if len(held) < size), None)


def judge_coloring(answer: str, meta: Mapping[str, Any]) -> str | None:
    """A colour of the possible ones for each vertex, as JSON; neighbours have different ones."""
    colors = parsed(answer)
    if not isinstance(colors, dict):
        raise Unreadable("that is no map of vertices to colours")
    if set(colors) != {str(vertex) for vertex in meta["vertices"]}:
        return "not the vertices of the graph"
    allowed = {str(color) for color in meta["color_options"]}
    if not all(isinstance(color, int | str) and str(color) in allowed for color in colors.values()):
        return "a colour that is not among the possible ones"
    for a, b in meta["edges"]:
        if str(colors[str(a)]) == str(colors[str(b)]):
            return f"{a} and {b} are neighbours of one colour"
    return None


def judge_cryptarithm(answer: str, meta: Mapping[str, Any]) -> str | None:
    """`A=1,B=2`: a digit of its own for every letter; the sum comes out; no word begins with 0 unless it may."""
    digits: dict[str, str] = {}
    for part in re.split(r"\s*[,\n]\s*", bare(answer)):
        match = re.fullmatch(r"([A-Z])\s*=\s*([0-9])", part)
        if match is None or match.group(1) in digits:
            raise Unreadable('that is not like "A=1,B=2,C=3"')
        digits[match.group(1)] = match.group(2)
    words, result = meta["words_letters"], meta["result_letters"]
    if set(digits) != set("".join((*words, result))):
        return "not the letters of the puzzle"
    if len(set(digits.values())) < len(digits):
        return "two letters have one digit"
    read = ["".join(digits[letter] for letter in word) for word in (*words, result)]
    if not meta.get("allow_leading_zero") and any(number.startswith("0") and len(number) > 1 for number in read):
        return "a number begins with 0"
    return None if sum(map(int, read[:-1])) == int(read[-1]) else "the sum does not come out"
