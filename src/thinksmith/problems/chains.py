"""Chains: three to six terms with + - * and brackets, reduced one operation at a time."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from thinksmith.problems.family import Family, Parameter, Parameters, make_problem
from thinksmith.problems.writer import Writer, near_miss
from thinksmith.records import Problem

LIMIT = 150
_INVERSE = {"+": "-", "-": "+", "*": "/"}
_WORDINGS = ("What is {e}?", "Compute {e}.", "Calculate {e}.", "Evaluate {e}.", "{e} = ?")


@dataclass(frozen=True, slots=True)
class Node:
    """A binary operation; leaves are ints."""

    op: str
    left: Node | int
    right: Node | int


def value(node: Node | int) -> int:
    if isinstance(node, int):
        return node
    x, y = value(node.left), value(node.right)
    return x + y if node.op == "+" else x - y if node.op == "-" else x * y


def text(node: Node | int, parent: str = "", right: bool = False) -> str:
    """Infix text with no more brackets than needed; a negative number that is not first is bracketed."""
    if isinstance(node, int):
        return f"({node})" if node < 0 and (right or parent == "*") else str(node)
    inner = f"{text(node.left, node.op)} {node.op} {text(node.right, node.op, True)}"
    weaker = node.op in "+-" and (parent == "*" or (parent in ("+", "-") and right))
    same = node.op == "*" and parent == "*" and right
    return f"({inner})" if weaker or same else inner


def generate(rng: Random, parameters: Parameters) -> Problem:
    terms = rng.randint(3, int(parameters["terms"]))
    while True:
        node = _grow(rng, terms)
        if isinstance(node, Node) and _within_limits(node):
            break
    expression = text(node)
    prompt = rng.choice(_WORDINGS).format(e=expression)
    return make_problem("chains", expression, prompt, str(value(node)), "number", expression=expression, terms=terms)


def _grow(rng: Random, terms: int) -> Node | int:
    if terms == 1:
        return rng.randint(2, 20)
    left = rng.randint(1, terms - 1)
    op = rng.choices("+-*", (4, 4, 3))[0]
    return Node(op, _grow(rng, left), _grow(rng, terms - left))


def _within_limits(node: Node | int) -> bool:
    """Every intermediate value is small enough to be known by heart, every product within 12 * 20."""
    if isinstance(node, int):
        return True
    if not (_within_limits(node.left) and _within_limits(node.right)):
        return False
    x, y = value(node.left), value(node.right)
    if node.op == "*" and (min(abs(x), abs(y)) > 9 or max(abs(x), abs(y)) > 20):
        return False
    return abs(value(node)) <= LIMIT


def solve(problem: Problem, w: Writer) -> str:
    tree = parse(str(problem.meta["expression"]))
    last, result = _reduce(w, tree)
    if w.wants_check() and not _backwards_fits(w, last, result):
        w.again()
        last, result = _reduce(w, tree)
    return str(result)


def _reduce(w: Writer, tree: Node | int) -> tuple[Node, int]:
    """Write the steps; returns the last operation as it was written, and the result."""
    last = Node("+", 0, 0)
    while isinstance(tree, Node):
        last = tree
        tree = _step(w, tree)
        w.say(f", leaving {text(tree)}.\n" if isinstance(tree, Node) else ".")
    return last, tree


def _step(w: Writer, node: Node) -> Node | int:
    """Reduce the leftmost innermost operation, as one would by hand."""
    if isinstance(node.left, Node):
        return Node(node.op, _step(w, node.left), node.right)
    if isinstance(node.right, Node):
        return Node(node.op, node.left, _step(w, node.right))
    if node.op == "*":
        return w.equation(text(node), value(node))
    return w.signed(text(node), value(node.left), node.op, value(node.right))


def _backwards_fits(w: Writer, last: Node, result: int) -> bool:
    """Undo the last operation."""
    x, y = value(last.left), value(last.right)
    if last.op == "*" and (not y or result % y):
        w.say(f"\nCheck: {text(last)} = {x * y}.")
        return x * y == result
    undone = Node(_INVERSE[last.op], result, y)
    w.say("\nCheck: ")
    if last.op == "*":
        back = result // y
        w.say(f"{text(undone)} = {back}.")
    else:
        back = w.signed(text(undone), result, undone.op, y)
        w.say(".")
    return back == x


def parse(expression: str) -> Node | int:
    """Read an expression of whole numbers with + - * and brackets (the generator's own text)."""
    tokens = expression.replace("(", " ( ").replace(")", " ) ").split()
    node, rest = _sum(tokens)
    assert not rest
    return node


def _sum(tokens: list[str]) -> tuple[Node | int, list[str]]:
    node, rest = _product(tokens)
    while rest and rest[0] in "+-":
        right, after = _product(rest[1:])
        node, rest = Node(rest[0], node, right), after
    return node, rest


def _product(tokens: list[str]) -> tuple[Node | int, list[str]]:
    node, rest = _atom(tokens)
    while rest and rest[0] == "*":
        right, after = _atom(rest[1:])
        node, rest = Node("*", node, right), after
    return node, rest


def _atom(tokens: list[str]) -> tuple[Node | int, list[str]]:
    if tokens[0] == "(":
        node, rest = _sum(tokens[1:])
        return node, rest[1:]
    return int(tokens[0]), tokens[1:]


def guess(problem: Problem, rng: Random) -> str:
    return str(near_miss(int(str(problem.answer)), rng))


FAMILY = Family(
    name="chains",
    about="three to six terms with + - * and brackets",
    kind="number",
    parameters={"terms": Parameter(6, "most terms", low=3, high=6)},
    generate=generate,
    solve=solve,
    guess=guess,
)
