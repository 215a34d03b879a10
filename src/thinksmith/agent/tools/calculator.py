"""The tool `calculator`: arithmetic, exact where it can be.

An expression is read by Python's own parser and walked here, over the few kinds of nodes below; nothing is ever
evaluated. Whole numbers and fractions stay exact (Fraction), roots and functions are floats. Every operation bounds its
result before it computes it, so the largest expression costs milliseconds.
"""

from __future__ import annotations

import ast
import math
import operator
import warnings
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

from thinksmith.agent.contract import ToolFault, Toolset
from thinksmith.agent.tools.signature import tool_of
from thinksmith.errors import UserError
from thinksmith.verify.expression import ExpressionError, literal

MAX_LENGTH = 1000  # characters of an expression
MAX_DEPTH = 60
MAX_BITS = 13_000  # of a numerator or denominator: 3,900 digits
MAX_ROUND = 1000  # decimal places

Number = Fraction | float

_SIGNS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/", "−": "-", "–": "-", "π": "pi"})
_CONSTANTS = {"pi": math.pi, "e": math.e}


async def open_toolset(rest: str) -> Toolset:
    """`rest` is empty: there is nothing to say."""
    if rest.strip():
        raise UserError(f"calculator takes nothing behind the colon, not {rest[:40]!r}")
    return Toolset("calculator", (tool_of(calculator, repeatable=True),))


def calculator(expression: str) -> str:
    """Compute an expression exactly: + - * / // % **, parentheses, sqrt, abs, min, max, round (half to even), floor,
    ceil, log (natural, or log(x, base)), exp, sin, cos, tan (radians), factorial, gcd, comb, pi and e.

    expression: such as 12*7 or sqrt(2)/3, without units and without commas inside numbers
    """
    try:
        return shown(evaluate(expression))
    except ExpressionError as error:
        raise ToolFault(str(error)) from None


def evaluate(text: str) -> Number:
    """The value of an expression. Raises ExpressionError, never anything else, whatever the text is."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH:,} characters")
    written = text.translate(_SIGNS).replace("^", "**").strip()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a doubtful literal is no business of the terminal's
            tree = ast.parse(written, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        why = error.msg if isinstance(error, SyntaxError) else str(error)
        raise ExpressionError(f"this is no expression that can be read ({why[:100]}): write it as 12*(3+4)") from None
    try:
        return _Walk(written).value(tree.body, 0)
    except ExpressionError:
        raise
    except ZeroDivisionError:
        raise ExpressionError("divides by zero") from None
    except OverflowError:
        raise ExpressionError("the result is too large") from None
    except TypeError:
        raise ExpressionError("a function has too few arguments, or too many") from None
    except ValueError:
        raise ExpressionError("this has no value among the real numbers") from None


def shown(value: Number) -> str:
    """A value as people write it: 84, 1/2 = 0.5, 1/3 ≈ 0.333333333333333, ≈ 1.4142135623731."""
    if isinstance(value, float):
        return f"≈ {value:.14g}"
    if value.denominator == 1:
        return str(value.numerator)
    digits = 30 if _is_decimal(value) else 15
    quotient = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    decimal = f"{quotient:f}" if -10 < quotient.adjusted() < 30 else str(quotient)
    sign = "=" if Fraction(quotient) == value else "≈"
    fraction = f"{value.numerator}/{value.denominator}"
    if len(fraction) > 60:
        return decimal if sign == "=" else f"≈ {decimal}"
    return f"{fraction} {sign} {decimal}"


def _is_decimal(value: Fraction) -> bool:
    """Whether its decimals end: nothing but twos and fives below."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


class _Walk:
    """Goes through the tree of one expression."""

    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, node: ast.expr, depth: int) -> Number:
        if depth > MAX_DEPTH:
            raise ExpressionError(f"nested more than {MAX_DEPTH} deep")
        match node:
            case ast.Constant():
                return self._number(node)
            case ast.Name(id=name):
                if name not in _CONSTANTS:
                    raise ExpressionError(f"{name[:40]} is no number: of names there are {', '.join(_CONSTANTS)}")
                return _CONSTANTS[name]
            case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
                value = self.value(inner, depth + 1)
                return -value if isinstance(node.op, ast.USub) else value
            case ast.BinOp():
                return self._chain(node, depth)
            case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
                return _bounded(_FUNCTIONS[name](*(self.value(each, depth + 1) for each in args)))
            case ast.Call(func=ast.Name(id=name)):
                raise ExpressionError(f"there is no function {name[:40]}: there are {', '.join(_FUNCTIONS)}")
            case ast.Tuple():
                raise ExpressionError("a comma stands between the arguments of a function only, never inside a number")
        raise _unknown(node)

    def _chain(self, node: ast.BinOp, depth: int) -> Number:
        """Operations that lean to the left: a long sum is not deep."""
        above = [node]
        while isinstance(above[-1].left, ast.BinOp):
            above.append(above[-1].left)
        value = self.value(above[-1].left, depth + 1)
        for each in reversed(above):
            if type(each.op) not in _OPERATORS:
                raise _unknown(each.op)
            value = _bounded(_OPERATORS[type(each.op)](value, self.value(each.right, depth + 1)))
        return value

    def _number(self, node: ast.Constant) -> Number:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ExpressionError(f"{str(value)[:40]!r} is no number")
        if isinstance(value, int):
            return _bounded(Fraction(value))
        written = ast.get_source_segment(self._text, node) or ""  # 0.1 is a tenth here, and no float
        return _bounded(literal(written.replace("_", "").removesuffix(".").replace(".e", "e").replace(".E", "e")))


def _unknown(node: ast.AST) -> ExpressionError:
    return ExpressionError(f"the calculator knows no {type(node).__name__}: it takes numbers, + - * / and functions")


def _bounded(value: Number) -> Number:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ExpressionError("the result is too large, or no number")
        return value
    _check_bits(max(value.numerator.bit_length(), value.denominator.bit_length()))
    return value


def _check_bits(bits: float) -> None:
    if bits > MAX_BITS:
        raise ExpressionError(f"a number of more than {MAX_BITS * 3 // 10:,} digits is not computed")


# --- operations and functions


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        _check_bits((bits - 1) * abs(exponent.numerator))  # it has at least so many
        raised: Fraction = base**exponent.numerator
        return raised
    if base < 0:
        raise ExpressionError("a negative number has no such power among the real numbers")
    power: float = float(base) ** float(exponent)
    return power


def _whole(value: Number, what: str) -> int:
    if value != value // 1:
        raise ExpressionError(f"{what} needs whole numbers")
    return int(value)


def _sqrt(value: Number) -> Number:
    """Exact for the squares of fractions."""
    if isinstance(value, Fraction) and value >= 0:
        above, below = math.isqrt(value.numerator), math.isqrt(value.denominator)
        if above * above == value.numerator and below * below == value.denominator:
            return Fraction(above, below)
    return math.sqrt(value)


def _log(value: Number, base: Number = math.e) -> Number:
    if value <= 0 or base <= 0:
        raise ExpressionError("only numbers above 0 have a logarithm")
    return _natural(value) if base == math.e else _natural(value) / _natural(base)


def _natural(value: Number) -> float:
    """Also of what no float can hold."""
    if isinstance(value, Fraction):
        return math.log(value.numerator) - math.log(value.denominator)
    return math.log(value)


def _round(value: Number, places: Number = Fraction(0)) -> Number:
    digits = _whole(places, "round")
    if abs(digits) > MAX_ROUND:
        raise ExpressionError(f"round takes at most {MAX_ROUND:,} decimal places")
    return Fraction(round(Fraction(value), digits))


def _factorial(value: Number) -> Number:
    n = _whole(value, "factorial")
    if n < 0:
        raise ExpressionError("a negative number has no factorial")
    _check_bits(math.lgamma(n + 1) / math.log(2))
    return Fraction(math.factorial(n))


def _comb(n: Number, k: Number) -> Number:
    of, chosen = _whole(n, "comb"), _whole(k, "comb")
    if of < 0 or chosen < 0:
        raise ExpressionError("comb needs numbers that are not negative")
    if chosen > of:
        return Fraction(0)
    fewer = min(chosen, of - chosen)
    _check_bits(min(of, fewer * of.bit_length()))  # it is less than 2^n, and than n^k
    return Fraction(math.comb(of, fewer))


def _gcd(*values: Number) -> Number:
    return Fraction(math.gcd(*(_whole(value, "gcd") for value in values)))


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: lambda left, right: Fraction(left // right),
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": _sqrt,
    "abs": abs,
    "min": lambda first, *others: min((first, *others)),
    "max": lambda first, *others: max((first, *others)),
    "round": _round,
    "floor": lambda value: Fraction(math.floor(value)),
    "ceil": lambda value: Fraction(math.ceil(value)),
    "log": _log,
    "exp": math.exp,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "factorial": _factorial,
    "gcd": _gcd,
    "comb": _comb,
}
