"""Tools by name: what is opened, what is refused in one line, and that nothing stays open."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.agent.contract import Toolset
from thinksmith.agent.opening import TOOLSETS, open_tools, split
from thinksmith.errors import UserError


def opened(*specs: str) -> tuple[Toolset, ...]:
    async def main() -> tuple[Toolset, ...]:
        toolsets = await open_tools(specs)
        for toolset in toolsets:
            await toolset.aclose()
        return toolsets

    return asyncio.run(main())


def names(*specs: str) -> list[str]:
    return [tool.name for toolset in opened(*specs) for tool in toolset.tools]


def test_specs_are_opened_in_their_order(tmp_path: Path) -> None:
    toolsets = opened(f"calculator, files:{tmp_path}", "own_tools:double")
    assert [toolset.spec for toolset in toolsets] == ["calculator", f"files:{tmp_path}", "own_tools:double"]
    assert [tool.name for toolset in toolsets for tool in toolset.tools] == [
        "calculator", "files_list", "files_read", "files_search", "files_write", "files_edit", "double",
    ]  # fmt: skip
    assert opened() == ()


def test_a_group_that_comes_again_gets_a_number(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    toolsets = opened(f"files:{tmp_path}/a,files:{tmp_path}/b,files:{tmp_path}")
    assert [each.tools[0].group for each in toolsets] == ["files", "files2", "files3"]
    assert [each.tools[1].name for each in toolsets] == ["files_read", "files2_read", "files3_read"]
    assert len({tool.name for each in toolsets for tool in each.tools}) == 15


def test_one_s_own_functions() -> None:
    (toolset,) = opened("own_tools:TOOLS")
    assert [(tool.name, tool.kind) for tool in toolset.tools] == [("double", "run"), ("look", "read")]
    assert names("own_tools:look") == ["look"]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("fies:./x", "did you mean 'files'?"),
        ("calculater", "did you mean 'calculator'?"),
        ("SQL", "did you mean 'sql'?"),
        ("nonsense", "there are: files, sql, http, python, calculator, mcp"),
        ("fies:x", "did you mean 'files'?"),
        ("no_such_module:function", "is its folder on PYTHONPATH?"),
        ("own_tools:none", "is its folder on PYTHONPATH?"),
        ("own_tools:number", "is of type int: name a typed function"),
        ("own_tools:untyped", "its parameter number needs a type"),
        ("files", "files needs a folder"),
        ("files:/no/such/folder", "cannot open the folder"),
        ("calculator:x", "nothing behind the colon"),
        ("calculator,calculator", "calculator comes twice"),
        ("sql:postgresql://u:secret@h/d,sql:postgresql://u:secret@h/d", "sql:postgresql://… comes twice"),
        ("files:.,own_tools:clash", "both have a tool files_read"),
        ("../own_tools:double", "no tool"),
        ("own_tools:double.__globals__", "no tool"),
        ("own_tools:", "no tool"),
        (":double", "no tool"),
    ],
)
def test_a_mistake_is_one_line(spec: str, told: str) -> None:
    with pytest.raises(UserError) as refused:
        opened(spec)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_module_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fails_at_import.py").write_text("raise RuntimeError('first\\nsecond')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=r"RuntimeError: first second"):
        opened("fails_at_import:function")


def test_what_was_opened_is_closed_when_a_later_one_fails(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    for last in ("nonsense", "files:/no/such/folder", "own_tools:untyped"):
        with pytest.raises(UserError):
            opened(f"files:{tmp_path},own_tools:double,{last}")
    assert (len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0) == before


# --- commas


@pytest.mark.parametrize(
    ("text", "specs"),
    [
        ("sql:shop.db,files:./reports", ["sql:shop.db", "files:./reports"]),
        (" python , calculator ,", ["python", "calculator"]),
        ("sql:postgresql://h/db?options=a,b,python", ["sql:postgresql://h/db?options=a,b", "python"]),
        ("mcp:npx server --allow a,b --deny c,files:.", ["mcp:npx server --allow a,b --deny c", "files:."]),
        ("mcp:https://host/x?y=1,2,pythonic", ["mcp:https://host/x?y=1,2,pythonic"]),
        ("files:./a,fyles:./b", ["files:./a", "fyles:./b"]),
        ("", []),
    ],
)
def test_a_comma_ends_a_spec_but_in_an_address_or_a_command(text: str, specs: list[str]) -> None:
    assert split([text]) == specs


@given(st.lists(st.sampled_from([f"{name}:{at}" for name in TOOLSETS for at in ("x", "y", "a://b,c")]), unique=True))
def test_specs_that_are_joined_come_apart_again(specs: list[str]) -> None:
    assert split([",".join(specs)]) == specs
    assert split(specs) == specs
