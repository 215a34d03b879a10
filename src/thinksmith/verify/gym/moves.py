"""Kind `gym`, puzzles that are solved by moves: the moves are played, and each must be allowed.

A move that the puzzle does not allow makes the answer wrong; it is never skipped. (Scorers that skip such moves pay
for a long enough list of any moves at all.) Where the question asks for the shortest way, a longer one is wrong;
elsewhere any way is right.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from thinksmith.verify.gym.forms import bare, parsed
from thinksmith.verify.judgement import Unreadable

MAX_MOVES = 5_000

_DISK = re.compile(r"move disk ([0-9]{1,2}) from peg ([0-9]{1,2}) to peg ([0-9]{1,2})\.?", re.IGNORECASE)
_STEPS = {"up": (-1, 0), "down": (1, 0), "left": (0, -1), "right": (0, 1)}


def judge_jugs(answer: str, meta: Mapping[str, Any]) -> str | None:
    """A JSON list of `fill A`, `empty B`, `pour A->C` after which some jug holds the target."""
    capacities, target = meta["jug_capacities"], meta["target"]
    level = [0] * len(capacities)
    for move in _list_of_texts(answer):
        match = re.fullmatch(r"(fill|empty) ([A-Z])|pour ([A-Z])\s?(?:->|→)\s?([A-Z])", move.strip())
        jugs = [ord(name) - ord("A") for name in match.groups()[1:] if name] if match else []
        if match is None or max(jugs) >= len(level) or (len(jugs) == 2 and jugs[0] == jugs[1]):
            return f"{move[:40]!r} is no move"
        if match.group(1):
            level[jugs[0]] = capacities[jugs[0]] if match.group(1) == "fill" else 0
            continue
        source, goal = jugs
        poured = min(level[source], capacities[goal] - level[goal])
        level[source], level[goal] = level[source] - poured, level[goal] + poured
    return None if target in level else f"no jug holds {target} in the end"


def judge_hanoi(answer: str, meta: Mapping[str, Any]) -> str | None:
    """`Move disk 1 from Peg 3 to Peg 2`, a move a line, until all disks stand on the target peg."""
    pegs = {peg: list[int]() for peg in range(1, meta["num_pegs"] + 1)}
    pegs[meta["start_peg"]] = list(range(meta["num_disks"], 0, -1))
    for line in bare(answer).splitlines():
        match = _DISK.fullmatch(line.strip())
        if match is None:
            raise Unreadable(f"{line[:40]!r} is no move")
        disk, source, goal = map(int, match.groups())
        if source not in pegs or goal not in pegs or pegs[source][-1:] != [disk]:
            return f"disk {disk} does not lie on top of peg {source}"
        if pegs[goal] and pegs[goal][-1] < disk:
            return f"disk {disk} on a smaller one"
        pegs[goal].append(pegs[source].pop())
    done = len(pegs[meta["target_peg"]]) == meta["num_disks"]
    return None if done else f"not all disks on peg {meta['target_peg']} in the end"


def judge_path(answer: str, meta: Mapping[str, Any]) -> str | None:
    """`up right right`: from * to # through open cells, as short as the gold one; or `infeasible`."""
    matrix, gold = meta["matrix"], meta["steps"]
    words = [word for word in re.split(r"[\s,→]+", bare(answer).casefold()) if word]
    if words == ["infeasible"]:
        return None if gold is None else "there is a path"
    if not words or any(word not in _STEPS for word in words):
        raise Unreadable("that is no sequence of directions")
    if gold is None:
        return "there is no path"
    row, column = next((r, c) for r, line in enumerate(matrix) for c, cell in enumerate(line) if cell == "*")
    for word in words[:MAX_MOVES]:
        row, column = row + _STEPS[word][0], column + _STEPS[word][1]
        if not (0 <= row < len(matrix) and 0 <= column < len(matrix[0])) or matrix[row][column] == "X":
            return "it leaves the open cells"
    if matrix[row][column] != "#":
        return "it does not end at #"
    return None if len(words) == gold else f"{len(words)} steps where {gold} are enough"


def judge_buttons(answer: str, meta: Mapping[str, Any]) -> str | None:
    """`A → B → C`: as few presses as the gold answer, each of a button that works at that moment."""
    pressed = re.split(r"\s*(?:→|->|,|\s)\s*", bare(answer))
    buttons = {button["name"]: button for button in meta["buttons"]}
    if any(name not in buttons for name in pressed):
        raise Unreadable("that is no sequence of buttons")
    value, light = meta["initial_value"], meta["initial_state"]
    if len(pressed) != meta["presses"]:
        return f"{len(pressed)} presses where {meta['presses']} are enough"
    for name in pressed:
        button = buttons[name]
        if button["active_state"] not in ("any", light):
            return f"button {name} does nothing while the light is {light}"
        by = button["value"]
        value = {"add": value + by, "subtract": value - by, "multiply": value * by}[button["type"]]
        light = "green" if light == "red" else "red"
    return None if value == meta["target_value"] else f"it ends at {value}, not {meta['target_value']}"


def judge_knights(answer: str, meta: Mapping[str, Any]) -> str | None:
    """`["w,A1,B3", …]`: turns alternate, knights move to empty squares, and in the end the colours have swapped; or
    `No`."""
    if bare(answer).casefold() == "no":
        return "it is possible" if meta["is_possible"] else None
    moves = _list_of_texts(answer)
    if not meta["is_possible"]:
        return "it is not possible"
    board: dict[str, str | None] = dict(meta["pieces"])
    swapped = {square: {"w": "B", "B": "w"}.get(piece or "") for square, piece in board.items()}
    turn = meta["start_turn"]
    for move in moves:
        color, start, end = ([part.strip() for part in move.split(",")] + ["", ""])[:3]
        if color != turn or board.get(start) != color:
            return f"{move[:20]!r}: not the turn of a knight that stands there"
        if end not in meta["board"][start] or board.get(end) is not None:
            return f"{move[:20]!r}: a knight cannot go there"
        board[end], board[start] = color, None
        turn = "B" if turn == "w" else "w"
    return (
        None if all(board.get(square) == piece for square, piece in swapped.items()) else "the knights have not swapped"
    )


def judge_rush_hour(answer: str, meta: Mapping[str, Any]) -> str | None:
    """`F+1 K+1 M-1`: cars move along themselves over empty cells until AA stands at the right edge of its row."""
    moves = bare(answer).replace(",", " ").split()
    if not moves or len(moves) > MAX_MOVES or not all(re.fullmatch(r"[A-Z][+-][1-9]", move) for move in moves):
        raise Unreadable("that is no sequence of moves such as F+1 K-2")
    cells = list(meta["board_config"])
    for move in moves:
        places = [place for place, cell in enumerate(cells) if cell == move[0]]
        step = (places[1] - places[0]) * (1 if move[1] == "+" else -1) if len(places) > 1 else 0
        if not step:
            return f"there is no car {move[0]}"
        for _ in range(int(move[2])):
            if not _slide(cells, places, step):
                return f"car {move[0]} cannot go as far as {move}"
            places = [place + step for place in places]
    return None if "".join(cells[16:18]) == "AA" else "AA is not at the exit in the end"


def _slide(cells: list[str], places: Sequence[int], step: int) -> bool:
    """Move one car of a board of 6 by 6 by one cell, if the cell before it is there and empty."""
    front = places[-1] if step > 0 else places[0]
    goal = front + step
    if not 0 <= goal < 36 or (abs(step) == 1 and goal // 6 != front // 6) or cells[goal] != "o":
        return False
    back = places[0] if step > 0 else places[-1]
    cells[goal], cells[back] = cells[back], "o"
    return True


def _list_of_texts(answer: str) -> list[str]:
    """A JSON list of texts. Raises Unreadable."""
    moves = parsed(answer)
    if not isinstance(moves, list) or len(moves) > MAX_MOVES or not all(isinstance(move, str) for move in moves):
        raise Unreadable("that is no list of moves")
    return moves
