"""What is shown while a run goes: lines where nobody watches, a picture on a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from training_kit import attempt

from thinksmith.cli.live import DPO, SFT, Look, Screen, duration, phase_bar, phase_shares, sparkline
from thinksmith.evaluate.summary import summarise
from thinksmith.training.alarms import Alarm

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


WARNING = Alarm("length", "completions grow without an end; " + "set a limit " * 12)
STOPPED = Alarm("not_finite", "the loss is nan", stop=True)
HELD_OUT = {"held_out_accuracy": 0.61, "held_out_low": 0.512, "held_out_high": 0.701, "held_out_n": 100.0}


def trained(rows: list[dict[str, float]], alarms: list[Alarm] | None = None, total: int = 8, **console: object) -> str:
    """What is written while a run of `total` steps has these rows, and these alarms after the last of them."""
    file = StringIO()
    with Screen(Console(file=file, **console)) as screen:  # type: ignore[arg-type]
        screen.stage("training", total)
        for step, row in enumerate(rows, 1):
            screen.step(row | {"step": step})
        for alarm in alarms or ():
            screen.alarm(alarm)
    return file.getvalue()


PLAIN = {"width": 1000, "soft_wrap": True}
LIVE = {"force_terminal": True, "width": 100, "color_system": None}


@pytest.mark.usefixtures("_plain")
def test_the_line_tells_what_the_row_has_and_no_more() -> None:
    more = METRICS | {"entropy": 0.2, "kl": 0.1, "truncated_share": 0.3, "memory_gb": 1.0, "seconds": 3.0}
    for row in (METRICS, more):
        assert trained([row], total=1, **PLAIN).splitlines()[2:] == [
            "   step 1/1  reward 0.50  accuracy 25%  thinking tokens 61  check or backtrack 12%  "
            "rollout tokens/s 12,346  training tokens/s 6,789"
        ]
    assert trained([{"reward": 0.5, "train_tokens_per_s": 10.0}], total=1, **PLAIN).splitlines()[2:] == [
        "   step 1/1  reward 0.50  training tokens/s 10"
    ]


@pytest.mark.usefixtures("_plain")
def test_alarms_and_measurements_are_lines_of_their_own() -> None:
    lines = trained([METRICS, METRICS | HELD_OUT], [WARNING, STOPPED], **PLAIN).splitlines()
    assert "   held-out accuracy 61.0% [51.2%, 70.1%] (95 %, 100 problems) after step 2" in lines
    assert lines[-2:] == [f"   warning: {WARNING.text}", "   stopped: the loss is nan"]


@pytest.mark.usefixtures("_plain")
def test_the_panel_tells_the_interval_the_phases_the_memory_and_the_alarms() -> None:
    phases = {"rollout_seconds": 1.0, "train_seconds": 2.0, "evaluate_seconds": 0.5, "seconds": 4.0, "memory_gb": 1.26}
    drawn = trained([METRICS | phases, METRICS | phases | HELD_OUT | {"entropy": 0.123}], [WARNING, STOPPED], **LIVE)
    for told in ("[51.2%, 70.1%] (95 %, 100 problems)", "memory 1.3 GB", "left", "held-out accuracy", "0.123"):
        assert told in drawn
    for told in ("█ rollout 25%", "▒ train 50%", "▚ evaluate 12%", "· other 12%", "█" * 10 + "▒" * 20 + "▚" * 5):
        assert told in drawn
    assert "verify" not in drawn
    assert "warning: completions grow" in drawn
    assert "stopped: the loss is nan" in drawn
    assert "KL" not in drawn  # a number that the run does not have takes no room


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize(
    ("look", "more"), [(SFT, "held-out tokens"), (DPO, "reward of wrong ones")], ids=["sft", "dpo"]
)
def test_each_trainer_has_its_own_numbers(look: Look, more: str) -> None:
    row = {"epoch": 0.5, "loss": 0.6931, "held_out_loss": 0.7, "held_out_token_accuracy": 0.5, "margin": 0.25,
           "reward_wrong": -0.125, "train_tokens_per_s": 4321.0, "accuracy": 0.5}  # fmt: skip
    for console, wanted in ((PLAIN, "   held-out loss 0.7000 after step 1"), (LIVE, more)):
        file = StringIO()
        with Screen(Console(file=file, **console), look) as screen:  # type: ignore[arg-type]
            screen.note("a note")
            screen.training(1)
            screen.step(row | {"step": 1})
        for told in ("a note", look.titles["training"], "0.6931", "4,321", wanted):
            assert told in file.getvalue()
        assert "50%" not in file.getvalue()  # an accuracy of rollouts is none of theirs


@pytest.mark.usefixtures("_plain")
def test_only_the_last_alarms_take_room() -> None:
    shown = trained([METRICS], [Alarm("x", f"number {i}") for i in range(9)], **LIVE)
    picture = shown[shown.rindex("step 1 of 8") :]
    assert [f"number {i}" in picture for i in range(9)] == [False] * 5 + [True] * 4


number = st.one_of(st.floats(), st.floats(0, 1))
measured = ("reward", "accuracy", "thinking_tokens", "held_out_accuracy", "held_out_low", "entropy", "grad_norm")
timed = ("seconds", "rollout_seconds", "train_seconds", "memory_gb", "rollout_tokens_per_s")


@pytest.mark.usefixtures("_plain")
@pytest.mark.parametrize("console", [PLAIN, LIVE])
@example(rows=[{"reward": 1e308, "grad_norm": -1e308}, {"grad_norm": 1e308, "accuracy": float("nan")}])
@example(rows=[{"rollout_seconds": -1e300, "train_seconds": 1e300, "seconds": 1.0}])
@given(rows=st.lists(st.dictionaries(st.sampled_from(measured + timed), number), max_size=4))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_row_crashes_it(console: dict[str, object], rows: list[dict[str, float]]) -> None:
    assert "Training" in trained(rows, [WARNING], **console)


@given(st.lists(st.floats(0.001, 1e4), min_size=5, max_size=5), st.integers(1, 4))
def test_the_shares_of_the_phases_add_up(spent: list[float], steps: int) -> None:
    names = ("rollout", "verify", "train", "save", "evaluate")
    row = {f"{name}_seconds": seconds for name, seconds in zip(names, spent, strict=True)}
    shares = phase_shares([row | {"seconds": sum(spent) * 1.25}] * steps)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["other"] == pytest.approx(0.2)
    assert [shares[name] for name in names] == pytest.approx([each / sum(spent) * 0.8 for each in spent])
    bar = phase_bar(shares).plain.splitlines()[0]
    assert len(bar) == 43  # three columns in, forty wide
    assert phase_shares([{"reward": 1.0}] * steps) == {}


@pytest.mark.parametrize(
    ("seconds", "told"), [(0, "0 s"), (89, "89 s"), (91, "2 min"), (3600, "60 min"), (5400, "1 h 30 min")]
)
def test_a_duration_is_told_roughly(seconds: float, told: str) -> None:
    assert duration(seconds) == told


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
