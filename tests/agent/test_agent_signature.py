"""Functions as tools: a schema means what the annotations mean, by pydantic's reading of them; results are bounded."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import ConfigDict, TypeAdapter, ValidationError
from tool_calling import call
from typing_extensions import TypedDict

from thinksmith.agent.contract import Result, Tool
from thinksmith.agent.tools.given import LARGEST
from thinksmith.agent.tools.signature import tool_of
from thinksmith.agent.tools.threads import in_thread
from thinksmith.errors import UserError


class Place(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]
    x: int
    name: NotRequired[str]


@dataclass
class Point:
    __pydantic_config__ = ConfigDict(extra="forbid")
    x: float
    tags: list[str] = field(default_factory=list)


HINTS: list[Any] = [
    int, float, bool, str, None, Any, list[int], list[list[str]], Sequence[float], dict[str, int], Mapping[str, bool],
    list, dict, Literal["a", "b"], Literal[2, "a", None], int | None, Optional[str],  # noqa: UP045
    str | int | list[int],
    Annotated[int, "a count"], dict[str, list[int | None]], Place, Point, list[Point], Point | None, Place | int,
]  # fmt: skip
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5),
    st.floats(-10, 10).filter(lambda number: number % 1),
    st.sampled_from(["a", "b", "x", ""]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["x", "name", "tags", "k"]), inner, max_size=3)
    ),
    max_leaves=6,
)


def taking(hint: Any) -> tuple[Tool, list[Any]]:
    """A tool with one parameter of this type, and what its calls were given."""
    seen: list[Any] = []

    def function(value: Any) -> None:
        seen.append(value)

    function.__annotations__["value"] = hint
    return tool_of(function), seen


@pytest.mark.parametrize("hint", HINTS, ids=str)
@settings(max_examples=40)
@given(st.data())
def test_a_schema_takes_what_pydantic_takes(hint: Any, data: st.DataObject) -> None:
    """In its strict mode, of JSON: nothing is converted. And the function gets what pydantic would give it."""
    value = data.draw(values)
    tool, seen = taking(hint)
    try:
        wanted = [TypeAdapter(hint).validate_json(json.dumps(value), strict=True)]
    except ValidationError:
        wanted = []
    fits = Draft202012Validator(dict(tool.parameters)).is_valid({"value": value})
    assert fits is bool(wanted)
    if fits:
        asyncio.run(tool.call({"value": value}, None))
        assert seen == wanted
        assert type(seen[0]) is type(wanted[0]) or hint not in (str, bool, Place, Point, int)


def test_a_signature_becomes_a_description() -> None:
    def forecast(
        city: str, days: Annotated[int, "at most 14"] = 1, *, unit: Literal["C", "F"] = "C", near: str | None = None
    ) -> str:
        """The weather forecast
        of a city.

        It is not always right.

        Args:
            city (str): its name,
                in English
        Returns:
            city: what is described here is no parameter
        :param near: a place near it
        """
        return f"{city} {days} {unit} {near}"

    tool = tool_of(forecast, kind="send", group="weather", seconds=5, repeatable=True, fence="city")
    assert (tool.name, tool.kind, tool.group, tool.seconds, tool.repeatable, tool.fence) == (
        "forecast", "send", "weather", 5, True, "city",
    )  # fmt: skip
    assert tool.description == "The weather forecast of a city."
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "its name, in English"},
            "days": {"type": "integer", "description": "at most 14", "default": 1},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
            "near": {
                "anyOf": [{"type": "string"}, {"type": "null"}],
                "description": "a place near it",
                "default": None,
            },
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert call(tool, city="Ulm", unit="F").text == "Ulm 1 F None"


def test_plain_lines_describe_parameters_too() -> None:
    def area(width: int, height: int, /) -> int:
        """An area.

        width: from left to right,
          in metres
        height: from below
        volume: nothing that there is
        """
        return width * height

    tool = tool_of(area)
    described = {key: each["description"] for key, each in tool.parameters["properties"].items()}
    assert described == {"width": "from left to right, in metres", "height": "from below"}
    assert call(tool, height=3, width=4).text == "12"


def test_3_point_0_is_an_int_where_one_is_wanted() -> None:
    tool, seen = taking(dict[str, list[int]])
    call(tool, value={"k": [3.0, 4]})
    assert repr(seen) == "[{'k': [3, 4]}]"


def test_a_method_a_partial_and_an_object_are_functions() -> None:
    class Shop:
        def price(self, name: str) -> int:
            """Its price."""
            return len(name)

        def __call__(self, name: str) -> str:
            """Greets."""
            return f"hello {name}"

    def add(a: int, b: int) -> int:
        return a + b

    assert call(tool_of(Shop().price), name="pear").text == "4"
    assert call(tool_of(Shop(), name="greet"), name="x").text == "hello x"
    assert call(tool_of(partial(add, 1), name="inc"), b=2).text == "3"


class Strange:
    pass


@dataclass
class Endless:
    inner: list[Endless]


def _refused() -> list[tuple[Callable[..., Any], str]]:
    def unsupported(good: int, strange: Strange) -> None: ...
    def untyped(good: int, bare) -> None: ...  # type: ignore[no-untyped-def]
    def many(*those: int) -> None: ...
    def named(**those: int) -> None: ...
    def keys(mapping: dict[int, str]) -> None: ...
    def endless(value: Endless) -> None: ...
    def unknown(value: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821
    def pair(value: tuple[int, str]) -> None: ...
    def raw(value: bytes) -> None: ...

    return [
        (unsupported, "strange"), (untyped, "bare"), (many, "those"), (named, "those"), (keys, "mapping"),
        (endless, "value"), (unknown, "Nowhere"), (pair, "value"), (raw, "value"), (lambda x: x, "name"),
    ]  # fmt: skip


@pytest.mark.parametrize(("function", "named"), _refused(), ids=lambda each: getattr(each, "__name__", each))
def test_what_json_has_no_type_for_is_refused_by_name(function: Callable[..., Any], named: str) -> None:
    with pytest.raises(UserError, match=named) as refused:
        tool_of(function)
    assert "\n" not in str(refused.value)


# --- results


def giving(value: Any) -> Result:
    def function() -> Any:
        return value

    return call(tool_of(function))


def test_results_become_text() -> None:
    assert giving("as it is\0\ud800").text == "as it is\0\ud800"
    assert giving(b"K\xe4se").text == "K\ufffdse"
    assert giving(None).text == ""
    assert giving({"a": [1, None, True, "ä"]}).text == '{"a": [1, null, true, "ä"]}'
    assert giving(Point(1.5)).text == '{"x": 1.5, "tags": []}'
    assert giving([Path("a/b"), Decimal("1.50"), {3, 1}]).text == '["a/b", "1.50", [1, 3]]'
    assert giving(Result("no", ok=False)) == Result("no", ok=False)


@pytest.mark.parametrize(
    "value",
    ["x" * 10**8, b"\xff" * 10**8, ["x" * 1000] * 10**5, {"k": "x" * 10**7}, [list(range(1000))] * 10**6],
    ids=["text", "bytes", "list", "object", "numbers"],
)
def test_results_are_bounded(value: Any) -> None:
    began = time.monotonic()
    assert len(giving(value).text) <= LARGEST
    assert time.monotonic() - began < 20


def test_what_is_no_data_is_the_function_s_fault() -> None:
    deep: list[Any] = []
    deep.append(deep)
    for value in (Strange(), range(3), deep, {"x": object()}, {(1, 2): 3}):
        with pytest.raises((TypeError, ValueError)):
            giving(value)


# --- threads


def test_a_function_that_hangs_keeps_nobody_waiting() -> None:
    """Neither the others nor the loop, and each has a thread of its own: more than any pool has."""
    release = threading.Event()

    def hang() -> None:
        release.wait(60)

    def quick() -> str:
        return "done"

    async def main() -> float:
        hanging = [asyncio.create_task(tool_of(hang).call({}, None)) for _ in range(50)]
        await asyncio.sleep(0)
        began = time.monotonic()
        assert (await tool_of(quick).call({}, None)).text == "done"
        took = time.monotonic() - began
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)
        return took

    try:
        assert asyncio.run(main()) < 5
    finally:
        release.set()


def test_a_function_that_hangs_does_not_keep_the_program_from_its_end() -> None:
    import subprocess

    program = """
import asyncio, time
from thinksmith.agent.tools.threads import in_thread

async def main():
    try:
        await asyncio.wait_for(in_thread(time.sleep, 1000), 0.1)
    except TimeoutError:
        print("stopped")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("stopped\n", 0)


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit(), asyncio.CancelledError()]
)
@pytest.mark.parametrize("sync", [True, False])
def test_no_tool_ends_the_program(error: BaseException, sync: bool) -> None:
    def plain() -> None:
        raise error

    async def waiting() -> None:
        raise error

    async def main() -> None:
        with pytest.raises(RuntimeError):
            await tool_of(plain if sync else waiting).call({}, None)

    asyncio.run(main())


def test_errors_come_as_they_are_and_async_functions_run_in_the_loop() -> None:
    def fails() -> None:
        raise ZeroDivisionError("as it is")

    async def where() -> str:
        return str(threading.current_thread() is threading.main_thread())

    with pytest.raises(ZeroDivisionError, match="as it is"):
        call(tool_of(fails))
    assert call(tool_of(where)).text == "True"
    assert asyncio.run(in_thread(lambda: threading.current_thread().daemon)) is True


def test_an_async_tool_can_be_cancelled() -> None:
    async def sleeps() -> None:
        await asyncio.sleep(1000)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await tool_of(sleeps).call({}, None)

    asyncio.run(main())
