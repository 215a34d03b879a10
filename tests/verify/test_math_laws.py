"""Laws of kind `math` on answers that are made up: the same is the same both ways, order counts where it should."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from thinksmith.records import Problem, Trace
from thinksmith.verify import verify
from thinksmith.verify.math import judge

few = settings(max_examples=60, deadline=None)


def is_right(gold: str, answer: str) -> bool:
    return judge(Problem("p", "?", gold, "math"), answer) is None


def latex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    above, below = abs(value.numerator), value.denominator
    return f"{sign}{above}" if below == 1 else rf"{sign}\frac{{{above}}}{{{below}}}"


numbers = st.fractions(-1000, 1000, max_denominator=60).map(latex)
surds = st.builds(lambda a, b: rf"{a}\sqrt{{{b}}}", st.integers(2, 30), st.sampled_from([2, 3, 5, 6, 7, 10]))
values = numbers | surds | st.sampled_from([r"\pi", r"\frac{\pi}{3}", "x", "x + 1", r"-\sqrt{5}", "2k", r"e^{2}"])
members = st.lists(values, min_size=2, max_size=5, unique=True)
terms = st.lists(
    st.builds(lambda c, v, n: (c, v, n), st.integers(1, 9), st.sampled_from("xyz"), st.integers(1, 4)),
    min_size=1,
    max_size=4,
)


def written(parts: list[tuple[int, str, int]]) -> str:
    return " + ".join(f"{c}{v}^{{{n}}}" for c, v, n in parts)


def polynomial(parts: list[tuple[int, str, int]]) -> dict[tuple[str, int], int]:
    total: dict[tuple[str, int], int] = {}
    for c, v, n in parts:
        total[v, n] = total.get((v, n), 0) + c
    return total


SHAPES = st.sampled_from(["({})", r"\{{{}\}}", "{}", "[{}]", r"\left({}\right)"])


@given(members, SHAPES)
@few
def test_every_answer_is_its_own(parts, shape):
    answer = shape.format(", ".join(parts))
    assert is_right(answer, answer)


@given(members, st.randoms(use_true_random=False))
@few
def test_the_order_of_a_set_changes_nothing(parts, draw):
    shuffled = draw.sample(parts, len(parts))
    assert is_right(rf"\{{{', '.join(parts)}\}}", rf"\{{{', '.join(shuffled)}\}}")
    assert is_right(", ".join(parts), " and ".join(shuffled))
    assert is_right(f"({', '.join(parts)})", f"({', '.join(shuffled)})") == (parts == shuffled)


@given(members, st.data())
@few
def test_a_part_is_never_the_whole(parts, data):
    left_out = data.draw(st.sampled_from(parts))
    rest = [part for part in parts if part != left_out]
    for shape in ("{}", r"\{{{}\}}", "({})"):
        whole, part = shape.format(", ".join(parts)), shape.format(", ".join(rest))
        assert not is_right(whole, part)
        assert not is_right(part, whole)


@given(values, values)
@few
def test_the_same_both_ways(a, b):
    assert is_right(a, b) == is_right(b, a)


@given(members, members, SHAPES, SHAPES)
@few
def test_the_same_both_ways_in_any_shape(a, b, one, other):
    left, right = one.format(", ".join(a)), other.format(", ".join(b))
    assert is_right(left, right) == is_right(right, left)


@given(terms, st.randoms(use_true_random=False))
@few
def test_terms_in_any_order_are_the_same_expression(parts, draw):
    assert is_right(written(parts), written(draw.sample(parts, len(parts))))
    assert is_right(f"w = {written(parts)}", written(parts))


@given(terms, terms)
@few
def test_polynomials_are_the_same_if_their_coefficients_are(a, b):
    same = polynomial(a) == polynomial(b)
    assert is_right(written(a), written(b)) == is_right(written(b), written(a)) == same


@given(st.integers(2, 60), st.integers(2, 60))
@few
def test_roots_by_their_squares(a, b):
    assert is_right(rf"{a}\sqrt{{{b * b + 1}}}", rf"\sqrt{{{a * a * (b * b + 1)}}}")
    assert not is_right(rf"{a}\sqrt{{{b * b + 1}}}", rf"\sqrt{{{a * a * (b * b + 1) + 1}}}")


@given(
    st.fractions(-50, 50, max_denominator=20), st.fractions(-50, 50, max_denominator=20), st.booleans(), st.booleans()
)
@few
def test_an_interval_is_its_inequality(a, b, closed_left, closed_right):
    low, high = sorted((a, b))
    interval = f"{'[' if closed_left else '('}{latex(low)}, {latex(high)}{']' if closed_right else ')'}"
    signs = [r"\leq" if closed else "<" for closed in (closed_left, closed_right)]
    assert is_right(interval, f"{latex(low)} {signs[0]} x {signs[1]} {latex(high)}")
    assert is_right(f"{latex(low)} {signs[0]} x {signs[1]} {latex(high)}", interval)
    other = signs[::-1] if closed_left != closed_right else ["<" if closed_left else r"\leq", signs[1]]
    assert not is_right(interval, f"{latex(low)} {other[0]} x {other[1]} {latex(high)}")


@given(st.integers(-9, 9), st.integers(1, 9), st.integers(-9, 9), st.integers(2, 7))
@few
def test_an_equation_times_a_constant_is_the_same(a, b, c, times):
    line = f"{a}x + {b}y = {c}".replace("+ -", "- ")
    assert is_right(line, f"{a * times}x + {b * times}y - {c * times} = 0".replace("- -", "+ "))
    assert not is_right(line, f"{a * times}x + {b * times}y = {c * times + 1}")


PIECES = st.sampled_from(
    [r"\vec{v}", r"\begin{pmatrix}1\\2\end{pmatrix}", "(1,2)",
     r"\{1,x\}", r"(1,2)\cup(3,4)", r"\mathbb{R}", r"\emptyset",
     "=", "<", r"\in", "+", "-", "/", "^", "_", "|", "!", ",", "(", ")", "{", "}", "[", "x", "i", "2", "0", r"\pi",
     r"\infty", r"\frac", r"\frac{1}{0}", r"\sqrt", r"\binom", r"\max", r"\log", r"\int", r"\sum", r"\lfloor x\rfloor",
     r"\text{and}", r"\cap", r"\setminus", r"\pm", r"\overline{z}", r"\mod", "°", "%", "7:30", "x'", "f(x)", r"\det"]
)  # fmt: skip
GOLDS = st.sampled_from(
    [
        "(1,2)",
        "2x+3y=6",
        r"(1,2)\cup(3,4)",
        r"(1,\sqrt2)",
        r"\{1,x\}",
        "x+1",
        r"\begin{pmatrix}1\\x\end{pmatrix}",
        "x>2",
    ]
)


@given(GOLDS, st.lists(PIECES, min_size=1, max_size=6))
@settings(max_examples=300, deadline=None)
def test_no_answer_breaks_the_verifier_and_so_leaves_its_group(gold, pieces):
    trace = Trace("", rf"\boxed{{{' '.join(pieces)}}}", "none")
    assert verify(Problem("p", "?", gold, "math"), trace).status != "error"


def test_answers_that_broke_algebra_are_wrong():
    for gold in ("(1,2,3)", "2x+3y=6", r"(1,2)\cup(3,4)", r"(1,\sqrt2)", "x"):
        trace = Trace("", r"\boxed{\vec{v}=(1,2)}", "none")
        assert verify(Problem("p", "?", gold, "math"), trace).status == "wrong"
