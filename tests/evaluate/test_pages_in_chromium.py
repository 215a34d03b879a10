"""The pages in a real browser: nothing is refused by their own security policy, nothing is fetched, tables sort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from thinksmith.evaluate.comparing import compare_report
from thinksmith.evaluate.comparing.compare import compare
from thinksmith.evaluate.report import render_report, stored_report
from thinksmith.evaluate.scaling import scale_report
from thinksmith.evaluate.scaling.policies import parse_policies
from thinksmith.evaluate.scaling.pool import pool_of_file
from thinksmith.evaluate.scaling.scale import work_out
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.store import Store

TOKENS = [3, 25, 100, 9, 1000, 40]  # in another order as numbers than as texts


def stored(store: Store, name: str, right: int) -> str:
    run = store.start_run("eval", "numbers", name, name, {"samples": 1, "sampling": {"temperature": 1.0}})
    store.add(
        run,
        [
            Attempt(
                Problem(
                    f"numbers/test/{i}", f"What is {i} + 1?", str(i + 1), meta={"family": "numbers", "level": i % 2}
                ),
                Trace("So it is.\nWait, let me check.", str(i + 1), thinking_tokens=count, answer_tokens=1, model=name),
                Verdict("correct" if i < right else "wrong", float(i < right), str(i + 1)),
            )
            for i, count in enumerate(TOKENS)
        ],
    )
    store.finish_run(run, {})
    return run


@pytest.fixture
def pages(tmp_path: Path) -> dict[str, Path]:
    found = {name: tmp_path / f"{name}.html" for name in ("report", "compare", "scale")}
    with Store.open(tmp_path / "store.db") as store:
        one, two = stored(store, "one", 2), stored(store, "two", 5)
        render_report(found["report"], stored_report(store, [one]))
        compared = compare(store, [one, two])
        found["compare"].write_text(compare_report.renderer(found["compare"])(compared, store, 3), encoding="utf-8")
    said = tmp_path / "said.jsonl"
    said.write_text('{"problem": "1 + 1?", "answer": "2", "responses": ["2", "3", "2", "2"]}\n', encoding="utf-8")
    made = work_out([pool_of_file(str(said))], parse_policies("single,vote,pass"), title="said")
    found["scale"].write_text(scale_report.renderer(found["scale"])(made), encoding="utf-8")
    return found


def opened(browser: Any, path: Path, scheme: str = "light") -> tuple[Any, list[str]]:
    """The page, and what went wrong in it."""
    page = browser.new_page(color_scheme=scheme)
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
    page.goto(path.as_uri())
    return page, wrong


def column(page: Any, number: int) -> list[str]:
    cells = page.locator(f"table.sortable >> nth=0 >> tbody tr td:nth-child({number + 1})")
    return [cell.get_attribute("data-v") or "" for cell in cells.all()]


@pytest.mark.parametrize("name", ["report", "compare", "scale"])
def test_a_page_asks_for_nothing_and_has_both_schemes(browser: Any, pages: dict[str, Path], name: str) -> None:
    colours = []
    for scheme in ("light", "dark"):
        page, wrong = opened(browser, pages[name], scheme)
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        for link in page.locator("a[href^='#']").all()[:20]:
            assert page.locator(f"[id='{str(link.get_attribute('href'))[1:]}']").count() == 1
        assert wrong == []
        page.close()
    assert colours == ["rgb(251, 250, 248)", "rgb(18, 20, 24)"]


@pytest.mark.parametrize("name", ["report", "scale"])
@pytest.mark.parametrize("how", ["mouse", "Enter", " "])
def test_a_column_is_sorted_by_its_numbers(browser: Any, pages: dict[str, Path], name: str, how: str) -> None:
    page, wrong = opened(browser, pages[name])
    heads = page.locator("table.sortable >> nth=0 >> thead th")
    names = [head.inner_text() for head in heads.all()]
    place = next(at for at, head in enumerate(names) if "tokens" in head.lower())
    before = column(page, place)
    for wanted, backwards in (("ascending", False), ("descending", True)):
        if how == "mouse":
            heads.nth(place).click()
        else:
            heads.nth(place).press(how)
        assert heads.nth(place).get_attribute("aria-sort") == wanted
        assert column(page, place) == sorted(before, key=float, reverse=backwards)
    assert sum(head.get_attribute("aria-sort") is not None for head in heads.all()) == 1
    assert wrong == []
    page.close()
