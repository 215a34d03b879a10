"""The page of an agent's run, in a real browser: nothing that was written runs or is fetched, and all is there."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from thinksmith.agent.contract import Result
from thinksmith.agent.loop import Manner
from thinksmith.agent.outcome import Trajectory
from thinksmith.agent.running import Order, Run, begin, carry_out
from thinksmith.errors import UserError
from thinksmith.evaluate.agent_page import check_page, step_views, to_html, trajectory_of, write_page
from thinksmith.store.store import Store

sys.path.append(str(Path(__file__).parents[1] / "agent"))
from agent_scripts import Scripted, calls, no, tool, yes

HOSTILE = (
    "<script>window.caught = 1</script><img src=x onerror='window.caught = 2'></pre></details>"
    "<a href='javascript:window.caught=3'>a</a><iframe src='http://198.51.100.1/'></iframe>"
    "<style>body{display:none}</style>{{ 7 * 7 }}\u202e"
)
PLAN = f"1. Look {HOSTILE}\n2. Write"
REPLIES = (
    f"<think>\nFirst 3 + 4 = 7.\nThen 7 * 2 = 15.\nWait, let me check: 7 * 2 = 14. {HOSTILE}\n</think>\n\n{PLAN}",
    calls("look", "hm", q=HOSTILE),
    "[x] Look\n[ ] Write\n" + calls("write", text=HOSTILE),
    calls("nope"),
    f"<think>\n{HOSTILE}\n</think>\n\n[x] Look\n[x] Write",
    f"<think>\nso\n</think>\n\nIt is {HOSTILE}",
)


@contextmanager
def made(folder: Path, *replies: str, approve: Any = yes, **order: Any) -> Iterator[tuple[Run, Trajectory]]:
    """A run that is over, and what it came to."""
    engine = Scripted(*replies)
    tools = [
        tool("look", lambda **_: HOSTILE, group="files"),
        tool("write", lambda **_: Result("done"), "write", group="files"),
    ]
    with Store.open(folder / "store.db") as store:
        asked = Order(f"Do it {HOSTILE}", "scripted", ("files:x",), manner=Manner(), **order)
        run = begin(store, asked, engine, tools)
        with run.journal:
            with ThreadPoolExecutor(1) as apart:  # the browser has a loop in this thread
                trajectory = apart.submit(asyncio.run, carry_out(run, store, engine, tools, approve)).result()
            yield run, trajectory


def test_nothing_that_was_written_runs_or_is_fetched(tmp_path: Path, browser: Any) -> None:
    with made(tmp_path, *REPLIES) as (run, trajectory):
        write_page(tmp_path / "a" / "page.html", run, trajectory)
    asked: list[str] = []
    page = browser.new_page(java_script_enabled=True)
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "a" / "page.html").as_uri())
    page.wait_for_timeout(200)
    assert page.evaluate("window.caught") is None
    assert page.evaluate("document.querySelectorAll('script, img, iframe, main style, main a').length") == 0
    assert len(asked) == 1
    assert asked[0].startswith("file:")
    text = page.evaluate("document.body.textContent")
    assert text.count(HOSTILE.replace("\u202e", "")) >= 7  # task, plan, thinking, arguments, result, answer, …
    assert "49" not in page.inner_text(".final")
    page.close()


def test_every_step_opens_with_the_keyboard_and_is_marked(tmp_path: Path, browser: Any) -> None:
    with made(tmp_path, *REPLIES) as (run, trajectory):
        write_page(tmp_path / "page.html", run, trajectory)
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("article.step").count() == 6
    thinking = page.locator("#step-0 details pre.thinking")
    assert not thinking.is_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert thinking.is_visible()
    assert "7 * 2 = 15" in page.inner_text("#step-0 .false")
    assert page.locator("#step-0 .check, #step-0 .backtrack").count() >= 1
    assert page.locator(".chart svg").count() == 3
    assert page.locator("#step-2 .plan li.done").count() == 1
    assert "a call of nope did not work" in page.inner_text("#step-4 .why")
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [380, 1100])
def test_it_can_be_read_light_and_dark_narrow_and_wide(tmp_path: Path, browser: Any, scheme: str, width: int) -> None:
    with made(tmp_path, *REPLIES) as (run, trajectory):
        write_page(tmp_path / "page.html", run, trajectory)
    page = browser.new_page(color_scheme=scheme, viewport={"width": width, "height": 800})
    page.goto((tmp_path / "page.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("(s => [s.color, s.backgroundColor])(getComputedStyle(document.body))")
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert abs(brightness[0] - brightness[1]) > 400
    page.close()


def test_what_was_decided_stands_beside_each_call(tmp_path: Path) -> None:
    with made(tmp_path, *REPLIES, yes=("files",)) as (run, trajectory):
        decided = [call.decided for step in step_views(run, trajectory) for call in step.calls]
        assert decided == ["reads: runs unasked", "allowed by --yes", "not made, so nobody was asked"]
        once = [step_views(replace(run, order=replace(run.order, yes=())), trajectory)[2].calls[0].decided]
        run.journal.allow("write")
        once.append(step_views(replace(run, order=replace(run.order, yes=())), trajectory)[2].calls[0].decided)
    assert once == ["allowed by the owner, once", "allowed by the owner, always for this tool"]
    with made(tmp_path / "no", *REPLIES, approve=no) as (run, trajectory):
        assert step_views(run, trajectory)[2].calls[0].decided == "refused by the owner"
        assert "It changed nothing" in to_html(run, trajectory)


def test_plans_stand_where_they_were_new_or_revised(tmp_path: Path) -> None:
    with made(tmp_path, *REPLIES) as (run, trajectory):
        assert [bool(step.plan) for step in step_views(run, trajectory)] == [True, False, True, False, True, False]
        assert all(line.done for line in trajectory.plan)


def test_the_journal_alone_gives_the_same_page(tmp_path: Path) -> None:
    """Of a run that was over before; only the clock may differ."""
    with made(tmp_path, *REPLIES) as (run, trajectory):
        from thinksmith.agent.journal import Journal

        run.journal.close()
        with Journal.open(run.journal.folder) as journal:
            again = replace(run, journal=journal)
            found = trajectory_of(again)
            assert found.steps[-1].trace == trajectory.steps[-1].trace
            assert (found.answer, found.why, found.plan) == (trajectory.answer, trajectory.why, trajectory.plan)
            assert (found.answered, found.tokens, found.effects) == (True, trajectory.tokens, trajectory.effects)
            assert to_html(again, replace(found, seconds=0.0)).count("article") == 12


def test_where_no_page_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in \.html"):
        check_page(tmp_path / "page.pdf")
    with pytest.raises(UserError, match="is a folder"):
        check_page(tmp_path)
