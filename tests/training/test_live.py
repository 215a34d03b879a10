"""What is shown while a run goes: lines where nobody watches, a picture on a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from training_kit import attempt

from thinksmith.cli.live import Screen, sparkline
from thinksmith.evaluate.summary import summarise

BLOCKS = "▁▂▃▄▅▆▇█"
METRICS = {
    "reward": 0.5,
    "accuracy": 0.25,
    "thinking_tokens": 61.4,
    "check_or_backtrack_share": 0.125,
    "rollout_tokens_per_s": 12345.6,
    "train_tokens_per_s": 6789.0,
}


def show(console: Console) -> None:
    attempts = [attempt("1"), attempt("2", status="wrong", score=0.0), attempt(status="truncated", score=0.0)]
    with Screen(console) as screen:
        screen.stage("before", len(attempts))
        for each in attempts:
            screen.attempt(each)
        screen.stage("training", 2)
        for step in (1, 2):
            screen.step(METRICS | {"step": step})
        screen.stage("after", 1)
        screen.attempt(attempt(status="no_answer", score=0.0))
        screen.summary(summarise(attempts))


def written(**console: object) -> str:
    file = StringIO()
    show(Console(file=file, **console))  # type: ignore[arg-type]
    return file.getvalue()


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")


@pytest.mark.usefixtures("_plain")
def test_without_a_terminal_there_are_lines() -> None:
    lines = written(width=1000, soft_wrap=True).splitlines()
    assert not any("\x1b" in line for line in lines)
    assert lines[1].startswith("1  Measuring the model")
    # The last of each stage is always told, however fast it was.
    assert "   3/3  accuracy so far 33.3%  truncated 1  no answer 0" in lines
    step = next(line for line in lines if line.startswith("   step 2/2"))
    for told in ("reward 0.50", "accuracy 25%", "thinking tokens 61", "check or backtrack 12%", "12,346", "6,789"):
        assert told in step
    assert "   1/1  accuracy so far 0.0%  truncated 0  no answer 1" in lines
    assert lines[-1].startswith("   accuracy ")


@pytest.mark.usefixtures("_plain")
def test_on_a_terminal_it_draws() -> None:
    drawn = written(force_terminal=True, width=100)
    assert "\x1b[" in drawn
    for told in ("━" * 40, "2 of 2", "rollout tokens/s", "12,346", BLOCKS[4]):
        assert told in drawn


@pytest.mark.usefixtures("_plain")
def test_an_exception_leaves_the_terminal_as_it_was() -> None:
    def interrupted(console: Console) -> None:
        with Screen(console) as screen:
            screen.stage("training", 5)
            raise KeyboardInterrupt

    file = StringIO()
    with pytest.raises(KeyboardInterrupt):
        interrupted(Console(file=file, force_terminal=True, width=100))
    assert file.getvalue().rfind("\x1b[?25h") > file.getvalue().rfind("\x1b[?25l")  # the cursor is back


values = st.lists(st.floats(0, 1e6), max_size=60)


@given(values, st.one_of(st.none(), st.floats(0.1, 1e6)), st.integers(1, 50))
def test_a_sparkline_has_a_block_for_each_of_the_last_values(seen: list[float], top: float | None, width: int) -> None:
    line = sparkline(seen, top, width)
    assert len(line) == min(len(seen), width)
    assert set(line) <= set(BLOCKS)
    assert line == sparkline(seen[-width:], top, width)


@given(values, st.one_of(st.none(), st.floats(0.1, 1e6)))
def test_a_higher_value_never_has_a_lower_block(seen: list[float], top: float | None) -> None:
    heights = [BLOCKS.index(block) for block in sparkline(seen, top, 60)]
    ranked = [height for _, height in sorted(zip(seen, heights, strict=True))]
    assert ranked == sorted(ranked)


def test_the_ends_of_the_range() -> None:
    assert sparkline([0.0, 1.0], 1.0) == "▁█"
    assert sparkline([0.0, 0.5], 1.0)[1] in "▄▅"
    assert sparkline([5.0, 7.0, 6.0], None)[:2] == "▁█"
    assert sparkline([3.0, 3.0], None) == "▁▁"
    assert sparkline([2.0], 1.0) == "█"  # rewards may sum to more than one
    assert sparkline([], 1.0) == ""
