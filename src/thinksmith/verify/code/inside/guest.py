"""What runs inside the sandbox when a function is tested: the program on one side, its examiner on the other.

This file is the only one of thinksmith that a guest can see, so it imports nothing but the standard library. Program
and examiner are two processes in two sandboxes, with a socket between them. The program's side runs what the model
wrote and does what it is asked: call this function with these arguments. The examiner's side runs the tests, in which
the function is a `Remote`. What passes between them is plain data, copied: numbers, text and containers, built anew on
this side. So the program never sees the tests, cannot patch an `assert`, gains nothing by `sys.exit(0)` or by an object
that equals everything, and whatever it writes to the socket is at most a value that a function returned.

A value that is no plain data (an instance, a generator) stays where it is and is a `Remote` on the other side.
"""

from __future__ import annotations

import builtins
import json
import math
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any

MAX_FRAME = 16 * 2**20
"""Bytes of one message; also what a guest may make the other side hold in memory for one value."""
MAX_DEPTH = 100
MAX_OBJECTS = 100_000
"""Objects that one side keeps for the other."""
SAFE = 2**53
SPECIAL = frozenset({"__len__", "__getitem__", "__str__", "__repr__"})
"""Methods of an object that the other side may call besides those with plain names."""
DATA = frozenset(dir(str)) | {"issubset", "issuperset", "isdisjoint"}
"""Methods by which tests ask plain data about what they expect: an object in its place could just say yes."""
CONTAINERS: dict[str, Callable[[Any], Any]] = {"t": tuple, "s": set, "z": frozenset}


class Broken(Exception):
    """The other side ended, or said something that is no message."""


class BadTests(Exception):
    """The data set's own code does not run."""


class Late(BaseException):
    """A case has taken its time. Not for tests to catch."""


class TooLarge(Exception):
    """A value that is too large or too deep to be told."""


class Remote:
    """An object of the other side. Only calls, attributes and a few special methods reach it; equality is identity.

    What a test would ask of plain data is not asked of an object, unless the test itself made it (`made`) by calling a
    class: a program could answer as it likes, and would learn what is expected.
    """

    __slots__ = ("_id", "_made", "_peer")

    def __init__(self, peer: Peer, number: int, *, made: bool = False) -> None:
        self._peer, self._id, self._made = peer, number, made

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._peer.call(self._id, "", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or (name in DATA and not self._made):
            raise AttributeError(name)
        return self._peer.ask(["get", self._id, name])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._peer.ask(["list", self._id]))

    def __len__(self) -> int:
        self._special("__len__")
        return len(self._peer.ask(["list", self._id]))

    def __getitem__(self, key: Any) -> Any:
        return self._special("__getitem__", key)

    def __contains__(self, key: Any) -> bool:
        return any(item is key or item == key for item in self)

    def _special(self, name: str, *args: Any) -> Any:
        try:
            return self._peer.call(self._id, name, args, {})
        except AttributeError:  # `list(generator)` asks for a length first, and expects this
            raise TypeError(f"the object has no {name}") from None

    def __bool__(self) -> bool:
        return self._peer.ask(["bool", self._id]) is True

    def __str__(self) -> str:
        return str(self._peer.call(self._id, "__str__", (), {}))

    def __repr__(self) -> str:
        return str(self._peer.call(self._id, "__repr__", (), {}))


class Peer:
    """One end of the conversation: asks the other side, and serves it while it waits for the answer.

    `root` is object 0, by which the other side begins. With `generous` the other side may look at attributes of our
    objects and call their methods; without, it may only call functions that it was given as arguments.
    """

    def __init__(self, descriptor: int, root: Any = None, *, generous: bool = False) -> None:
        self._descriptor = descriptor
        self._objects: list[Any] = [root]
        self._generous = generous
        self.broken = ""
        self.asked = 0
        self.deadline: float | None = None

    def call(self, target: int, name: str, args: Any, kwargs: Any) -> Any:
        """Call object `target` of the other side, or its method `name`. Raises what the function raised."""
        return self.ask(["call", target, name, self.encode(list(args)), self.encode(dict(kwargs))])

    def ask(self, question: list[Any]) -> Any:
        """Send a question and serve the other side until the answer is there. Raises Broken, and what was raised."""
        try:
            return self._asked(question)
        except OSError:
            self.broken = "the program ended"
            raise Broken(self.broken) from None
        except Broken as error:
            self.broken = str(error)  # tests that expect an exception must not take this for one
            raise

    def _asked(self, question: list[Any]) -> Any:
        self.asked += 1
        self._send(question)
        while True:
            message = self._receive()
            if message is None:
                raise Broken("the program ended")
            if message[0] == "value" and len(message) == 2:
                return self.decode(message[1])
            if message[0] == "raise" and len(message) == 3:
                raise _exception(message[1], message[2])
            self._send(self._served(message))

    def serve(self) -> None:
        """Answer questions until the other side goes away."""
        while (message := self._receive()) is not None:
            self._send(self._served(message))

    def _served(self, message: list[Any]) -> list[Any]:
        try:
            return ["value", self.encode(self._done(message))]
        except Late:
            raise
        except (TooLarge, Broken) as error:
            return ["raise", ["ValueError"], str(error)]
        except BaseException as error:  # SystemExit too: the model's function called sys.exit
            names = [kind.__name__ for kind in type(error).__mro__[:20]]
            try:
                text = str(error)[:500]
            except BaseException:  # an exception of the program's own, with a __str__ that fails
                text = ""
            return ["raise", names, text]

    def _done(self, message: list[Any]) -> Any:
        if message[0] == "call" and len(message) == 5:
            _, target, name, args, kwargs = message
            found = self._own(target)
            if name:
                self._allow(name)
                found = getattr(found, name)
            return found(*self.decode(args), **self.decode(kwargs))
        if not self._generous or len(message) < 2:
            raise Broken("that is not for you to ask")
        found = self._own(message[1])
        if message[0] == "list":
            taken: list[Any] = []
            for item in found:
                taken.append(item)
                if len(taken) > MAX_OBJECTS * 10:
                    raise TooLarge("an iterator without an end")
            return taken
        if message[0] == "bool":
            return bool(found)
        if message[0] == "get" and len(message) == 3:
            self._allow(message[2])
            return getattr(found, message[2])
        raise Broken("no such question")

    def _own(self, number: Any) -> Any:
        if type(number) is not int or not 0 <= number < len(self._objects):
            raise Broken("no such object")
        return self._objects[number]

    def _allow(self, name: Any) -> None:
        if not self._generous or type(name) is not str or (name.startswith("__") and name not in SPECIAL):
            raise Broken("that is not for you to ask")

    # -- values ------------------------------------------------------------------------------------------------------

    def encode(self, value: Any, depth: int = 0) -> Any:
        """`value` as JSON; what is no plain data becomes the number of an object. Raises TooLarge."""
        if value is None or value is True or value is False:
            return value
        if depth > MAX_DEPTH:
            raise TooLarge("nested too deeply, or in itself")
        if isinstance(value, int):
            value = int(value)
            return value if -SAFE < value < SAFE else {"i": hex(value)}
        if isinstance(value, float):
            value = float(value)
            return value if value - value == 0 else {"f": repr(value)}
        if isinstance(value, str):
            return str.__str__(value)
        return self._encode_more(value, depth + 1)

    def _encode_more(self, value: Any, depth: int) -> Any:
        if isinstance(value, list):
            return [self.encode(item, depth) for item in list(value)]
        for sign, kind in CONTAINERS.items():
            if isinstance(value, kind):  # type: ignore[arg-type]
                return {sign: [self.encode(item, depth) for item in list(value)]}
        if isinstance(value, dict):
            return {"d": [[self.encode(key, depth), self.encode(item, depth)] for key, item in list(value.items())]}
        if isinstance(value, (bytes, bytearray)):
            return {"b": bytes(value).hex()}
        if isinstance(value, complex):
            return {"c": [self.encode(value.real), self.encode(value.imag)]}
        if isinstance(value, Fraction):
            return {"q": [self.encode(value.numerator), self.encode(value.denominator)]}
        if isinstance(value, Decimal):
            return {"m": str(value)}
        if isinstance(value, Remote):  # it comes home
            return {"o": value._id}
        if len(self._objects) > MAX_OBJECTS:
            raise TooLarge("too many objects")
        self._objects.append(value)
        return {"r": len(self._objects) - 1}

    def decode(self, value: Any) -> Any:
        """The value that `encode` of the other side meant. Raises Broken for what no `encode` ever wrote."""
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        if not isinstance(value, dict):
            return value
        try:
            ((sign, content),) = value.items()
            return self._decode_more(sign, content)
        except (TypeError, ValueError, ArithmeticError):
            raise Broken("a message that nobody wrote") from None

    def _decode_more(self, sign: str, content: Any) -> Any:
        if sign in CONTAINERS:
            return CONTAINERS[sign]([self.decode(item) for item in content])
        if sign == "d":
            return {self.decode(key): self.decode(item) for key, item in content}
        if sign == "i":
            return int(content, 16)
        if sign == "f":
            return float(content)
        if sign == "b":
            return bytes.fromhex(content)
        if sign in ("c", "q"):
            a, b = (self.decode(part) for part in content)
            return complex(a, b) if sign == "c" else Fraction(a, b)
        if sign == "m":
            return Decimal(content)
        if sign == "o":
            return self._own(content)
        if sign == "r" and type(content) is int:
            return Remote(self, content)
        raise ValueError

    # -- frames: four bytes of length, then JSON -----------------------------------------------------------------------

    def _send(self, message: list[Any]) -> None:
        frame = json.dumps(message).encode()
        if len(frame) > MAX_FRAME:
            if message[0] == "value":
                return self._send(["raise", ["ValueError"], "returned more than can be told"])
            raise BadTests("an argument is larger than can be told") if not self._generous else TooLarge("too large")
        view = memoryview(len(frame).to_bytes(4, "big") + frame)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _receive(self) -> list[Any] | None:
        head = self._read(4)
        if not head:
            return None
        size = int.from_bytes(head, "big")
        if size > MAX_FRAME:
            raise Broken("a message that is too long")
        try:
            message = json.loads(self._read(size))
        except (ValueError, RecursionError):
            raise Broken("a message that nobody wrote") from None
        if not isinstance(message, list) or not message:
            raise Broken("a message that nobody wrote")
        return message

    def _read(self, size: int) -> bytes:
        read = bytearray()
        while len(read) < size:
            if self.deadline is not None:
                left = self.deadline - time.monotonic()
                if left <= 0 or not select.select([self._descriptor], [], [], left)[0]:
                    raise Late
            if not (more := os.read(self._descriptor, size - len(read))):
                if read:
                    raise Broken("the program ended in the middle of a message")
                return b""
            read += more
        return bytes(read)


def _exception(names: Any, message: Any) -> Exception:
    """The built-in exception nearest to what was raised. None that steers a loop, and none that ends a process."""
    for name in names if isinstance(names, list) else ():
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if isinstance(kind, type) and issubclass(kind, Exception) and kind not in (StopIteration, StopAsyncIteration):
            try:
                return kind(str(message))
            except TypeError:  # UnicodeDecodeError wants five arguments
                continue
    return RuntimeError(f"{names[0] if isinstance(names, list) and names else 'error'}: {message}")


def _mute() -> None:
    """What is printed goes nowhere; the parent waits for something else."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def program() -> None:
    """The program's side. Its text is read from standard input; then it is asked over the channel."""
    (descriptor,) = map(int, os.environ["CHANNELS"].split(","))
    text = sys.stdin.buffer.read().decode("utf-8", "replace")
    error = os.dup(2)
    _mute()
    module = ModuleType("solution")
    sys.modules["solution"] = module
    peer = Peer(descriptor, module, generous=True)
    try:
        exec(compile(text, "solution.py", "exec"), module.__dict__)
    except BaseException:
        os.dup2(error, 2)  # why it could not even begin is worth telling
        raise
    os.close(error)
    peer.serve()


def examiner() -> None:
    """The examiner's side. Reads the task from standard input and writes one line of JSON to its second channel.

    The task: `secret` (to be repeated in the report), `entry`, and either `setup`, `tests` (Python) and `names` (which
    the solution defines whatever else is called so) or `cases`, each with `args`, `kwargs` and `expected`, `tolerance`
    and the `seconds` of a case.
    """
    descriptor, report = map(int, os.environ["CHANNELS"].split(","))
    task = json.loads(sys.stdin.buffer.read())
    _mute()
    peer = Peer(descriptor)
    bad_tests = late = False
    try:
        reason = _by_cases(peer, task) if "cases" in task else _by_tests(peer, task)
        if reason is None and not peer.asked:
            raise BadTests("they never call the program")
    except BadTests as error:
        bad_tests, reason = True, str(error)
    except Late:
        late, reason = True, "too slow"
    except BaseException as error:  # whatever a program's object did to the tests, it is not right
        reason = f"the tests end with {type(error).__name__}"
    if peer.broken:
        reason = peer.broken
    told = {
        "secret": task["secret"], "passed": reason is None, "reason": (reason or "")[:1000], "bad_tests": bad_tests,
        "broken": bool(peer.broken), "late": late,
    }  # fmt: skip
    os.write(report, json.dumps(told).encode())
    os._exit(0)


def _by_tests(peer: Peer, task: dict[str, Any]) -> str | None:
    """None if all tests pass, else which one does not and how."""
    space: dict[str, Any] = {"__name__": "tests"}
    if fault := _ran(task["setup"], "setup", space):
        raise BadTests(fault)
    solution = Remote(peer, 0, made=True)
    names = set(task["names"])
    try:
        code = compile(task["tests"], "tests.py", "exec")
    except (SyntaxError, ValueError) as error:
        raise BadTests(str(error)) from None
    for name in _free(code, space):
        space[name] = _module(name) or _Function(solution, name)
    for name in names:
        space[name] = _Function(solution, name)
    if fault := _ran(task["tests"], "tests", space):
        return fault
    if task["entry"] and callable(check := space.get("check")):
        space["__entry__"] = space[task["entry"]]
        space["__check__"] = check
        return _ran("__check__(__entry__)", "tests", space, task["tests"])
    return None


def _by_cases(peer: Peer, task: dict[str, Any]) -> str | None:
    """Each case: what `entry` makes of `args` is `expected`. `Solution.method` is called on a new instance."""
    *owners, method = task["entry"].split(".")
    for index, case in enumerate(task["cases"], 1):
        peer.deadline = time.monotonic() + task["seconds"]
        try:
            target = 0
            for owner in owners:
                instance = peer.call(target, owner, [], {})
                if not isinstance(instance, Remote):
                    return f"{owner}() is no object"
                target = instance._id
            got = peer.call(target, method, case.get("args", []), case.get("kwargs", {}))
            if not same(case["expected"], got, task["tolerance"]):
                return (
                    f"case {index}: {_short(case.get('args'))} gives {_short(got)}, expected {_short(case['expected'])}"
                )
        except Exception as error:
            said = _said(error)
            return f"case {index}: {_short(case.get('args'))} raises {type(error).__name__}: {said}"
    return None


def same(expected: Any, got: Any, tolerance: float) -> bool:
    """Equal as Python says, but a tuple is a list, keys may be told as text (JSON has no others), and numbers may
    differ by `tolerance`: from an int absolute, from a float absolute or relative."""
    if isinstance(expected, (list, tuple)):
        return (
            isinstance(got, (list, tuple))
            and len(expected) == len(got)
            and all(same(a, b, tolerance) for a, b in zip(expected, got, strict=True))
        )
    if isinstance(expected, dict):
        if not isinstance(got, dict):
            return False
        if expected.keys() != got.keys():
            got = {str(key): value for key, value in got.items()}
        return expected.keys() == got.keys() and all(same(each, got[key], tolerance) for key, each in expected.items())
    if isinstance(expected, bool) or isinstance(got, bool) or expected is None:
        return expected is got
    if isinstance(expected, (int, float)) and isinstance(got, (int, float)):
        return _near(expected, got, tolerance)
    return bool(expected == got)


def _near(expected: float, got: float, tolerance: float) -> bool:
    if expected == got:
        return True
    if isinstance(expected, int) and isinstance(got, int):
        return False
    try:
        margin = tolerance if isinstance(expected, int) else tolerance * max(1.0, abs(expected))
        return math.isfinite(expected) and abs(expected - got) <= margin
    except OverflowError:  # an int beyond all floats
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:99] + "…"


class _Function:
    """A function of the solution by its name, looked up when it is called."""

    def __init__(self, solution: Remote, name: str) -> None:
        self._solution, self.__name__ = solution, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self._solution._peer.call(0, self.__name__, args, kwargs)
        if isinstance(found, Remote) and self.__name__[0].isupper():
            found._made = True  # an instance of a class that the tests themselves name
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(getattr(self._solution, self.__name__), name)


def _free(code: Any, space: dict[str, Any]) -> set[str]:
    """Names that the tests use and that nobody but the solution can define."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if hasattr(constant, "co_names"):
            names |= _free(constant, space)
    return {name for name in names if name not in space and not hasattr(builtins, name)}


def _module(name: str) -> Any:
    """Tests that say `math.isclose` without an import mean the module, not whatever the solution calls so."""
    return __import__(name) if name in sys.stdlib_module_names and not name.startswith("_") else None


def _ran(text: str, name: str, space: dict[str, Any], shown: str = "") -> str | None:
    """Run the data set's code. None, or what was raised and in which line."""
    try:
        exec(compile(text, f"{name}.py", "exec"), space)
    except (BadTests, Late):
        raise
    except BaseException as error:
        line = _line(error, (shown or text).splitlines())
        said = _said(error)
        kind = "" if isinstance(error, AssertionError) else type(error).__name__
        return f"{line or name} fails" + (f" ({': '.join(filter(None, (kind, said)))})" if kind or said else "")
    return None


def _said(error: BaseException) -> str:
    """What an error says; in it may be an object of the program's, which says what it likes, or fails."""
    try:
        return " ".join(str(error).split())[:200]
    except Exception:
        return ""


def _line(error: BaseException, lines: list[str]) -> str:
    """The line of the tests where it was raised."""
    found, trace = 0, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename in ("tests.py", "setup.py"):
            found = trace.tb_lineno
        trace = trace.tb_next
    return lines[found - 1].strip()[:200] if 0 < found <= len(lines) else ""
