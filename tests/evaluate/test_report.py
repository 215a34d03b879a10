"""The page: self-contained, whatever a model wrote is text, marks stand where the audit says."""

import base64
import html
import json
import re
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinksmith.errors import UserError
from thinksmith.evaluate import lists
from thinksmith.evaluate.charts import draw
from thinksmith.evaluate.markdown import to_json, to_markdown
from thinksmith.evaluate.report import (
    EXAMPLES,
    check_report,
    evaluation_report,
    read_metrics,
    render_report,
    stored_report,
    to_html,
    training_curves,
    training_report,
)
from thinksmith.evaluate.statistics.stats import paired
from thinksmith.evaluate.summary import scores_by_problem, summarise
from thinksmith.evaluate.trace_view import Span, cut, pair_of
from thinksmith.records import Attempt, Problem, Trace, Verdict
from thinksmith.store.store import Store

EVIL = "<script>alert('t')</script><img src=x onerror=alert(1)></pre>\"'{{ 7*7 }}"
THINKING = f"27 * 4 = 118.\nWait, that is not right.\n27 * 4 = 108.\nLet me check: 108 / 4 = 27.\n{EVIL}"


def attempts(right_below, thinking=THINKING, family="a"):
    return [
        Attempt(
            Problem(f"{family}{i % 2}/{i}", f"What is {i} + 1? {EVIL}", str(i + 1)),
            Trace(thinking, f"The answer is {EVIL}", thinking_tokens=10 + i, answer_tokens=3),
            Verdict("correct" if i < right_below else "truncated", float(i < right_below), EVIL, EVIL),
        )
        for i in range(40)
    ]


class Tags(HTMLParser):
    """Every tag with its attributes; fails on a tag that is closed without having been opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.open = [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    before, after = attempts(10), attempts(31)
    rows = [{"step": i, "accuracy": i / 10, "loss": 1.0} for i in range(1, 8)] + [{"step": 8, "accuracy": float("nan")}]
    report = training_report(
        rows,
        title=f"GRPO {EVIL}",
        model="tiny-base",
        before=summarise(before),
        after=summarise(after),
        difference=paired(scores_by_problem(before), scores_by_problem(after)),
        recipe={"seed": 7, "optimiser": {"lr": 5e-5}, "families": ["a", EVIL]},
        versions={"torch": "2.13"},
        examples=[(before[20], after[20])],
    )
    path = tmp_path_factory.mktemp("run") / "deep" / "report.html"
    render_report(path, report)
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8")


def test_whatever_a_model_or_user_wrote_is_text(page):
    parsed = Tags(page)
    assert parsed.open == []
    names = {tag for tag, _ in parsed.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "embed", "form"}
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert html.unescape(page).count(EVIL) > 8  # title twice, recipe, problem, both traces, answers and reasons
    assert "{{ 7*7 }}" in page
    assert "{{ 49 }}" not in page


def test_the_page_needs_nothing_from_outside(page):
    assert "url(" not in page
    assert "@import" not in page
    for _, attributes in Tags(page).tags:
        assert not {"src", "href", "xlink:href", "srcset", "action"} & set(attributes)
    assert "default-src 'none'" in page
    assert "prefers-color-scheme: dark" in page


def test_the_page_tells_the_difference_its_interval_and_what_stands_beside_it(page):
    bare = re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", page, flags=re.S))
    text = re.sub(r"\s+", " ", html.unescape(bare))
    assert "+52.5 points" in text
    assert re.search(r"95 % interval \+3\d\.\d to \+6\d\.\d", text)
    assert "21 problems gained, 0 lost, 19 unchanged (p < 0.001)" in text
    assert "truncated 30 75.0% 9 22.5%" in text
    assert "no answer 0 0.0% 0 0.0%" in text
    assert "optimiser.lr 5e-05" in text
    assert text.count("n = 20") == 4  # two families, before and after


def test_only_what_was_logged_has_a_chart_and_it_follows_the_theme(page):
    assert page.count("<svg") == 1
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert "Accuracy of the rollouts" in page
    assert "Gradient norm" not in page
    assert "NaN" not in svg
    assert "var(--two)" in svg
    assert set(re.findall(r"#[0-9a-f]{6}", svg)) <= {"#000000"}


ROWS = [
    {
        "step": step,
        "reward": step / 10,
        "reward/correctness": step / 10,
        "rollout_seconds": 1.0,
        "train_seconds": 3.0,
        "clip_low_share": 0.0,
        "clip_high_share": 0.0,
        "kl": 0.001 * step,
        **({"save_seconds": 4.0} if step == 3 else {}),
        **({"held_out_accuracy": 0.5, "held_out_low": 0.4, "held_out_high": 0.6} if step % 2 == 0 else {}),
    }
    for step in range(1, 9)
]


def drawn(rows):
    return {chart.title: chart for curves in training_curves(rows) if (chart := draw(rows, curves))}


def test_charts_are_drawn_for_what_a_run_has():
    charts = drawn(ROWS)
    assert list(charts) == ["Reward", "Held-out accuracy", "KL divergence", "Time by phase"]
    assert charts["Time by phase"].names == ("rollout", "training", "saving")
    clipped = [row | {"clip_high_share": 0.01} for row in ROWS]
    assert drawn(clipped)["Clipped tokens"].names == ("at the lower bound", "at the upper")
    assert drawn([]) == {}
    assert drawn([{"step": 1, "entropy": float("inf"), "reward": None, "kl": "x"}, {"reward": 1.0}]) == {}


def test_rewards_are_drawn_apart_where_there_are_several():
    rows = [row | {"reward/think_format": 1.0} for row in ROWS]
    assert drawn(rows)["Rewards by name"].names == ("correctness", "think format")
    many = [row | {f"reward/r{i}": 1.0 for i in range(9)} for row in ROWS]
    assert len(drawn(many)["Rewards by name"].names) == 5


def test_each_line_has_the_colour_that_its_name_has_in_the_legend():
    charts = drawn([row | {"drift": 0.1} for row in ROWS])
    both = str(charts["KL divergence"].svg)
    assert "var(--two)" in both
    assert "var(--three)" in both
    only_second = drawn([{"step": step, "drift": 0.1 * step} for step in range(1, 5)])["KL divergence"]
    assert only_second.names == ("from the sampled policy",)
    assert "var(--three)" not in str(only_second.svg)
    assert set(re.findall(r"#[0-9a-f]{6}", both)) <= {"#000000"}


def test_the_interval_of_held_out_accuracy_is_a_band_around_it():
    svg = drawn(ROWS)["Held-out accuracy"].svg
    (band,) = re.findall(r'aria-roledescription="area mark"[^>]* d="([^"]+)"', str(svg))
    low_high = [float(y) for y in re.findall(r"[ML][-\d.]+,([-\d.]+)", band)]
    (line,) = re.findall(r'aria-roledescription="line mark"[^>]* d="([^"]+)"', str(svg))
    middle = [float(y) for y in re.findall(r"[ML][-\d.]+,([-\d.]+)", line)]
    assert len(middle) == 4
    assert min(low_high) < min(middle) == max(middle) < max(low_high)
    alone = str(drawn(ROWS[:2])["Held-out accuracy"].svg)  # one measurement: a bar
    assert 'aria-roledescription="rule mark"' in alone


def test_phases_are_stacked_to_one_hundred_percent_in_the_order_of_the_legend():
    svg = str(drawn([{key: row[key] for key in row if key != "save_seconds"} for row in ROWS])["Time by phase"].svg)
    areas = re.findall(r'aria-roledescription="area mark"[^>]* d="([^"]+)"[^>]*fill="var\(--(\w+)\)"', svg)
    spans = {}
    for path, colour in areas:
        ys = [float(y) for y in re.findall(r"[ML][-\d.]+,([-\d.]+)", path)]
        spans[colour] = (min(ys), max(ys))
    assert spans == {"two": pytest.approx((127.5, 170)), "three": pytest.approx((0, 127.5))}  # 1 s of 4, then 3


def test_marks_stand_where_the_audit_says(page):
    marked = re.findall(r'<span class="((?:check|backtrack|false)[a-z ]*)">([^<]*)</span>', page)
    on_traces = [(kind, html.unescape(text)) for kind, text in marked][3:]  # after the key
    assert ("false", "27 * 4 = 118") in on_traces
    assert any(kind == "backtrack" and text.startswith("Wait") for kind, text in on_traces)
    assert any(kind == "check" and "108 / 4 = 27" in text for kind, text in on_traces)
    assert sum("false" in kind for kind, _ in on_traces) == 2


def test_a_page_of_one_evaluation(tmp_path):
    one_family = [attempt for attempt in attempts(40, "half a pair: \ud83d") if attempt.problem.id.startswith("a0")]
    path = tmp_path / "report.html"
    path.write_text("older")
    report = evaluation_report(
        summarise(one_family), title="sums", model="tiny", config={"samples": 1}, examples=one_family[:1]
    )
    render_report(path, report)
    page = path.read_text(encoding="utf-8")
    assert "100.0%" in page
    assert "95 % interval 83.9% to 100.0%" in page
    assert "By family" not in page
    assert "<svg" not in page
    assert Tags(page).open == []


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """A stored evaluation whose every text is hostile, and its page."""
    with Store.open(tmp_path_factory.mktemp("store") / "s.db") as store:
        run = store.start_run("eval", f"sums {EVIL}", f"model {EVIL}", config={"sampling": {"seed": 0}, "name": EVIL})
        store.add(run, [replace(one, sample=n) for one in attempts(31) for n in range(3)])
        yield store, run, stored_report(store, [run])


def test_whatever_stands_in_the_page_of_an_evaluation_is_text(evaluated, tmp_path):
    render_report(tmp_path / "page.html", evaluated[2])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    parsed = Tags(page)
    assert parsed.open == []
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert not {tag for tag, _ in parsed.tags} & {"img", "iframe", "link", "object", "embed", "form"}
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert not any("javascript" in str(value) for _, attributes in parsed.tags for value in attributes.values())
    assert html.unescape(page).count("<script>alert") > 100


def test_the_script_of_a_page_is_allowed_by_its_hash_alone(evaluated):
    page = to_html(evaluated[2])
    (script,) = re.findall(r"<script>(.*?)</script>", page, flags=re.S)
    digest = base64.b64encode(sha256(script.encode()).digest()).decode()
    policy = re.search(r'Security-Policy" content="([^"]*)"', page)[1]
    assert f"script-src 'sha256-{digest}'" in html.unescape(policy)
    assert "script-src" not in to_html(replace(evaluated[2], lists=()))


def test_every_link_of_a_page_leads_to_an_anchor_of_it(evaluated):
    page = to_html(evaluated[2])
    tags = Tags(page).tags
    anchors = [attributes["id"] for _, attributes in tags if "id" in attributes]
    links = [attributes["href"] for tag, attributes in tags if tag == "a"]
    assert len(anchors) == len(set(anchors))
    assert {link.removeprefix("#") for link in links} <= set(anchors)
    assert {"#status-correct", "#status-truncated"} <= set(links)
    assert sum(link.startswith("#attempt-") for link in links) == 120  # each mark of a problem
    assert sum(link.startswith("#trace-") for link in links) == EXAMPLES


def test_a_long_list_is_cut_and_that_is_said(evaluated, monkeypatch):
    store, run, _ = evaluated
    monkeypatch.setattr(lists, "MOST_ATTEMPTS", 20)
    monkeypatch.setattr(lists, "MOST_PROBLEMS", 7)
    problems, listed = stored_report(store, [run]).lists
    assert (len(problems.rows), len(listed.rows)) == (7, 20)
    assert "7 of 40 problems, the least solved first" in problems.note
    assert "20 of 120 attempts" in listed.note
    assert run in listed.note
    assert {row[1].mark for row in listed.rows} == {"correct", "truncated"}  # some of each
    assert all(row[3].text == "0 of 3" for row in problems.rows)
    page = to_html(stored_report(store, [run]))
    assert {link for link in re.findall(r'href="#([^"]*)"', page)} <= set(re.findall(r' id="([^"]*)"', page))


def test_what_a_reader_must_know_stands_in_every_kind_of_report(evaluated):
    page = evaluated[2]
    assert len(page.warnings) == 1
    for made in (to_html(page), to_markdown(page), to_json(page)):
        assert "With 40 problems a difference of 28 points" in made


def test_a_report_in_markdown_has_no_sign_of_the_models_own(evaluated):
    text = to_markdown(evaluated[2])
    assert "<script" not in re.sub(r"\\<", "", text)
    assert re.search(r"Accuracy: \*\*77\.5%\*\*", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.M):
        cells = [len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()]
        assert len(set(cells)) == 1


def test_a_report_in_json_has_the_figures(evaluated):
    told = json.loads(to_json(evaluated[2]), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert told["summary"]["accuracy"]["mean"] == pytest.approx(31 / 40)
    assert told["summary"]["counts"] == {"correct": 93, "truncated": 27}
    assert [table["title"] for table in told["tables"]][-2:] == ["Problems", "Attempts"]


def test_seeds_are_one_evaluation_and_other_models_are_not(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        runs = []
        for seed in range(2):
            runs.append(store.start_run("eval", "sums", "tiny", "w", {"samples": 1, "sampling": {"seed": seed}}))
            store.add(runs[-1], attempts(10 + 20 * seed))
        page = stored_report(store, runs)
        assert page.headline.value == "50.0%"
        (table,) = [table for table in page.tables if table.title == "By seed"]
        assert [row[:2] for row in table.rows] == [("0", "25.0%"), ("1", "75.0%")]
        assert "± 35.4 points" in table.note
        other = store.start_run("eval", "sums", "small", "w", {"samples": 1, "sampling": {"seed": 0}})
        with pytest.raises(UserError, match="differ in more than their seeds"):
            stored_report(store, [runs[0], other])


def test_where_no_report_can_be(tmp_path):
    for path in (tmp_path, tmp_path / "report.pdf", tmp_path / "report"):
        with pytest.raises(UserError, match=r"report\.html|must end in \.html, \.md, \.json"):
            check_report(path)
    check_report(tmp_path / "R.HTML")


def test_a_page_that_cannot_be_written_is_the_users_to_mend(tmp_path):
    report = evaluation_report(summarise(attempts(3)), title="sums", model="tiny", config={})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        render_report(tmp_path / "file" / "report.html", report)


def test_a_model_that_does_not_think_apart_has_its_answer_marked():
    trace = Trace("", "2 + 2 = 5.\nWait, no: 2 + 2 = 4.", "none")
    (view,) = pair_of(Attempt(Problem("a/1", "q", "4"), trace, Verdict("wrong"))).traces
    assert view.thinking == ()
    assert any("false" in piece.marks for piece in view.answer)
    assert "".join(piece.text for piece in view.answer) == trace.answer


@given(st.text(max_size=30), st.lists(st.tuples(st.integers(-2, 35), st.integers(-2, 35), st.sampled_from("xyz"))))
def test_pieces_put_together_are_the_text_and_each_carries_its_marks(text, spans):
    spans = [Span(*span) for span in spans]
    pieces = cut(text, spans)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)
    per_character = [piece.marks.split() for piece in pieces for _ in piece.text]
    valid = [span for span in spans if 0 <= span.start < span.end <= len(text)]
    assert per_character == [sorted({s.kind for s in valid if s.start <= i < s.end}) for i in range(len(text))]


def test_metrics_of_a_killed_run_lose_only_the_half_written_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2, "reward": 0.5}\n{"step": 3, "rew')
    assert read_metrics(path) == [{"step": 1}, {"step": 2, "reward": 0.5}]
    for bad in ('{"step": 1\n{"step": 2}\n', json.dumps([1]) + '\n{"step": 2}\n'):
        path.write_text(bad)
        with pytest.raises(UserError, match="line 1"):
            read_metrics(path)
    with pytest.raises(UserError, match="cannot read"):
        read_metrics(tmp_path / "none.jsonl")
