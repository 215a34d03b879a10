"""From an item of reasoning-gym to a gold answer and what its verdict needs: repairs of labels, and items to leave out.

Everything here is decided once more by our own arithmetic where this is cheap; the audit (gym_audit.py) says why.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from fractions import Fraction
from itertools import product
from typing import Any, NamedTuple

from thinksmith.verify.expression import evaluate


class Gold(NamedTuple):
    """A gold answer, and what is added to `meta` for its rule. `kind` wins over the audit's."""

    answer: str
    meta: Mapping[str, Any] = {}
    kind: str = ""


Item = Mapping[str, Any]
"""`question`, `answer` and `metadata` of an item, as JSON gives them."""


def gold_of(name: str, item: Item) -> Gold | None:
    """The gold answer of an item; None where the item cannot be served."""
    repair = REPAIRS.get(name)
    found = repair(item) if repair else Gold(str(item["answer"]))
    return found if found is not None and found.answer.strip() else None


def _calendar(item: Item) -> Gold:
    """Weekdays and yes or no are texts, counts are numbers."""
    return Gold(item["answer"], kind="number" if re.fullmatch(r"-?[0-9]+", item["answer"]) else "exact")


def _coin_flip(item: Item) -> Gold:
    """The exact fraction; a decimal may be off by a two-thousandth of the probability or of what is missing to 1."""
    part = item["metadata"]["rational"]
    exact = Fraction(part["numerator"], part["denominator"])
    return Gold(str(exact), {"tolerance": str(min(exact, 1 - exact) / 2_000)})


def _decimal_arithmetic(item: Item) -> Gold | None:
    """The exact value, rounded once; the package rounds after every operation."""
    asked = re.search(r"maximum of ([0-9]+) significant digits", item["question"])
    exact = evaluate(item["question"].rsplit("\n", 1)[-1].removesuffix(" = ?"))
    if asked is None:
        return None
    return _significant(exact, int(asked.group(1)), units=1)


def _power_function(item: Item) -> Gold:
    """Three significant digits of the exact power."""
    facts = item["metadata"]
    return _significant(Fraction(str(facts["base"])) ** int(facts["exponent"]), 3, units=Fraction(1, 2))


def _significant(exact: Fraction, digits: int, *, units: Fraction | int) -> Gold:
    """`exact` rounded half up to significant digits; the tolerance is that many units of the last one."""
    if not exact:
        return Gold("0", {"tolerance": "0"})
    exponent = len(str(abs(exact.numerator))) - len(str(exact.denominator))
    while Fraction(10) ** (exponent + 1) <= abs(exact):
        exponent += 1
    while Fraction(10) ** exponent > abs(exact):
        exponent -= 1
    unit = Fraction(10) ** (exponent - digits + 1)
    rounded = math.floor(abs(exact) / unit + Fraction(1, 2)) * unit
    value = rounded if exact > 0 else -rounded
    written = f"{Decimal(value.numerator) / Decimal(value.denominator):f}" if value.denominator > 1 else str(value)
    return Gold(written, {"tolerance": str(unit * units)})


def _geometry(item: Item) -> Gold:
    """Recomputed from the corners. The question asks for 3 decimals; for angles the label has 2, so both are right."""
    facts = item["metadata"]
    a, b, c = ([Fraction(part) for part in facts[name]] for name in "ABC")
    if facts["task_type"] == "angle_measure":
        one, other = ((a[0] - b[0], a[1] - b[1]), (c[0] - b[0], c[1] - b[1]))
        dot, cross = one[0] * other[0] + one[1] * other[1], one[0] * other[1] - one[1] * other[0]
        return Gold(f"{math.degrees(math.atan2(abs(cross), dot)):.6f}", {"tolerance": "0.005001"}, "number")
    if facts["task_type"] == "incircle_radius":
        sides = math.dist(b, c) + math.dist(c, a) + math.dist(a, b)
        twice = abs((b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1]))
        return Gold(f"{twice / sides:.6f}", {"tolerance": "0.000501"}, "number")
    # H = A + B + C - 2 O, with O the centre of the circle through the corners
    d = 2 * (a[0] * (b[1] - c[1]) + b[0] * (c[1] - a[1]) + c[0] * (a[1] - b[1]))
    squares = [p[0] ** 2 + p[1] ** 2 for p in (a, b, c)]
    x = (squares[0] * (b[1] - c[1]) + squares[1] * (c[1] - a[1]) + squares[2] * (a[1] - b[1])) / d
    y = (squares[0] * (c[0] - b[0]) + squares[1] * (a[0] - c[0]) + squares[2] * (b[0] - a[0])) / d
    return Gold(f"({a[0] + b[0] + c[0] - 2 * x}, {a[1] + b[1] + c[1] - 2 * y})", {"tolerance": "0.000501"})


def _aiw(item: Item) -> Gold | None:
    """Left out: colleagues (the label counts Matilda herself and not the second circle), and brothers of a stranger."""
    asked = re.fullmatch(r"(\w+) has .* How many sisters does (\w+)'s brother have\?", item["question"])
    stranger = asked is not None and asked.group(1) != asked.group(2)
    return None if stranger or item["metadata"]["task_type"] == "colleagues" else Gold(item["answer"])


def _letter_counting(item: Item) -> Gold | None:
    """Left out where capitals decide: the label counts them too, the question does not say so."""
    asked = re.search(r'the letter "(.)" appear in the text: "(.*)"', item["question"], re.DOTALL)
    if asked is None or asked.group(2).count(asked.group(1)) != asked.group(2).lower().count(asked.group(1)):
        return None
    return Gold(item["answer"])


def _mahjong(item: Item) -> Gold:
    """Played anew: the labels are what the generator tried to bring about, not what came of it."""
    initial = re.search(r"initial cards ([A-Z]+)", item["question"])
    cards = list(initial.group(1)) if initial else []
    result = ""
    for new, removed in re.findall(r"Add an? ([A-Z]) card and remove an? ([A-Z]) card", item["question"]):
        near = {step: chr(ord(new) + step) in cards for step in (-2, -1, 1, 2)}
        run = (near[-2] and near[-1]) or (near[-1] and near[1]) or (near[1] and near[2])
        result = "Peng" if cards.count(new) >= 2 else "Chi" if run else "Pass"
        cards.append(new)
        cards.remove(removed)
    return Gold(result)


def _number_format(item: Item) -> Gold:
    """The candidate as it is shown; the label is the number before it was rounded for showing."""
    facts = item["metadata"]
    shown = [Fraction(candidate.replace(",", "")) for candidate in facts["formatted_candidates"]]
    best = max(shown) if facts["size"] == "largest" else min(shown)
    return Gold(str(best))


def _simple_geometry(item: Item) -> Gold | None:
    """A convex polygon has no angle of 180 degrees or more; such items are left out."""
    return Gold(item["answer"]) if float(item["answer"]) < 180 else None


def _tsumego(item: Item) -> Gold | None:
    """Left out unless the label is the only move that captures anything: of the others many are no captures at all."""
    return Gold(item["answer"]) if capturing(item["metadata"]["board"]) == [item["answer"]] else None


def capturing(board: list[list[str]]) -> list[str]:
    """The moves of X that capture stones of O, such as "C4" (rows count from the bottom)."""
    found = []
    for row, column in product(range(len(board)), repeat=2):
        if board[row][column] != ".":
            continue
        after = [list(line) for line in board]
        after[row][column] = "X"
        neighbours = [(r, c) for r, c in _around(row, column, len(board)) if after[r][c] == "O"]
        if any(not _breathes(after, r, c) for r, c in neighbours):
            found.append(f"{chr(ord('A') + column)}{len(board) - row}")
    return found


def _breathes(board: list[list[str]], row: int, column: int) -> bool:
    """Whether the stones that hang together with this one touch an empty point."""
    color, group, waiting = board[row][column], {(row, column)}, [(row, column)]
    while waiting:
        for r, c in _around(*waiting.pop(), len(board)):
            if board[r][c] == ".":
                return True
            if board[r][c] == color and (r, c) not in group:
                group.add((r, c))
                waiting.append((r, c))
    return False


def _around(row: int, column: int, size: int) -> list[tuple[int, int]]:
    steps = ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1))
    return [(r, c) for r, c in steps if 0 <= r < size and 0 <= c < size]


def _graph_color(item: Item) -> Gold:
    """The colouring that the generator found; any other right one is right too."""
    facts = item["metadata"]
    puzzle = facts["puzzle"]
    meta = {key: puzzle[key] for key in ("vertices", "edges", "color_options")}
    return Gold(json.dumps(facts["possible_answer"]), meta)


def _jugs(item: Item) -> Gold:
    puzzle = item["metadata"]["puzzle"]
    return Gold(item["answer"], {key: puzzle[key] for key in ("jug_capacities", "target")})


def _polynomial_equations(item: Item) -> Gold:
    """Four decimals, whichever way the fifth is rounded."""
    return Gold(item["answer"], {"tolerance": "0.0001"})


def _pool_matrix(item: Item) -> Gold:
    """Two decimals are asked for."""
    return Gold(item["answer"], {"tolerance": "0.005"})


def _quantum_lock(item: Item) -> Gold:
    return Gold(item["answer"], {"presses": len(item["metadata"]["solution_path"])})


def _shortest_path(item: Item) -> Gold:
    feasible = item["answer"] != "infeasible"
    return Gold(item["answer"], {"steps": len(item["answer"].split()) if feasible else None})


def _rubiks_cube(item: Item) -> Gold | None:
    """The scramble backwards. Left out with moves of inner layers (`2R`, cubes from 4 on): the scorer drops these."""
    moves = item["metadata"]["scramble_moves"].split()[::-1]
    if any(move[0].isdigit() for move in moves):
        return None
    return Gold(" ".join(move.removesuffix("'") if move.endswith("'") else move + "'" for move in moves))


def _time_intervals(item: Item) -> Gold | None:
    """Where the end lies before the start (midnight, other time zones) the label is a negative duration: left out."""
    return None if "-" in item["answer"] else Gold(item["answer"])


def _rush_hour(item: Item) -> Gold | None:
    """The package gives no solution: ours, by breadth first search."""
    solution = solve_rush_hour(item["metadata"]["board_config"])
    return None if solution is None else Gold(" ".join(solution))


def solve_rush_hour(board: str, *, limit: int = 200_000) -> list[str] | None:
    """Moves that bring AA to the right edge of a 6 by 6 board, as few as can be; None beyond `limit` positions."""
    came: dict[str, tuple[str, str]] = {board: ("", "")}
    waiting = deque([board])
    while waiting and len(came) < limit:
        cells = waiting.popleft()
        if cells[16:18] == "AA":
            moves = []
            while came[cells][0]:
                cells, move = came[cells]
                moves.append(move)
            return moves[::-1]
        for move, after in _rush_hour_moves(cells):
            if after not in came:
                came[after] = (cells, move)
                waiting.append(after)
    return None


def _rush_hour_moves(cells: str) -> list[tuple[str, str]]:
    """Every car by every distance that it can go, and the board after it."""
    found = []
    for car in sorted(set(cells) - {"o", "x"}):
        places = [place for place, cell in enumerate(cells) if cell == car]
        step = places[1] - places[0]
        for sign, front in (("+", places[-1]), ("-", places[0])):
            by, now, at, distance = step if sign == "+" else -step, list(cells), places, 0
            while (
                0 <= front + by < 36 and cells[front + by] == "o" and (abs(by) > 1 or (front + by) // 6 == front // 6)
            ):
                front, distance = front + by, distance + 1
                for place in at:
                    now[place] = "o"
                at = [place + by for place in at]
                for place in at:
                    now[place] = car
                found.append((f"{car}{sign}{distance}", "".join(now)))
    return found


_STATEMENT = re.compile(r"(All|No|Some) (.+?) are (not )?(.+)")


def _syllogism(item: Item) -> Gold | None:
    """Decided by ours; left out where the answer hangs on whether "all" says that there are any."""
    facts = item["metadata"]
    readings = {follows([facts["premise1"], facts["premise2"]], facts["conclusion"], exist) for exist in (True, False)}
    return Gold("Yes" if readings == {True} else "No") if len(readings) == 1 else None


def follows(premises: list[str], conclusion: str, exist: bool) -> bool:
    """Whether a conclusion holds in every world of three terms in which the premises do.

    A world says which of the eight sorts of things (in or out of each term) there are; with `exist` there is at least
    one thing of each term, as Aristotle takes it.
    """
    statements = [_STATEMENT.fullmatch(text.rstrip("?. ")) for text in (*premises, conclusion)]
    parts = [(match.group(1), match.group(2), bool(match.group(3)), match.group(4)) for match in statements if match]
    terms = sorted({term for _, one, _, other in parts for term in (one, other)})
    if len(parts) != len(statements) or len(terms) != 3:
        raise ValueError(f"that is no syllogism: {premises}, {conclusion}")
    sorts = list(product((False, True), repeat=3))
    for present in product((False, True), repeat=8):
        world = [dict(zip(terms, sort, strict=True)) for sort, there in zip(sorts, present, strict=True) if there]
        if exist and not all(any(thing[term] for thing in world) for term in terms):
            continue
        if all(_true(part, world) for part in parts[:-1]) and not _true(parts[-1], world):
            return False
    return True


def _true(part: tuple[str, str, bool, str], world: list[dict[str, bool]]) -> bool:
    quantity, subject, negated, predicate = part
    values = [thing[predicate] is not negated for thing in world if thing[subject]]
    return {"All": all(values), "No": not any(values), "Some": any(values)}[quantity]


def _puzzle24(item: Item) -> Gold:
    return Gold(item["answer"], {"numbers": item["metadata"]["numbers"], "target": 24, "fractions": True})


def _countdown(item: Item) -> Gold:
    facts = item["metadata"]
    return Gold(item["answer"], {"numbers": facts["numbers"], "target": facts["target"], "fractions": True})


REPAIRS: dict[str, Callable[[Item], Gold | None]] = {
    "advanced_geometry": _geometry,
    "aiw": _aiw,
    "calendar_arithmetic": _calendar,
    "coin_flip": _coin_flip,
    "countdown": _countdown,
    "decimal_arithmetic": _decimal_arithmetic,
    "graph_color": _graph_color,
    "jugs": _jugs,
    "letter_counting": _letter_counting,
    "mahjong_puzzle": _mahjong,
    "number_format": _number_format,
    "polynomial_equations": _polynomial_equations,
    "pool_matrix": _pool_matrix,
    "power_function": _power_function,
    "puzzle24": _puzzle24,
    "quantum_lock": _quantum_lock,
    "rubiks_cube": _rubiks_cube,
    "rush_hour": _rush_hour,
    "shortest_path": _shortest_path,
    "simple_geometry": _simple_geometry,
    "syllogism": _syllogism,
    "time_intervals": _time_intervals,
    "tsumego": _tsumego,
}
