"""The quick look for false equations never misses one that the search finds."""

from __future__ import annotations

from random import Random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from thinksmith.audit.equations import find_equations
from thinksmith.audit.suspects import may_be_false
from thinksmith.problems.families import FAMILIES, sample
from thinksmith.problems.writer import Style, Writer

PIECES = (
    "1", "2", "3", "4", "12", "7", "0", "10", "1,200", "3.5", "0.5", "05", "1e3", "x", "X", "y", "of", "half",
    "so", "and", "therefore", "Week", "times", "apples", "+", "-", "−", "*", "×", "/", "÷", "·", "^", "=",
    "==", "≈", "≠", "<", "(", ")", "[", "]", "{", "}", "\\frac{1}{2}", "\\times", "\\cdot", "\\div", "\\left(",
    "\\right)", "\\pi", "\\text{cm}", "\\sqrt", "\\\\", "&", "\\,", "~", "\\(", "\\)", "\\[", "\\]", "$", "$$",
    "\\$", "%", "!", "?", ".", ",", ":", ";", "'", "**", "- ", "* ", "\n", "\n\n", "\n- ", "²", "cents",
    "hours", "mod", "if", "is wrong", "remainder", "…", "|", "_", "f(2)", "x_", "\\sqrt{4}", "\\text{Area}", "\\boxed{",
    "\\quad", "\\binom{4}{2}", "!",
    "2 + 3 = 5", "2 + 3 = 6", "4 * 5 = 20",
    "4 * 5 = 21", "10 / 4 = 2.5", "10 / 3 = 3.33",
)  # fmt: skip
spaced = st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(["", " ", " ", "  ", "\t"])), max_size=24).map(
    lambda pairs: "".join(piece + space for piece, space in pairs)
)
claims = st.tuples(
    st.sampled_from(
        [
            "",
            "so ",
            "of ",
            "\n",
            "(",
            "$",
            "x",
            "2 * ",
            "- ",
            "\\times ",
            "3.",
            "3, ",
            "1/",
            "**",
            "e",
            "= ",
            "f(",
            "x_",
            "\\sqrt{",
            "3x + ",
            "\\to ",
            "\\ast ",
            "3! ",
        ]
    ),
    st.integers(0, 30),
    st.sampled_from([" + ", " - ", " * ", "*", " / ", " × ", "^", " \\times ", " x "]),
    st.integers(0, 12),
    st.sampled_from([" = ", "=", " =\n", "\n= ", " &= "]),
    st.integers(0, 60),
    st.sampled_from(
        [
            "",
            ".",
            ", ",
            "x",
            " x 2",
            "$",
            " $3",
            "e5",
            "!",
            "%",
            "^2",
            " apples",
            "\n",
            ")",
            "**",
            "\\)",
            " * 2",
            "\\quad x",
            " \\text{cm}",
            ".5",
            ".25",
            "\\ast 2",
            "}",
        ]
    ),
).map(lambda parts: "".join(map(str, parts)))
filler = st.sampled_from(["", "let me add them first and then see. ", "word " * 60, "\n", "ok\n", "2 4 6 8 " * 30])
texts = st.lists(st.one_of(spaced, claims, filler), max_size=6).map("".join)


def has_false(text: str) -> bool:
    return any(not equation.true for equation in find_equations(text))


@given(texts)
@example("so 2 x 4 = 4")
@example("2 + 3 = 5²")
@example("2² + 3 = 8")
@example("2²(3) = 13")
@example("so 5 \\ast - 4 = 20")
@example("5 - 3\n- 4 + 2 = 7")
@settings(max_examples=800, deadline=None)
def test_no_false_equation_is_missed(text: str) -> None:
    if has_false(text):
        assert may_be_false(text), text


@given(st.integers(0, 10**6), st.sampled_from(sorted(FAMILIES)), st.sampled_from([0.0, 0.02, 0.2]))
@settings(max_examples=60, deadline=None)
def test_nor_in_what_solvers_write_with_slips(seed: int, name: str, slips: float) -> None:
    text = ""
    for problem in sample(name, {}, 4, split="train", seed=seed):
        writer = Writer(Random(seed), Style(slip=slips))
        FAMILIES[name].solve(problem, writer)
        text += writer.text + "\n"
    assert may_be_false(text) or not has_false(text)


def test_nor_in_what_a_model_wrote(rows) -> None:
    """And it spares the search for most texts: else it would not be worth having."""
    responses = [text for row in rows("replay/math_cot_100.jsonl") for text in row["responses"][:2]]
    false = [has_false(text) for text in responses]
    suspected = [may_be_false(text) for text in responses]
    assert all(seen or not really for seen, really in zip(suspected, false, strict=True))
    assert sum(suspected) <= sum(false) + 0.02 * len(responses)


def test_long_texts_of_one_kind_take_no_longer() -> None:
    for text in ("=1" * 50_000, "1 = " * 50_000, "\n" * 10**5 + "=", "- 1 = 2 " * 20_000, "(" * 50_000 + "=" * 9):
        may_be_false(text)
