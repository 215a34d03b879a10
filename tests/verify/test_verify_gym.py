"""Kind `gym`: each rule on right and wrong answers, on hostile ones, and the package's scorers in the sandbox."""

from __future__ import annotations

import ast
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.records import Problem, Trace
from thinksmith.sandbox import Limits, Result, open_sandbox
from thinksmith.verify import check_gold, gym, verify
from thinksmith.verify.gym import FORMS, PUZZLES, scorer, taken
from thinksmith.verify.gym.inside import guest
from thinksmith.verify.gym.polynomial import monomials
from thinksmith.verify.judgement import BadGold, Unreadable
from thinksmith.verify.workers import Exceeded, WorkerFailed

GRID = "1 2 3\n4 5 6"
HANOI = {"num_disks": 2, "num_pegs": 3, "start_peg": 1, "target_peg": 3}
HANOI_GOLD = "Move disk 1 from Peg 1 to Peg 2\nMove disk 2 from Peg 1 to Peg 3\nMove disk 1 from Peg 2 to Peg 3"
SUDOKU = {"puzzle": [[4, 0, 0, 0], [0, 3, 0, 0], [0, 1, 3, 0], [0, 0, 0, 0]]}
FUTOSHIKI = {"puzzle": [[0, 0, 0], [0, 0, 0], [0, 0, 1]], "constraints": [[0, 0, 0, 1, "<"], [0, 1, 1, 1, ">"]]}
SURVO = {"puzzle": [[0, 0, 5], [0, 0, 5], [5, 5, 10]], "candidate_numbers": [2, 3, 3, 2]}
GRAPH = {"vertices": [0, 1, 2], "edges": [[0, 1], [1, 2]], "color_options": [1, 2]}
SEND = {"words_letters": ["SEND", "MORE"], "result_letters": "MONEY", "allow_leading_zero": False}
MONEY = "S=9,E=5,N=6,D=7,M=1,O=0,R=8,Y=2"
JUGS = {"jug_capacities": [3, 5], "target": 4}
JUGS_GOLD = '["fill B", "pour B->A", "empty A", "pour B->A", "fill B", "pour B->A"]'
PATH = {"matrix": [["*", "O", "X"], ["O", "O", "#"]], "steps": 3}
LOCK = {
    "buttons": [
        {"name": "A", "type": "add", "value": 2, "active_state": "any"},
        {"name": "B", "type": "multiply", "value": 3, "active_state": "green"},
        {"name": "C", "type": "subtract", "value": 1, "active_state": "red"},
    ],
    "initial_state": "red",
    "initial_value": 0,
    "target_value": 6,
    "presses": 2,
}
KNIGHTS = {
    "board": {"A1": ["B3"], "B3": ["A1", "C1"], "C1": ["B3"]},
    "pieces": {"A1": "w", "B3": None, "C1": "B"},
    "start_turn": "w",
    "is_possible": False,
}
SWAP = {
    "board": {"A1": ["B3", "C2"], "B3": ["A1", "D4"], "C2": ["A1", "D4"], "D4": ["B3", "C2"]},
    "pieces": {"A1": "w", "B3": None, "C2": None, "D4": "B"},
    "start_turn": "w",
    "is_possible": True,
}
RUSH = {"board_config": "oooooo" + "oooBoo" + "AAoBoo" + "oooooo" + "oooooo" + "oooooo"}

Case = tuple[str, str, dict[str, Any], list[str], list[str]]
CASES: list[Case] = [
    # rule, gold, meta, right answers, wrong answers
    (
        "rows",
        GRID,
        {},
        [
            "1 2 3 \n 4 5 6\n",
            "1, 2, 3\n4, 5, 6",
            "[[1, 2, 3], [4, 5, 6]]",
            r"\begin{bmatrix}1 & 2 & 3 \\ 4 & 5 & 6\end{bmatrix}",
            "```\n1 2 3\n4 5 6\n```",
            "1.0 2 3\n4 5 6",
            "$$\\begin{pmatrix} 1 & 2 & 3 \\\\ 4 & 5 & 6 \\end{pmatrix}$$",
        ],
        ["1 2 3 4 5 6", "1 2\n3 4\n5 6", "1 2 3\n4 5 7", "1 2 3\n4 5 6\n7 8 9", "1 2 3\n4 5 6 6", "123\n456"],
    ),
    ("rows", "2.17 9", {"tolerance": "0.005"}, ["2.1666 9.0", "2.17 9"], ["2.2 9", "2.17 9.01", "2.17 nan"]),
    ("rows", "❌✅\n✅❌", {}, ["❌✅\n✅❌"], ["❌✅\n✅✅", "❌✅✅❌"]),
    (
        "items",
        "['-51.0', '47.29']",
        {},
        ["[-51, 47.29]", "-51.0, 47.290", '["-51", "47.29"]'],
        ["['47.29', '-51.0']", "[-51]", "-51.5, 47.29", "['-51.0', '47.29', '47.29']"],
    ),
    (
        "items",
        "DIRECT, given",
        {},
        ["DIRECT, given", "DIRECT,given", "[DIRECT, given]"],
        ["given, DIRECT", "direct, given"],
    ),
    ("items", "[]", {}, ["[]"], ["[1]", "0"]),
    (
        "groups",
        '[["ab", "ba"], ["cd", "dc"]]',
        {},
        ['[["dc", "cd"], ["ba", "ab"]]', "[['ab', 'ba'], ['cd', 'dc']]"],
        ['[["ab", "cd"], ["ba", "dc"]]', '[["ab", "ba"]]', '{"a": 1}'],
    ),
    (
        "partitions",
        '[["s", "e"], ["se"]]',
        {},
        ['[["se"], ["s", "e"]]'],
        ['[["e", "s"], ["se"]]', '[["se"]]', '[["se"], ["s", "e"], ["se"]]'],
    ),
    (
        "fraction",
        "$\\frac{23}{131}$",
        {},
        ["23/131", r"\dfrac{23}{131}", "$23 / 131$"],
        ["46/262", "0.1755", "23", "131/23", "23/0"],
    ),
    ("hexadecimal", "-0x1f", {}, ["-0x1F", "-0X1f", "-0x001f"], ["0x1f", "-31", "-1f", "-0x1e"]),
    (
        "complex",
        "-7.0 + 1.0i",
        {},
        ["-7+i", "-7 + 1i", "-7+1*i", "(-7 + i)", "−7 + i"],
        ["-7", "7+i", "-7-i", "i", "-7.001+i", "-7 1i"],
    ),
    ("complex", "-6.00i", {}, ["-6i", "0 - 6i"], ["-6", "6i", "-i"]),
    ("complex", "5.00", {}, ["5", "5 + 0i"], ["5i", "5 + i"]),
    (
        "point",
        "(7/23, -28/23)",
        {"tolerance": "0.000501"},
        ["(0.304, -1.217)", "0.3043, -1.2174", "(7/23, -28/23)"],
        ["(0.3, -1.217)", "(-1.217, 0.304)", "0.304", "(0.304, -1.217, 0)"],
    ),
    (
        "roots",
        "-0.3773, 0.4006",
        {"tolerance": "0.0001"},
        ["0.4006, -0.3773", "-0.3773, 0.4005"],
        ["-0.3773", "0.4006, 0.3773", "-0.38, 0.4", "-0.3773, 0.4006, 1"],
    ),
    (
        "duration",
        "17 days, 03:43",
        {},
        ["17 days, 3:43", "17 days 03:43:00", "17 days and 03:43"],
        ["17 days", "16 days, 03:43", "17 days, 03:44", "03:43", "17:03:43"],
    ),
    ("duration", "02:38:05.250", {}, ["2:38:05.25"], ["02:38:05", "02:38"]),
    ("duration", "4 days", {}, ["4 days", "4", "4 day"], ["04:00", "5 days", "96:00:01"]),
    (
        "polynomial",
        "9880*z**4 - 7410*z + 1404",
        {},
        ["1404 - 7410*z + 9880*z**4", "9880z^4 - 7410z + 1404", "9880 z^{4} − 7410 z + 1404"],
        [
            "(18 - 95*z)*(78 - 104*z**3)",
            "9880*z**4 - 7410*z",
            "9880*z**4 - 7410*x + 1404",
            "9880*z**4 - 7000*z - 410*z + 1404",
            "z",
        ],
    ),
    ("polynomial", "2*x*y**2 - 3*x", {}, ["-3x + 2 y^2 x"], ["2*x**2*y - 3*x"]),
    (
        "integral",
        "10*x**7 + 4*x**3/5 + C",
        {},
        ["4/5*x**3 + 10*x**7", "10*x**7 + 0.8*x**3 + 7", "10x^7 + 4x^3/5 + C"],
        ["70*x**6 + 12*x**2/5", "10*x**7 + C", "10*x**7 + 4*x**3/5 + C*x", "10*x**7 + 4/5/x**3"],
    ),
    (
        "factors",
        "2 × 2 × 41",
        {},
        ["41 × 2 × 2", "2^2 × 41", r"2^{2} \times 41", "2*2*41"],
        ["4 × 41", "2 × 82", "2 × 41", "164"],
    ),
    ("palindrome", "ahha", {}, ["haah", "AHHA"], ["ahah", "aha", "ahhha", "abba"]),
    (
        "roles",
        "Zoey is a fool, and Riley is a sage.",
        {},
        ["Riley is a sage, and Zoey is a fool", "zoey is a fool and riley is a sage"],
        [
            "Zoey is a sage, and Riley is a fool",
            "Zoey is a fool",
            "Zoey is a fool, Zoey is a sage, and Riley is a sage",
            "Zoey is a sage/fool, and Riley is a sage",
        ],
    ),
    (
        "sudoku",
        "4 2 1 3\n1 3 4 2\n2 1 3 4\n3 4 2 1",
        SUDOKU,
        ["[[4,2,1,3],[1,3,4,2],[2,1,3,4],[3,4,2,1]]"],
        [
            "4 2 1 3\n1 3 4 2\n2 1 3 4\n3 4 2 2",
            "1 2 4 3\n4 3 1 2\n2 1 3 4\n3 4 2 1",
            "4 2 1 3",
            "4 2 1 3\n1 3 4 2\n2 1 3 4\n_ _ _ _",
        ],
    ),
    (
        "futoshiki",
        "2 < 3   1\n    ∨\n1   2   3\n\n3   1   2",
        {**FUTOSHIKI, "puzzle": [[0] * 3] * 3},
        ["2 3 1\n1 2 3\n3 1 2"],
        ["3 2 1\n2 1 3\n1 3 2", "2 3 1\n2 3 1\n2 3 1"],
    ),
    (
        "futoshiki",
        "1 < 3   2\n    ∨\n3   2   1\n\n2   1   3",
        {**FUTOSHIKI, "puzzle": [[0, 0, 2], [0] * 3, [0] * 3]},
        [],
        ["2 3 1\n1 2 3\n3 1 2"],
    ),
    (
        "kakurasu",
        "0 1 1 0\n0 1 0 0\n1 1 0 0\n0 0 0 1",
        {"row_sums": [5, 2, 3, 4], "col_sums": [3, 6, 1, 4]},
        [],
        [
            "0 0 0 0\n0 0 0 0\n0 0 0 0\n0 0 0 0",
            "5 0 0 0\n2 0 0 0\n3 0 0 0\n4 0 0 0",
            "1 0 0 1\n0 1 0 0\n1 1 0 0\n0 0 0 1",
        ],
    ),
    (
        "survo",
        "2 3 5\n3 2 5\n5 5 10",
        SURVO,
        ["3 2 5\n2 3 5\n5 5 10"],
        ["1 4 5\n4 1 5\n5 5 10", "2 3 5\n2 3 5\n4 6 10", "0 0 5\n0 0 5\n5 5 10"],
    ),
    (
        "queens",
        "_ Q _ _\n_ _ _ Q\nQ _ _ _\n_ _ Q _",
        {"puzzle": [["_", "Q", "_", "_"], *[["_"] * 4] * 3]},
        ["_Q__\n___Q\nQ___\n__Q_"],
        [
            "_ _ Q _\nQ _ _ _\n_ _ _ Q\n_ Q _ _",
            "_ Q _ _\n_ _ _ Q\nQ _ _ _\n_ _ _ _",
            "_ Q _ _\n_ _ Q _\nQ _ _ _\n_ _ _ Q",
        ],
    ),
    (
        "coloring",
        '{"0": 1, "1": 2, "2": 1}',
        GRAPH,
        ['{"2": 2, "1": 1, "0": 2}', "{'0': 1, '1': 2, '2': 1}", r'\{"0": 1, "1": 2, "2": 1\}'],
        [
            '{"0": 1, "1": 1, "2": 2}',
            '{"0": 1, "1": 2}',
            '{"0": 1, "1": 2, "2": 3}',
            '{"0": 1, "1": 2, "2": 1, "3": 1}',
            "[1, 2, 1]",
            '{"0": 1, "1": 2, "2": true}',
            '{"0": [1], "1": 2, "2": 1}',
        ],
    ),
    (
        "cryptarithm",
        MONEY,
        SEND,
        [MONEY.replace(",", ", ")],
        [
            MONEY.replace("Y=2", "Y=3"),
            MONEY.replace("D=7", "D=5"),
            MONEY + ",S=9",
            MONEY + ",X=3",
            "S=9",
            MONEY.replace("S=9", "S=0x9"),
        ],
    ),
    (
        "cryptarithm",
        "A=1,B=2",
        {"words_letters": ["A", "A"], "result_letters": "B"},
        ["A=3,B=6"],
        ["A=0,B=0", "A=2,B=3"],
    ),
    (
        "jugs",
        JUGS_GOLD,
        JUGS,
        ["['fill B','pour B→A','empty A','pour B->A','fill B','pour B->A']"],
        ['["fill B"]', '["fill C"]', '["pour A->A"]', '["drink B"]', '"fill B"', '[["fill B"]]', "[]"],
    ),
    (
        "hanoi",
        HANOI_GOLD,
        HANOI,
        ["Move disk 1 from Peg 1 to Peg 3\nMove disk 1 from Peg 3 to Peg 2\n" + HANOI_GOLD.split("\n", 1)[1]],
        [
            HANOI_GOLD.rpartition("\n")[0],
            "Move disk 2 from Peg 1 to Peg 3",
            "Move disk 1 from Peg 1 to Peg 9",
            "Move disk 1 from Peg 1 to Peg 3\nMove disk 2 from Peg 1 to Peg 3",
            "Move disk 3 from Peg 1 to Peg 3",
            "just move them",
        ],
    ),
    (
        "path",
        "right down right",
        PATH,
        ["down right right", "Right, Down, Right", "right → down → right"],
        [
            "right right down",
            "down up right down right",
            "right down",
            "infeasible",
            "up",
            "go right",
            "down right right up",
        ],
    ),
    ("path", "infeasible", {**PATH, "steps": None}, ["Infeasible"], ["right down right"]),
    (
        "buttons",
        "A → B",
        LOCK,
        ["A B", "A -> B", r"A \rightarrow B", "A, B"],
        ["B → A", "A", "A → A", "A → A → A", "press A then B", "A → C → A"],
    ),
    ("knights", "No", KNIGHTS, ["no"], ['["w,A1,B3"]', "yes", "[]"]),
    (
        "knights",
        '["w,A1,B3", "B,D4,C2", "w,B3,D4", "B,C2,A1"]',
        SWAP,
        ['["w,A1,C2", "B,D4,B3", "w,C2,D4", "B,B3,A1"]'],
        ["No", '["w,A1,B3"]', '["B,D4,C2"]', '["w,A1,D4"]', '["w,A1,B3", "B,D4,B3"]', '["w"]', "[]"],
    ),
    (
        "rush_hour",
        "B+3 A+4",
        RUSH,
        ["B+3 A+3 A+1", "B+3, A+4", "B+2 B+1 A+4"],
        ["A+4", "B+3 A+5", "B-1 B-1 A+4", "B+9 A+4", "B+3", "C+1 B+3 A+4", "A+9 B+3 A+4", "go"],
    ),
]


def problem(rule: str, gold: str, meta: dict[str, Any]) -> Problem:
    return Problem("gym/x/test/0", "?", gold, "gym", {"rule": rule, **meta})


def named(part: object) -> str:
    return part[:12] if isinstance(part, str) else ""


def status(one: Problem, answer: str) -> str:
    return verify(one, Trace(thinking="", answer=f"\\boxed{{{answer}}}")).status


@pytest.mark.parametrize(
    ("rule", "gold", "meta", "right", "wrong"), CASES, ids=lambda case: case if isinstance(case, str) else ""
)
def test_right_is_right_and_wrong_is_wrong(rule, gold, meta, right, wrong):
    one = problem(rule, gold, meta)
    assert check_gold(one) is None
    for answer in (gold, *right):
        assert status(one, answer) == "correct", answer
    for answer in wrong:
        assert status(one, answer) == "wrong", answer


def test_every_rule_is_tried():
    assert {case[0] for case in CASES} == {*FORMS, *PUZZLES}


HOSTILE = [
    "__import__('os').system('true')",
    "(lambda: 1)()",
    "9**9**9",
    "5^(5^(5^(5^5)))",
    "9" * 19_000,
    "[" * 19_000,
    "{" * 9_000 + "}" * 9_000,
    "((((" * 4_000,
    "1e999999999",
    "\x00" * 50,
    "\u0661\u0662",
    "x**99999999999",
    "1/0",
    "nan",
    "Infinity",
    '{"a": ' * 900,
    "A+9 " * 4_000,
    "Move disk 1 from Peg 1 to Peg 2\n" * 500,
    "- " * 9_000,
    "+" * 19_000,
    "1*" * 9_000,
    "\\frac{1}{" * 2_000,
    "\\text{" * 3_000,
    "2" + " × 2" * 4_000,
    "17 days, " * 2_000,
    "\n" * 19_000,
    "a=1," * 4_000,
    "0x" + "f" * 19_000,
    "a is a b and " * 1_400,
    "1" + " " * 19_000 + "1",
    "a" + "\t\n" * 9_000 + "b",
    "```\n" * 4_000,
    "\\begin{matrix}" * 1_300,
    "\\boxed{" * 2_000,
    "$" * 19_000,
    "'" * 19_000,
    "\\" * 19_000,
]


@pytest.mark.parametrize(
    ("rule", "gold", "meta"), [case[:3] for case in CASES], ids=lambda case: case if isinstance(case, str) else ""
)
def test_a_hostile_answer_costs_nothing_and_is_never_right(rule, gold, meta):
    one = problem(rule, gold, meta)
    started = time.perf_counter()
    for answer in HOSTILE:
        try:
            said = gym.judge(one, answer)
        except Unreadable as error:
            said = str(error)
        assert said, answer[:40]
        assert len(said) < 300
    assert time.perf_counter() - started < 5


@settings(max_examples=150, deadline=None)
@given(
    case=st.sampled_from(CASES),
    answer=st.text(max_size=80) | st.text(alphabet="0123456789 \n[]{}()'\",:=<>+-*/^.xABQ_→", max_size=120),
)
def test_any_text_is_judged_or_unreadable(case, answer):
    try:
        said = gym.judge(problem(*case[:3]), answer)
    except Unreadable:
        return
    assert said is None or "\n" not in said


def test_facts_that_are_not_there_are_bad_gold():
    for case in CASES:
        if case[0] in PUZZLES:
            assert verify(problem(case[0], case[1], {}), Trace("", case[1])).status == "bad_gold"
    assert verify(problem("nonsense", "1", {}), Trace("", "1")).status == "bad_gold"
    assert verify(problem("rows", " ", {}), Trace("", "1")).status == "bad_gold"


# What is taken as the answer


@pytest.mark.parametrize(
    "text",
    [
        "Work.\n\\boxed{1 2 3\n4 5 6}",
        "So:\n```\n1 2 3\n4 5 6\n```",
        "First 1 2 3 ...\n\nAnswer:\n1 2 3\n4 5 6",
        "The final **answer** is:\n\n1 2 3\n4 5 6\n",
        GRID,
    ],
)
def test_answers_of_several_lines_are_taken_whole(text):
    assert verify(problem("rows", GRID, {}), Trace("", text)).correct, text


def test_a_box_that_is_not_closed_is_no_answer_even_beside_a_block():
    assert taken(problem("rows", GRID, {}), "\\boxed{1 2\n```\n1 2 3\n4 5 6\n```") is None


@pytest.mark.parametrize(
    "text", ['{"0": 1, "1": 2, "2": 1}', 'Answer: {"0": 1, "1": 2, "2": 1}', '```json\n{"0": 1, "1": 2, "2": 1}\n```']
)
def test_an_object_keeps_its_braces(text):
    assert verify(problem("coloring", '{"0": 1, "1": 2, "2": 1}', GRAPH), Trace("", text)).correct


# Polynomials


@given(st.dictionaries(st.integers(0, 30), st.integers(-999, 999).filter(bool), min_size=1, max_size=8), st.randoms())
def test_a_polynomial_is_read_whatever_the_order_of_its_terms(terms, random):
    written = list(terms.items())
    random.shuffle(written)
    text = " + ".join(f"{by}*x**{power}" for power, by in written).replace("+ -", "- ")
    assert monomials(text) == {((("x", power),) if power else ()): by for power, by in terms.items()}


def test_what_is_not_multiplied_out_is_not_read():
    for text in ("x*(x + 1)", "2 3*x", "x +", "+", "", "x/y", "3*x + 2*x", "x**2**3", "x^-1", "1/0*x", "x**99999"):
        with pytest.raises(Unreadable):
            monomials(text)


# The package's scorers


def sandboxed() -> None:
    if importlib.util.find_spec("reasoning_gym") is None:
        pytest.skip("reasoning-gym is not here: pip install 'thinksmith[gym]'")
    try:
        open_sandbox()
    except UserError as error:
        pytest.skip(f"no sandbox: {error}")


def scored(dataset: str, gold: str, **metadata: Any) -> Problem:
    return problem("scorer", gold, {"dataset": dataset, "metadata": metadata})


CUBE = scored("rubiks_cube", "F' U D'", cube_size=3, scramble_moves="D U' F")
LADDER = scored("word_ladder", "COLD,CORD,CARD,WARD,WARM", start_word="COLD", end_word="WARM")
SOKOBAN = scored(
    "sokoban", "R", gamestr="+ + + + + +\n+ * @ X - +\n+ - - - - +\n+ - - - - +\n+ - - - - +\n+ + + + + +\n\n"
)
SCORED = [
    (
        CUBE,
        ["F' U D' U U'", "F'  U\nD'", "F' U D'"],
        ["F", "U D'", "F' U D' U", "F' U2 D'", "solve it", "F" * 50, "F'(U)D'"],
    ),
    (
        LADDER,
        ["cold, cord, card, ward, warm", "COLD → CORD → CARD → WARD → WARM"],
        ["COLD,WARM", "COLD,CORD,WORD,WARD", "COLD,CXRD,CARD,WARD,WARM", "COLD", "CORD,CARD,WARD,WARM"],
    ),
    (SOKOBAN, ["RL", "DUR"], ["L", "RR", "U", "I would say R", "R; import os", "r"]),
]


@pytest.mark.parametrize(("one", "right", "wrong"), SCORED, ids=["rubiks_cube", "word_ladder", "sokoban"])
def test_the_packages_scorer_decides_in_the_sandbox(one, right, wrong):
    sandboxed()
    for answer in (str(one.answer), *right):
        assert status(one, answer) == "correct", answer
    for answer in wrong:
        assert status(one, answer) == "wrong", answer


def test_every_scorer_is_tried():
    assert {one.meta["dataset"] for one, _, _ in SCORED} == set(scorer.SCORERS)


def test_what_is_not_of_the_form_never_reaches_the_scorer(monkeypatch):
    def refuse(**options: object) -> None:
        raise AssertionError("the sandbox was opened")

    monkeypatch.setattr(scorer, "open_sandbox", refuse)
    for text in (*HOSTILE[:20], "__import__('os')", "U" * 30_000, "U2000000000", "COLD,WARM:", "D\x1b[2J", "${HOME}"):
        for one in (CUBE, LADDER, SOKOBAN):
            with pytest.raises(Unreadable):
                gym.judge(one, text)


class Box:
    """A sandbox whose guest says what the test wants."""

    def __init__(self, result: Result, seen: list[bytes]) -> None:
        self.result, self.seen = result, seen

    def run(self, source: str, *, stdin: bytes, packages: tuple[object, ...], limits: Limits) -> Result:
        self.seen.append(stdin)
        return self.result


def told(monkeypatch: pytest.MonkeyPatch, stdout: bytes, name: str = "ok") -> list[bytes]:
    """Every guest from now on ends so; what it was asked is collected."""
    seen: list[bytes] = []
    result = Result(name, 0 if name == "ok" else 1, stdout, b"Traceback\nValueError: no", 0.1, "")  # type: ignore[arg-type]
    monkeypatch.setattr(scorer, "open_sandbox", lambda **options: Box(result, seen))
    monkeypatch.setattr(scorer, "_folders", tuple)
    scorer._score.cache_clear()
    return seen


def test_a_score_without_the_secret_is_no_score(monkeypatch):
    for forged in (b"1.0\n", b"SECRET 1.0\n", b"", b"\n 1.0\n", b"0123456789abcdef0123456789abcdef 1.0"):
        seen = told(monkeypatch, forged)
        with pytest.raises(WorkerFailed):
            gym.judge(CUBE, "U")
        secret = json.loads(seen[0])["secret"]
        assert len(secret) == 32
    assert verify(CUBE, Trace("", "\\boxed{U}")).status == "error"  # never a wrong answer


def test_a_guest_that_ends_badly_is_ours_and_one_that_takes_too_long_is_the_answers(monkeypatch):
    for name in ("failed", "error", "killed", "output"):
        told(monkeypatch, b"", name)
        with pytest.raises(WorkerFailed):
            gym.judge(CUBE, "U")
    for name, what in (("timeout", "time"), ("memory", "memory")):
        told(monkeypatch, b"", name)
        with pytest.raises(Exceeded) as caught:
            gym.judge(CUBE, "U")
        assert caught.value.what == what
    scorer._score.cache_clear()


def test_a_part_of_a_reward_is_wrong(monkeypatch):
    class Paying(Box):
        def run(self, source: str, *, stdin: bytes, packages: tuple[object, ...], limits: Limits) -> Result:
            score = f"{json.loads(stdin)['secret']} {self.result.seconds}\n"
            return Result("ok", 0, b"noise\n" + score.encode(), b"", 0.0, "")

    monkeypatch.setattr(scorer, "_folders", tuple)
    for pays, said in ((1.0, None), (0.9995, None), (0.99, "0.99"), (0.0, "pays 0")):
        scorer._score.cache_clear()
        paying = Paying(Result("ok", 0, b"", b"", pays, ""), [])
        monkeypatch.setattr(scorer, "open_sandbox", lambda box=paying, **options: box)
        reason = gym.judge(CUBE, "U D")
        assert reason is None if said is None else said in str(reason)
    scorer._score.cache_clear()


def test_an_answer_is_asked_about_once(monkeypatch):
    sandboxed()
    opened = []
    original = open_sandbox
    monkeypatch.setattr(scorer, "open_sandbox", lambda **options: opened.append(1) or original(**options))
    scorer._score.cache_clear()
    for _ in range(3):
        assert status(SOKOBAN, "RLRL") == "correct"
    assert len(opened) == 1


def test_without_the_extra_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    scorer._folders.cache_clear()
    with pytest.raises(UserError, match=r"pip install 'thinksmith\[gym\]'"):
        scorer._folders()
    scorer._folders.cache_clear()


def test_the_guest_stands_alone():
    tree = ast.parse(Path(guest.__file__).read_text(encoding="utf-8"))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


def test_facts_for_a_scorer_must_be_there():
    for broken in (problem("scorer", "U", {}), problem("scorer", "U", {"dataset": "countdown", "metadata": {}})):
        assert verify(broken, Trace("", "\\boxed{U}")).status == "bad_gold"
        with pytest.raises(BadGold):
            gym.judge(broken, "U")
    assert check_gold(problem("scorer", "U", {"dataset": "rubiks_cube"})) is not None
    assert check_gold(problem("scorer", "solve it", {"dataset": "rubiks_cube", "metadata": {}})) is not None
