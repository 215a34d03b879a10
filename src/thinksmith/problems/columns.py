"""School arithmetic, digit by digit: every step is one fact over single digits, the result is read off the columns.

A small model learns these facts by heart and the procedure by example, where it could never learn
three-digit products as facts. Carries are visible: they are the tens of the column before.
"""

from __future__ import annotations

from collections.abc import Callable

from thinksmith.problems.writer import Writer


def add(w: Writer, a: int, b: int) -> int:
    """Write a + b (a, b ≥ 0) by columns from the right and return the written sum."""
    if a < 10 and b < 10:
        return w.equation(f"{a} + {b}", a + b)
    w.say(f"{a} + {b}: ")

    def fact(column: int) -> tuple[str, int]:
        x, y = a // 10**column % 10, b // 10**column % 10
        return f"{x} + {y}", x + y

    return _from_right(w, max(len(str(a)), len(str(b))), fact)


def _from_right(w: Writer, columns: int, fact: Callable[[int], tuple[str, int]]) -> int:
    """Write an equation a column, the tens of each carried to the next; `fact(column)` is one without its carry."""
    result, carry = 0, 0
    for column in range(columns):
        left, value = fact(column)
        total = w.equation(left + (f" + {carry}" if carry else ""), value + carry)
        last = column == columns - 1
        result += (total if last else total % 10) * 10**column
        carry = max(total, 0) // 10
        w.say(", ")
    w.say(f"so {result}")
    return result


def subtract(w: Writer, a: int, b: int) -> int:
    """Write a - b by columns with borrowing; a negative result is turned round first. Returns what was written."""
    if b > a:
        w.say(f"{b} is more than {a}. ")
        return -subtract(w, b, a)
    if a < 20 and b < 10:
        return w.equation(f"{a} - {b}", a - b)
    w.say(f"{a} - {b}: ")
    result, borrow = 0, 0
    for column in range(len(str(a))):
        x, y = a // 10**column % 10, b // 10**column % 10
        lent = 10 if x - borrow < y else 0
        digit = w.equation(f"{x + lent}" + (f" - {borrow}" if borrow else "") + f" - {y}", x + lent - borrow - y)
        result += digit * 10**column
        borrow = 1 if lent else 0
        w.say(", ")
    w.say(f"so {result}")
    return result


def multiply_digit(w: Writer, a: int, d: int) -> int:
    """Write a * d for one digit d and return the written product."""
    if a < 10 or d <= 1:
        return w.equation(f"{a} * {d}", a * d)
    w.say(f"{a} * {d}: ")

    def fact(column: int) -> tuple[str, int]:
        x = a // 10**column % 10
        return f"{x} * {d}", x * d

    return _from_right(w, len(str(a)), fact)


def multiply(w: Writer, a: int, b: int) -> int:
    """Write a * b (b < 100) by splitting b into tens and ones; returns the written product."""
    if b > a:
        a, b = b, a
    if b < 10:
        return multiply_digit(w, a, b)
    tens, ones = b - b % 10, b % 10
    if not ones:
        tenth = multiply_digit(w, a, tens // 10)
        w.say(f", {a} * {b} = {tenth * 10}")
        return tenth * 10
    w.say(f"{a} * {b} = {a} * {tens} + {a} * {ones}.\n")
    tenth = multiply_digit(w, a, tens // 10)
    w.say(f", {a} * {tens} = {tenth * 10}.\n")
    rest = multiply_digit(w, a, ones)
    w.say(".\n")
    return add(w, tenth * 10, rest)


def divide(w: Writer, a: int, d: int) -> tuple[int, int]:
    """Write long division of a by d, one digit brought down at a time; returns the written (quotient, remainder)."""
    if a < d * 10 and a < 100:
        return w.division(a, d)
    w.say(f"{a} / {d}: ")
    quotient, remainder, started = 0, 0, False
    for position, digit in enumerate(str(a)):
        remainder = remainder * 10 + int(digit)
        last = position == len(str(a)) - 1
        if not started and remainder < d and not last:
            continue
        started = True
        q, remainder = w.division(remainder, d)
        quotient = quotient * 10 + q
        w.say(", ")
    w.say(f"so {quotient} remainder {remainder}")
    return quotient, remainder
