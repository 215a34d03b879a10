"""What is shown: the exact figures, on every road the same; pages that stand alone."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.fit.answers.lists import family_table, list_devices, list_models
from thinksmith.fit.answers.page import render
from thinksmith.fit.answers.serving import serving
from thinksmith.fit.answers.sheet import Sheet, Table, duration, markdown, rate, size
from thinksmith.fit.answers.training import asked_training, training
from thinksmith.fit.shapes.catalogue import catalogue, find_shape
from thinksmith.fit.speed.devices import devices, find_device

SPARK = find_device("dgx-spark")


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (999_400, "999 kB"), (999_600, "1.00 MB"), (141.107e9, "141 GB"),
     (15.23e9, "15.2 GB"), (3.554e9, "3.55 GB"), (6.5e12, "6.50 TB"), (9.999e9, "10.0 GB"), (99.96e9, "100 GB")],
)  # fmt: skip
def test_bytes_in_three_digits(number: float, said: str) -> None:
    assert size(number) == said


@given(st.floats(1, 1e15))
def test_bytes_are_said_within_half_a_percent(number: float) -> None:
    figure, unit = size(number).replace(",", "").split()
    value = float(figure) * {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert value == pytest.approx(number, rel=0.005 if number > 100 else 0.5)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.0213, "0.021 s"), (9.5, "9.5 s"), (12.3, "12 s"), (245, "4 min 05 s"), (3599.6, "1 h 00 min"),
     (12_000, "3 h 20 min"), (86400 * 12, "12 days")],
)  # fmt: skip
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_rates() -> None:
    assert [rate(number) for number in (0.123, 3.7, 84.2, 1234.5)] == ["0.12", "3.70", "84.2", "1,234"]


def test_serving_says_the_exact_figures_as_data() -> None:
    found = serving(find_shape("deepseek-r1:70b"), SPARK)
    data = json.loads(json.dumps(found.data, allow_nan=False))
    assert data["model"]["params"] == 70_553_706_496
    assert data["model"]["cache_bytes_per_token"] == 327_680
    assert data["plan"] | {"verdict": "no", "context": 131072, "weights": 2 * 70_553_706_496} == data["plan"]
    items = sum(item["bytes"] for item in data["memory"]["items"] if not item["phase"])
    assert data["memory"]["total"] == items == data["plan"]["total"]
    assert data["changes"][0]["total"] <= data["device"]["usable"]
    speeds = data["speed"]
    assert [row["batch"] for row in speeds] == sorted(row["batch"] for row in speeds)
    assert all(row["tokens_per_second"] <= row["ceiling"] for row in speeds)
    assert all(row["source"] for row in speeds)


def test_no_speed_is_told_of_what_cannot_run() -> None:
    data = serving(find_shape("deepseek-r1:671b"), find_device("rtx-3060-12gb")).data
    assert (data["speed"], data["answers"], data["best"], data["changes"]) == ([], [], None, [])


def test_longer_thinking_takes_longer_and_a_collection_has_a_price() -> None:
    from dataclasses import replace

    priced = replace(SPARK, dollars_per_hour=0.5)
    data = serving(find_shape("deepseek-r1:7b"), priced, problems=100, samples=4, thinking=2000).data
    work = data["collection"]
    assert work["tokens"] == 100 * 4 * (2000 + 512)
    assert work["dollars"] == pytest.approx(work["seconds"] / 3600 * 0.5)
    times = [row["seconds"] for row in serving(find_shape("deepseek-r1:7b"), SPARK).data["answers"]]
    assert len(times) == 3
    assert times == sorted(times)


def test_training_says_where_the_memory_goes() -> None:
    asked = asked_training(SPARK, method="grpo", tuning="lora", length=4096, prompt_tokens=256, prompts=4)
    found = training(find_shape("deepseek-r1:7b"), SPARK, asked, steps=100)
    data = json.loads(json.dumps(found.data, allow_nan=False))
    assert data["memory"]["total"] == max(data["memory"]["phases"].values())
    assert data["step"]["run_seconds"] == pytest.approx(100 * data["step"]["seconds"])
    assert data["step"]["seconds"] >= data["step"]["least"]
    assert set(data["memory"]["phases"]) == {"rollout", "forward and backward", "optimiser step"}


def test_a_format_of_frozen_weights_is_not_taken_for_all_weights() -> None:
    with pytest.raises(UserError, match="--tuning lora"):
        asked_training(SPARK, method="sft", tuning="full", base="nf4")


def test_lists_hold_everything_that_is_built_in() -> None:
    assert len(list_devices().data["devices"]) == len(devices())
    assert [row["name"] for row in list_models().data["models"]] == list(catalogue())


class _Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.outside: list[str] = []
        self._in = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in = tag == "td"
        if self._in:
            self.cells.append("")
        self.outside += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        if self._in:
            self.cells[-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._in = False


@pytest.mark.parametrize("answer", [family_table(SPARK), serving(find_shape("qwq"), find_device("rtx-4090"))])
def test_a_page_and_markdown_show_the_same_cells(answer) -> None:
    page = render(answer.sheet)
    read = _Cells()
    read.feed(page)
    cells = [cell for table in answer.sheet.tables for row in table.rows for cell in row]
    assert read.cells == cells
    assert [url for url in read.outside if not url.startswith("#")] == []
    assert "<script" not in page
    assert page.count("<svg") == 1
    written = markdown(answer.sheet)
    for table in answer.sheet.tables:
        for row in table.rows:
            assert "| " + " | ".join(row) + " |" in written


def test_names_cannot_break_out_of_a_page_or_a_table() -> None:
    hostile = "<script>alert(1)</script>|\n"
    sheet = Sheet(hostile, hostile, (hostile,), (Table(hostile, ("a", ">b"), ((hostile, "1"),), (hostile,)),))
    assert "<script>" not in render(sheet)
    (row,) = [line for line in markdown(sheet).splitlines() if line.startswith("| <script>")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 3
