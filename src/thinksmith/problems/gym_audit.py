"""What was found in every data set of reasoning-gym, and by which rule its answers are judged here.

Every `score_answer` was read with what it calls, and the labels of two dozen data sets were held against small solvers
of our own (tests/problems/gym_solvers.py). A data set that is not in this table is not served, nor is any other
version of the package.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

AUDITED = "0.1.25"
"""The version of reasoning-gym that was read."""


class Fault(Enum):
    """The worst of what the package's own scorer does with an answer."""

    EXECUTES = "runs the answer as Python (eval, or sympy's parse_expr, which is eval)"
    LOOSE = "pays in full for answers that are wrong"
    SUBSTRING = "pays for the gold answer anywhere in the text, by its share of the length"
    PARTIAL = "pays a part for what is merely near, or of the right form"
    NARROW = "knows one solution where there are several"
    STRICT = "none of these"


@dataclass(frozen=True, slots=True)
class Audit:
    """A data set's verdict.

    `rule` is a kind of verifier (`number`, `exact`, `countdown`), a rule of kind `gym` (`gym/rows`), or `gym/scorer`:
    the package's scorer in the sandbox. "" means refused. `note` says what was decided, or why it is refused. `keep`
    names the metadata that the rule needs. `group` is the metadata by which the split goes, where many questions are
    one problem in other clothes.
    """

    rule: str
    fault: Fault
    note: str = ""
    keep: tuple[str, ...] = ()
    group: str = ""


_E, _L, _SUB, _P, _N, _S = Fault.EXECUTES, Fault.LOOSE, Fault.SUBSTRING, Fault.PARTIAL, Fault.NARROW, Fault.STRICT

AUDIT: dict[str, Audit] = {
    "ab": Audit("exact", _S),
    "acre": Audit("exact", _SUB),
    "advanced_geometry": Audit(
        "gym/point", _P, "recomputed from the corners; an angle may have 2 or 3 decimals, as label and question differ"
    ),
    "aiw": Audit("number", _SUB, "left out: colleagues, whose labels are wrong, and brothers of strangers"),
    "arc_1d": Audit("gym/rows", _SUB),
    "arc_agi": Audit(
        "gym/rows", _P, "held out by task, since one task comes in many rotations and colours", group="task_id",
    ),
    "base_conversion": Audit("exact", _SUB),
    "basic_arithmetic": Audit("number", _SUB),
    "bf": Audit("exact", _SUB),
    "binary_alternation": Audit("number", _SUB),
    "binary_matrix": Audit("gym/rows", _E),
    "bitwise_arithmetic": Audit("gym/hexadecimal", _S, "evaluates the problem's own text, never the answer"),
    "boxnet": Audit(
        "", _P, "no gold answer; its scorer skips moves that are not allowed, and counts none though it asks for few",
    ),
    "caesar_cipher": Audit("exact", _SUB),
    "calendar_arithmetic": Audit("number", _P, "weekdays and yes or no by `exact`"),
    "chain_sum": Audit("number", _S),
    "circuit_logic": Audit("number", _P),
    "codeio": Audit(
        "", _P, "not reproducible: it runs programs of its data file, some with random numbers, to make its labels",
    ),
    "coin_flip": Audit(
        "number", _L, "its tolerance of 0.0001 takes 0 for 1/32768; ours is relative to the exact fraction",
    ),
    "color_cube_rotation": Audit("exact", _P),
    "complex_arithmetic": Audit("gym/complex", _P),
    "composite": Audit("", _S, "no data set but a mixture of others: name those"),
    "count_bits": Audit("number", _SUB),
    "count_primes": Audit("number", _SUB),
    "countdown": Audit("countdown", _E),
    "course_schedule": Audit("exact", _SUB),
    "cryptarithm": Audit("gym/cryptarithm", _P, keep=("words_letters", "result_letters", "allow_leading_zero")),
    "decimal_arithmetic": Audit(
        "number", _L, "its tolerance is 10^-(decimals of the operands); ours one unit of the last digit asked for",
    ),
    "decimal_chain_sum": Audit("number", _S),
    "dice": Audit("number", _S, "compared as a fraction by value"),
    "emoji_mystery": Audit("exact", _P),
    "family_relationships": Audit("exact", _S),
    "figlet_font": Audit("exact", _P),
    "fraction_simplification": Audit(
        "gym/fraction", _P, "numerator and denominator, since the value alone would pay for the question",
    ),
    "futoshiki": Audit("gym/futoshiki", _P, keep=("puzzle", "constraints")),
    "game_of_life": Audit("gym/rows", _L, "its scorer takes rows beyond the board"),
    "game_of_life_halting": Audit("exact", _L, 'its scorer compares bool(answer), so "False" is as true as "True"'),
    "gcd": Audit("number", _SUB),
    "graph_color": Audit("gym/coloring", _P, "no gold answer; the generator's own colouring is one"),
    "group_anagrams": Audit("gym/groups", _P),
    "gsm_symbolic": Audit("number", _L, "its scorer takes the first number of the text"),
    "intermediate_integration": Audit(
        "", _E, "antiderivatives with functions need a computer algebra system to compare",
    ),
    "isomorphic_strings": Audit("exact", _SUB),
    "jugs": Audit("gym/jugs", _P),
    "kakurasu": Audit("gym/kakurasu", _S, keep=("row_sums", "col_sums")),
    "knight_swap": Audit(
        "gym/knights", _P, "any number of moves, since the question asks for no shortest way",
        keep=("board", "pieces", "start_turn", "is_possible"),
    ),
    "knights_knaves": Audit("gym/roles", _P),
    "largest_island": Audit("number", _SUB),
    "lcm": Audit("number", _SUB),
    "leg_counting": Audit("number", _SUB),
    "letter_counting": Audit("number", _SUB, "left out where it hangs on whether capitals count"),
    "letter_jumble": Audit("exact", _P),
    "list_functions": Audit("gym/items", _SUB),
    "mahjong_puzzle": Audit("exact", _SUB, "played anew: 12 % of the labels are not what the moves lead to"),
    "manipulate_matrix": Audit("gym/rows", _SUB),
    "maze": Audit("number", _SUB),
    "mini_sudoku": Audit("gym/sudoku", _P, keep=("puzzle",)),
    "modulo_grid": Audit("gym/rows", _SUB),
    "n_queens": Audit("gym/queens", _E, keep=("puzzle",)),
    "needle_haystack": Audit("exact", _S),
    "number_filtering": Audit("gym/items", _SUB),
    "number_format": Audit("number", _L, "its scorer allows 0.01; the gold answer is the candidate as it is shown"),
    "number_sequence": Audit("number", _SUB),
    "number_sorting": Audit("gym/items", _L, "its scorer allows each number to be off by 1"),
    "palindrome_generation": Audit("gym/palindrome", _P),
    "palindrome_partitioning": Audit("gym/partitions", _S),
    "path_star": Audit("exact", _S),
    "polynomial_equations": Audit("gym/roots", _P, "within 0.0001, whichever way the fifth decimal is rounded"),
    "polynomial_multiplication": Audit("gym/polynomial", _E),
    "pool_matrix": Audit("gym/rows", _L, "its scorer allows 1 %"),
    "power_function": Audit("number", _P, "recomputed; within half a unit of the third digit"),
    "prime_factorization": Audit("gym/factors", _P),
    "products": Audit("number", _S),
    "propositional_logic": Audit("", _L, "a premise repeated is paid in full, so there is nothing to infer"),
    "puzzle24": Audit("countdown", _E, "its scorer takes any four numbers of the range, not the given ones"),
    "quantum_lock": Audit(
        "gym/buttons", _P, "its scorer picks the letters A, B, C out of any text, and skips buttons that do nothing",
        keep=("buttons", "initial_state", "initial_value", "target_value"),
    ),
    "ransom_note": Audit("exact", _SUB),
    "rearc": Audit("gym/rows", _P, "held out by task", group="task_id"),
    "rectangle_count": Audit("number", _P),
    "rotate_matrix": Audit("gym/rows", _SUB),
    "rotten_oranges": Audit("number", _SUB),
    "rubiks_cube": Audit(
        "gym/scorer", _P, "no gold answer; the scramble backwards is one", keep=("cube_size", "scramble_moves"),
    ),
    "rush_hour": Audit(
        "gym/rush_hour", _L, "its scorer skips moves that are not allowed; no gold answer: ours, by search",
        keep=("board_config",)
    ),
    "self_reference": Audit("number", _S),
    "sentence_reordering": Audit("exact", _P),
    "shortest_path": Audit("gym/path", _P, keep=("matrix",)),
    "simple_equations": Audit("number", _SUB),
    "simple_geometry": Audit("number", _SUB, "left out where the polygon cannot be convex"),
    "simple_integration": Audit("gym/integral", _E),
    "sokoban": Audit(
        "gym/scorer", _L, "its scorer skips other letters; here the answer must be moves alone", keep=("gamestr",),
    ),
    "spell_backward": Audit("exact", _P),
    "spiral_matrix": Audit("gym/items", _E),
    "string_insertion": Audit("exact", _E),
    "string_manipulation": Audit("exact", _SUB),
    "string_splitting": Audit("gym/items", _SUB),
    "string_synthesis": Audit("gym/items", _SUB),
    "sudoku": Audit("gym/sudoku", _P, keep=("puzzle",)),
    "survo": Audit("gym/survo", _N, keep=("puzzle", "candidate_numbers")),
    "syllogism": Audit("exact", _SUB, "labels decided anew; left out where they hang on whether all implies some"),
    "time_intervals": Audit("gym/duration", _P, "left out where the end lies before the start"),
    "tower_of_hanoi": Audit(
        "gym/hanoi", _P, "any number of moves, since the question asks for no shortest way",
        keep=("num_disks", "num_pegs", "start_peg", "target_peg"),
    ),
    "tsumego": Audit("exact", _SUB, "left out unless the label is the only move that captures, which it is in 6 of 10"),
    "word_ladder": Audit("gym/scorer", _P, keep=("start_word", "end_word")),
    "word_sequence_reversal": Audit("gym/items", _SUB),
    "word_sorting": Audit("gym/items", _P),
    "zebra_puzzles": Audit("exact", _S),
}  # fmt: skip

SERVED = tuple(name for name, audit in AUDIT.items() if audit.rule)
