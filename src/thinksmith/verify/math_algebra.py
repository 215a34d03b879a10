r"""Whether two expressions are the same: runs in a worker, over math-verify's LaTeX reader (latex2sympy2_extended).

Only its reader of LaTeX is used, an ANTLR grammar, never its other one for plain expressions, which is sympy's and
evaluates text; numbers in that grammar are read by us, since it would evaluate their digits. What was read is sized
before anything computes with it, so `9^{9^{9}}` costs nothing. Then:

- constants are compared by their values to 50 digits, or exactly if both come out rational;
- what has variables is compared at points drawn for each pair anew (`math_points.py`); points where a side is not real
  do not count, unless `i` occurs. If they differ at one they are not the same. If they agree and are made of analytic
  functions, they are the same; with `|x|`, `\lfloor x \rfloor`, `\max`, roots of what is no fraction of polynomials
  and the like math-verify must prove it too;
- equations and inequalities by the ratio of their differences of sides, which must be constant, and positive for `<`,
  and with `|x|` and the like be proven to be;
- sets of numbers by sympy's sets; matrices, once computed, cell by cell.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from thinksmith.verify.judgement import Unreadable
from thinksmith.verify.math import compare as compare_forms
from thinksmith.verify.math_form import Form, read, read_beside
from thinksmith.verify.math_points import ENOUGH, close, is_analytic, kinds, nodes, value, values

MAX_SOURCE, MAX_DEPTH, MAX_NODES = 800, 12, 500
"""Characters of an expression, brackets in brackets, and nodes of its tree: more is no final answer."""
MAX_BITS = 60_000
"""Bits of any number on the way to a value."""
MAX_POWER = 5_000
"""Largest exponent of something with variables, and largest argument of a factorial."""
OWN_PROGRAMS = (("sympy.polys.monomials", "_build"),)
"""Where sympy compiles what it wrote itself: a product of n exponents, from the number n alone."""

_TWO_WAYS = re.compile(
    r"/\s?\d+\s?(?:[a-zA-Z(]|\\(?:sqrt|pi|frac|sin|cos|tan|log|ln)(?![a-zA-Z]))"
    r"|\d\s?\\frac\{\d+\}\{\d+\}\s?(?:[a-zA-Z(]|\\(?!cdot|times|pm|leq|geq|neq))"
    r"|!!|\^\s?(?:[^{}\s\\]|\{[^{}]*\})\s?\^"
)
r"""`1/2x`, a mixed number before a factor, `5!!`, `2^3^4`."""
_LARGE = re.compile(r"binom\s*(?:\{[^{}]*)?\d{5}|\d[eE][+-]?\d{4}")
"""A binomial or a power of ten that the reader would compute while it reads."""
_TRIGONOMETRIC = re.compile(r"\\(?:sin|cos|tan|sec|csc|cot)(?![a-zA-Z])")
_DEGREES = re.compile(r"(\d+(?:\.\d+)?|\\[a-z]+|[a-z])\s?°")
_UNFINISHED = ("Sum", "Product", "Integral", "Limit", "Derivative", "Subs")
_NO_FUNCTION = frozenset(("Add", "Mul", "Pow", "exp", "UnevaluatedExpr"))
_TRIG = dict.fromkeys(("sin", "cos", "tan", "sec", "csc", "cot"), "trigonometry")


@dataclass(frozen=True, slots=True)
class _Relation:
    """`difference` (left side minus right side) stands in relation `sign` ("=", "!=", "<" or "<=") to zero."""

    sign: str
    difference: Any


def warm() -> None:
    """Import what the first comparison needs, and show the reader each kind of LaTeX once: it learns its grammar."""
    logging.disable(logging.CRITICAL)
    for gold, answer in _EXAMPLES:
        if reason := compare(gold, answer):
            raise RuntimeError(f"{gold} is not {answer}: {reason}")  # this math-verify is not one that we know
    _parse.cache_clear()


def compare(gold: str, answer: str) -> str:
    """ "" if the answers are the same, else why not. Raises Unreadable for an answer beyond our bounds."""
    from sympy.core.cache import clear_cache
    from sympy.core.random import seed

    clear_cache()  # a verdict must not depend on what was compared before it
    seed(0)
    form = read(gold)
    return compare_forms(form, read_beside(form, answer), _settle) or ""


def _settle(gold: Form, answer: Form) -> str:
    shapes = {gold.kind, answer.kind}
    as_sets = gold.kind == "union" or (len(shapes) == 2 and bool(shapes & {"union", "()", "(]", "[)", "[]"}))
    as_equations = "relation" in shapes or (bool(gold.name and answer.name) and gold.name != answer.name)

    def meant(form: Form) -> Any:
        return _as_set(form) if as_sets else _parse(form.equation if as_equations else form.source)

    draw = random.Random(hashlib.sha256(f"{gold.source}\0{answer.source}".encode(errors="replace")).digest())
    try:
        try:
            a = meant(gold)
        except Unreadable as error:
            return f"not identical, and the expected answer is beyond algebra: {error}"
        return _same(a, meant(answer), draw)
    except (Unreadable, MemoryError, RecursionError):
        raise
    except Exception as error:  # sympy has many ways to say that it does not know
        raise Unreadable(f"algebra cannot decide it: {type(error).__name__}") from None


def _same(a: Any, b: Any, draw: random.Random) -> str:
    from sympy import Expr, Set

    if isinstance(a, Set) and isinstance(b, Set):
        return "" if a == b or a.symmetric_difference(b).is_empty else "a different set"
    if isinstance(a, _Relation) and isinstance(b, _Relation):
        return _same_relations(a, b, draw)
    if isinstance(a, _Relation) or isinstance(b, _Relation):
        return "an equation is compared with an expression"
    if _is_matrix(a) and _is_matrix(b):
        return _same_matrices(a, b, draw)
    if not (isinstance(a, Expr) and isinstance(b, Expr)) or _is_matrix(a) or _is_matrix(b):
        return "another kind of answer"
    if not (a.free_symbols or b.free_symbols):
        if extra := _functions(b) - _functions(a):
            return f"left to compute: {', '.join(sorted(extra))}"
        return _same_constants(a.doit(), b.doit())
    return _same_functions(a.doit(), b.doit(), draw)


def _same_constants(a: Any, b: Any) -> str:
    if a == b:
        return ""
    if a.is_Rational and b.is_Rational:
        return "a different value"
    x, y = value(a, {}), value(b, {})
    return "a different value" if x is None or y is None or not close(x, y) else ""


def _same_functions(a: Any, b: Any, draw: random.Random) -> str:
    if a == b:
        return ""
    agreed = 0
    for x, y in values(a, b, draw):
        if not close(x, y):
            return "a different expression"
        agreed += 1
    if agreed >= ENOUGH and is_analytic(a) and is_analytic(b):
        return ""
    return "" if _proven(a, b) else "not proven to be the same expression"


def _same_relations(a: _Relation, b: _Relation, draw: random.Random) -> str:
    if a.sign != b.sign:
        return "another relation"
    left, right, ratios = a.difference.doit(), b.difference.doit(), []
    for x, y in values(left, right, draw):
        if abs(y) < 1e-20 or abs(x) < 1e-20:
            return "a different equation"
        ratios.append(x / y)
    if len(ratios) < ENOUGH or not all(close(ratios[0], ratio) for ratio in ratios):
        return "a different equation"
    if a.sign.startswith("<") and ratios[0].real < 0:
        return "the other way round"
    if (is_analytic(left) and is_analytic(right)) or _proven(left, right * _simple(ratios[0])):
        return ""
    return "not proven to be the same equation"


def _simple(ratio: Any) -> Any:
    """The fraction that a ratio of two equations most likely is; if it is not, nothing will be proven with it."""
    from sympy import Rational

    return Rational(str(ratio.real)).limit_denominator(10**6)


def _proven(a: Any, b: Any) -> bool:
    from math_verify.grader import sympy_symbolic_eq

    return bool(sympy_symbolic_eq(*_over_reals(a, b)))


def _as_set(form: Form) -> Any:
    """The set of numbers that a form means. Raises Unreadable if it means none."""
    from sympy import EmptySet, FiniteSet, Interval, Set, Union

    if form.kind == "union":
        return Union(*(_as_set(part) for part in form.parts))
    if form.kind[:1] in ("(", "[") and len(form.parts) == 2:
        start, end = (_parse(part.source).doit() for part in form.parts)
        if not (start.is_extended_real and end.is_extended_real):
            raise Unreadable("an interval needs numbers for its ends")
        return Interval(start, end, form.kind[0] == "(", form.kind[1] == ")")
    if form.kind == "list":
        return FiniteSet(*(_parse(part.source).doit() for part in form.parts)) if form.parts else EmptySet
    read_as = _parse(form.source)
    if isinstance(read_as, _Relation):
        return _solutions(read_as)
    if not isinstance(read_as, Set):
        raise Unreadable("that is no set of numbers")
    return read_as.doit()


def _solutions(relation: _Relation) -> Any:
    from sympy import Eq, Le, Lt, Ne, Symbol

    symbols = relation.difference.free_symbols
    if len(symbols) != 1:
        raise Unreadable("a relation between several variables is no set of numbers")
    difference = relation.difference.doit().xreplace({symbol: Symbol(symbol.name, real=True) for symbol in symbols})
    try:
        return {"=": Eq, "!=": Ne, "<": Lt, "<=": Le}[relation.sign](difference, 0).as_set()
    except (NotImplementedError, ValueError, AttributeError, TypeError):
        raise Unreadable("sympy cannot solve it") from None


def _same_matrices(a: Any, b: Any, draw: random.Random) -> str:
    a, b = (matrix.doit().as_explicit() if hasattr(matrix, "as_explicit") else matrix for matrix in (a, b))
    if a.shape != b.shape:
        return "another shape of matrix"
    return next((reason for x, y in zip(a.flat(), b.flat(), strict=True) if (reason := _same(x, y, draw))), "")


def _is_matrix(expression: Any) -> bool:
    return bool(getattr(expression, "is_Matrix", False))


@lru_cache(maxsize=512)
def _parse(source: str) -> Any:
    """What `source` says: a sympy object, or a _Relation. Raises Unreadable."""
    from latex2sympy2_extended.latex2sympy2 import ConversionConfig, _Latex2Sympy
    from sympy.core.relational import Relational
    from sympy.logic.boolalg import BooleanAtom, BooleanFunction

    reader = _Latex2Sympy(config=ConversionConfig(lowercase_symbols=False))
    reader.parse_number = _exact_number  # its own takes the digits through sympify, which is eval, to a rounded float
    prepared = _prepared(source)
    try:
        tree = reader.parse(prepared)
        if isinstance(tree, Relational):
            return _relation(tree)
        if tree is None or isinstance(tree, BooleanAtom | BooleanFunction | list | tuple | bool):
            raise Unreadable("that is no expression")
        return _cleaned(tree)
    except (MemoryError, Unreadable):
        raise
    except Exception:  # the grammar's, or sympy's on adding a number to a vector, a set to a number, and so on
        raise Unreadable("cannot be read as mathematics") from None


def _prepared(source: str) -> str:
    """The text that is handed to the reader. Raises Unreadable for what it would misread, or take too long over."""
    if len(source) > MAX_SOURCE:
        raise Unreadable("too long for an expression")
    depth = deepest = 0
    for character in source:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise Unreadable("nested too deep")
    if _TWO_WAYS.search(source):
        raise Unreadable("that can be read in two ways")
    if _LARGE.search(source):
        raise Unreadable("a number too large to compute")
    if _TRIGONOMETRIC.search(source):
        source = _DEGREES.sub(r"(\\frac{\1 \\pi}{180})", source)
    source = re.sub(r"\\log_\{?e\}?", r"\\ln ", source)
    source = re.sub(r"([a-zA-Z])'", r"\1_{prime}", source)  # the reader would drop it
    return re.sub(r"°|\\?%|\\?\$", "", source)


def _exact_number(digits: str) -> Any:
    from sympy import Rational

    return Rational(digits.replace(",", ""))


def _relation(tree: Any) -> _Relation:
    from sympy import Eq, Ge, Gt, Le, Lt, Ne

    left, right = tree.lhs, tree.rhs
    if isinstance(tree, Gt | Ge):
        left, right = right, left
    signs = {Eq: "=", Ne: "!=", Lt: "<", Gt: "<", Le: "<=", Ge: "<="}
    for kind, sign in signs.items():
        if isinstance(tree, kind):
            return _Relation(sign, _cleaned(left) - _cleaned(right))
    raise Unreadable("that is no relation that we know")


def _cleaned(tree: Any) -> Any:
    """`tree` with real odd roots and `i` as the imaginary unit. Raises Unreadable if it is too large to compute."""
    from sympy import I, Symbol

    if not hasattr(tree, "xreplace"):
        raise Unreadable("that is no expression")
    if not _is_matrix(tree):
        _size(tree, [MAX_NODES])
    names = {type(node).__name__ for node in nodes(tree)}
    if names.intersection(("ComplexInfinity", "NaN")):
        raise Unreadable("it has no value")
    if unfinished := names.intersection(_UNFINISHED):
        raise Unreadable(f"a {unfinished.pop().lower()} is left to compute")
    if not tree.has(I) and not tree.has(Symbol("i")):
        tree = tree.replace(_is_odd_root, lambda root: (-1) ** root.exp.p * (-root.base) ** root.exp)
    return tree.xreplace({Symbol("i"): I})


def _is_odd_root(node: Any) -> bool:
    r"""`\sqrt[3]{-2}` and its like, whose real value is meant."""
    return bool(node.is_Pow and node.exp.is_Rational and node.exp.q % 2 and node.exp.q > 1 and node.base.is_negative)


def _functions(tree: Any) -> set[str]:
    """The functions in a constant that are more than arithmetic and roots; those of trigonometry count as one."""
    return {_TRIG.get(kind, kind) for kind in kinds(tree) - _NO_FUNCTION}


def _size(node: Any, budget: list[int]) -> float | None:
    """An upper bound of log2 of a constant's size; None if it has variables. Raises Unreadable if it is beyond bounds.

    Nothing is computed but the bounds themselves; `budget` counts down the nodes.
    """
    budget[0] -= 1
    if budget[0] < 0:
        raise Unreadable("too long for an expression")
    sizes = [_size(part, budget) for part in node.args]
    if node.is_Number:
        return _digits_of(node)
    kind = type(node).__name__
    if kind == "Pow":
        return _power(node, *sizes)
    if not node.args:
        return None if node.is_Symbol else 2.0
    if kind in ("factorial", "gamma"):
        _at_most(sizes[0], math.log2(MAX_POWER), "a factorial")
        return None if sizes[0] is None else 2 ** sizes[0] * sizes[0]
    if kind in ("exp", "sinh", "cosh"):
        _at_most(sizes[0], math.log2(MAX_BITS) - 1, "a power")
        return None if sizes[0] is None else 1.5 * 2 ** sizes[0]
    known = [size for size in sizes if size is not None]
    total = sum(known) if kind == "Mul" else max(known, default=0.0) + len(sizes)
    _at_most(total, MAX_BITS, "a number")
    return total if len(known) == len(sizes) else None


def _digits_of(number: Any) -> float:
    """log2 of a number's size, of the larger of numerator and denominator for a fraction; at least 0."""
    if number.is_Rational:
        bits = max(abs(number.p).bit_length(), number.q.bit_length())
        _at_most(float(bits), MAX_BITS, "a number")
        return math.log2(max(abs(number.p), number.q)) if bits < 1000 else float(bits)
    return 1100.0 if number.is_Float else 2.0


def _power(node: Any, base: float | None, exponent: float | None) -> float | None:
    if exponent is None:
        return None
    exact = node.exp.is_Rational
    _at_most(exponent, 40, "a power")
    times = max(1.0, abs(node.exp.p) / node.exp.q) if exact else 2**exponent
    if base is None:
        _at_most(times, MAX_POWER, "a power")
        return None
    _at_most(base * times, MAX_BITS, "a power")
    return base * times


def _at_most(size: float | None, limit: float, what: str) -> None:
    if size is not None and size > limit:
        raise Unreadable(f"{what} too large to compute")


def _over_reals(a: Any, b: Any) -> tuple[Any, Any]:
    from sympy import Symbol

    real = {symbol: Symbol(symbol.name, real=True) for symbol in a.free_symbols | b.free_symbols}
    return a.xreplace(real), b.xreplace(real)


_EXAMPLES = (
    (r"2\sqrt{2}", r"\sqrt{8}"),
    (r"x^2-1", r"(x-1)(x+1)"),
    (r"\frac{\pi}{2} + 1", r"1 + \pi/2"),
    (r"\frac{\sqrt{3}}{2} + \sin 1", r"\sin(1) + \cos\left(30^\circ\right)"),
    (r"2x - y + 3 = 0", r"y = 2x + 3"),
    (r"x^2 > 4", r"x < -2 \text{ or } x > 2"),
    (r"\mathbb{R} \setminus \{2\}", r"(-\infty, 2) \cup (2, \infty)"),
    (r"\begin{pmatrix} \sqrt{8} \\ 1 \end{pmatrix}", r"\begin{pmatrix} 2\sqrt{2} \\ 1 \end{pmatrix}"),
    (r"2\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 4 \end{pmatrix}"),
    (r"\log_2 3 + \ln 5", r"\frac{\ln 3}{\ln 2} + \log_e 5"),
    (r"|x - 1| + \lfloor x \rfloor", r"\lfloor x \rfloor + |1 - x|"),
    (r"e^{i\pi/3} \cdot x_1", r"x_1 (\frac{1}{2} + \frac{\sqrt{3}}{2} i)"),
    (r"\frac{n!}{2} + \binom{5}{2} \cdot 3^{n}", r"3^{n} \times 10 + n! \div 2"),
    (r"\arctan x + \sin^{-1} y + \theta + f(x)", r"\theta + \tan^{-1} x + \arcsin y + f(x)"),
    (r"\sqrt[3]{-2} a b", r"-\sqrt[3]{2} b a"),
)
