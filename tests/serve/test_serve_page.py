"""The page at `/` in a real browser, from the real server: `tiny`, and scripted engines for what `tiny` never says."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from thinksmith.engines import open_engine
from thinksmith.engines.contract import Delta, Engine, EngineInfo
from thinksmith.records import Request, Sampling, Trace

pytest.importorskip("starlette", reason="the serve extra is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the serve extra is not installed")

from thinksmith.serve.app import create_app  # noqa: E402
from thinksmith.serve.guard import Rules  # noqa: E402
from thinksmith.serve.models import Base, Shelf  # noqa: E402

PROBES = Path(__file__).with_name("page_probes.js").read_text(encoding="utf-8")
HOSTILE = (
    "<script>window.caught = 1</script><img src=x onerror='window.caught = 2'> **<b>bold</b>** "
    "[a link](javascript:window.caught=3) ![](http://198.51.100.1/x.png) `<i>` $<mtext>$ \\text{<a>} &amp; <!--"
)
WRONG = "😀 First 3 + 4 = 7.\nThen 7 * 2 = 15.\nWait, let me check: 7 * 2 = 14.\nSo the answer is 14."


@dataclass
class Scripted:
    """An engine that says `thinking` and `answer`, word by word, `pause` seconds apart; with `fails`, then it fails."""

    thinking: str
    answer: str
    pause: float = 0.0
    fails: bool = False
    room: int = 64

    @property
    def info(self) -> EngineInfo:
        return EngineInfo("scripted", context_length=4096, prefill=True, budget=True)

    async def sample(self, request: Request) -> list[Trace]:
        return [self._trace(request.sampling) for _ in range(request.n)]

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        for part, text in (("thinking", self.thinking), ("answer", self.answer)):
            for word in re.findall(r"\S*\s*", text):
                if word:
                    await asyncio.sleep(self.pause)
                    yield Delta(part, word)  # type: ignore[arg-type]
        yield Delta("done", trace=self._trace(request.sampling))

    def _trace(self, sampling: Sampling) -> Trace:
        counts = {"thinking_tokens": len(self.thinking.split()), "answer_tokens": len(self.answer.split())}
        end: dict[str, Any] = {"finish": "error", "error": "it broke"} if self.fails else {}
        return Trace(self.thinking, self.answer, sampling=sampling, prompt_tokens=5, **counts, **end)

    def sample_all(self, requests: Sequence[Request]) -> list[list[Trace]]:
        raise NotImplementedError

    async def aclose(self) -> None:
        return None


@contextmanager
def serving(engines: dict[str, Engine], *, places: int = 64, queue: int = 64, token: str = "") -> Iterator[str]:
    """The real application before a real socket; its address."""
    shelf = Shelf([Base.of(name, engine, places=places, queue=queue) for name, engine in engines.items()])
    app = create_app(shelf, rules=Rules(token=token))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def until(true: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    """A server of `tiny` and of the scripted."""
    with serving(
        {
            "tiny": open_engine("tiny"),
            "hostile": Scripted(HOSTILE, HOSTILE),
            "wrong": Scripted(WRONG, "The answer is 14."),
            "slow": Scripted("so " * 5000, "never", pause=0.02),
            "long": Scripted("\n".join(f"line {i} of it" for i in range(1500)), "It is 5. " * 60),
            "broken": Scripted("I think", "and fail", fails=True),
        }
    ) as address:
        yield address


@pytest.fixture
def page(browser: Any, place: str) -> Iterator[Any]:
    """The page, ready; what the browser complains of fails the test."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    opened, wrong = new_page(context, place)
    yield opened
    context.close()
    assert wrong == []


def new_page(context: Any, place: str, path: str = "/") -> tuple[Any, list[str]]:
    """A page, and what went wrong in it: errors, and requests to elsewhere."""
    context.set_default_timeout(180_000)  # the machine may be busy
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("request", lambda request: None if request.url.startswith(place) else wrong.append(request.url))
    opened.goto(place + path)
    opened.wait_for_selector("#send:not([disabled]), dialog[open]")
    return opened, wrong


def ask(page: Any, text: str, model: str = "", *, wait: str = "done") -> Any:
    """Ask by keyboard; the exchange, and once it is so far, its request's body in `page.body`."""
    if model:
        page.select_option("#model", model)
    page.focus("#prompt")
    page.keyboard.insert_text(text)
    with page.expect_request("**/v1/chat/completions") as asked:
        page.keyboard.press("Enter")
    page.body = json.loads(asked.value.post_data)
    exchange = page.locator("#conversation > li").last
    page.wait_for_function(
        "(status) => document.querySelector('#conversation > li:last-child').dataset.status === status", arg=wait
    )
    return exchange


def probe(page: Any, name: str, *arguments: Any) -> Any:
    """What the function `name` of page_probes.js finds."""
    return page.evaluate(f"(given) => ({PROBES}).{name}(...given)", list(arguments))


def metric(place: str, name: str) -> float:
    with urllib.request.urlopen(f"{place}/metrics") as response:
        text = response.read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if re.match(rf"{name}[ {{]", line))


# --- asking


def drawn(part: Any) -> str:
    """The text that shows, once any does: what was folded is drawn a frame later."""
    from playwright.sync_api import expect

    expect(part).to_have_text(re.compile(r"\S"), use_inner_text=True)
    return str(part.inner_text())


def test_a_question_is_thought_about_and_answered(page: Any) -> None:
    exchange = ask(page, "What is 6 * (19 - 8 - 6 + 11)?", "tiny")
    again = json.dumps({**page.body, "stream": False, "stream_options": None}).encode()  # the seed is in it
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{page.url}v1/chat/completions", again, headers)) as response:
        whole = json.load(response)
    message, usage = whole["choices"][0]["message"], whole["usage"]
    thinking = usage["completion_tokens_details"]["reasoning_tokens"]
    assert page.body["stream"] is True
    assert page.body["messages"] == [{"role": "user", "content": "What is 6 * (19 - 8 - 6 + 11)?"}]
    assert exchange.locator(".answer").inner_text().strip() == message["content"].strip()
    assert exchange.locator("details").get_attribute("open") is None
    assert not exchange.locator(".thoughts").is_visible()
    exchange.locator("summary").click()
    assert drawn(exchange.locator(".thoughts")).split() == message["reasoning_content"].split()
    told = exchange.locator("summary").inner_text()
    assert re.search(rf"Thought for \d+(\.\d)? s\s+{thinking} tokens", told), told
    figures = exchange.locator(".actions .figures").inner_text()
    assert figures.startswith(f"{thinking} + {usage['completion_tokens'] - thinking} token"), figures
    assert "96" in exchange.locator(".answer").inner_text()


def test_a_conversation_is_told_again_and_lives_in_the_page_alone(page: Any) -> None:
    first = ask(page, "What is 2 + 3?", "wrong").locator(".answer").inner_text()
    ask(page, "And twice that?")
    assert [message["role"] for message in page.body["messages"]] == ["user", "assistant", "user"]
    assert page.body["messages"][1]["content"].strip() == first.strip()
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.get_by_role("button", name="New chat").click()
    assert page.locator("#conversation > li").count() == 0
    assert page.evaluate("document.activeElement.id") == "prompt"
    ask(page, "Again")
    assert len(page.body["messages"]) == 1


def test_retry_asks_the_same_again_with_another_seed(page: Any) -> None:
    ask(page, "What is 2 + 3?", "wrong")
    ask(page, "And then?")
    before = page.body
    with page.expect_request("**/v1/chat/completions") as asked:
        page.get_by_role("button", name="Ask this again").nth(1).click()
    page.wait_for_selector("#conversation > li:last-child[data-status=done]")
    again = json.loads(asked.value.post_data)
    assert again["messages"] == before["messages"]
    assert again["seed"] != before["seed"]
    assert page.locator("#conversation > li").count() == 2
    page.get_by_role("button", name="Ask this again").first.click()
    page.wait_for_selector("#conversation > li:only-child[data-status=done]")


@pytest.mark.parametrize("how", ["Escape", "button"])
def test_what_runs_can_be_stopped_and_the_server_stops_too(page: Any, place: str, how: str) -> None:
    exchange = ask(page, "Think long", "slow", wait="running")
    page.wait_for_function("() => document.querySelector('.state').textContent === 'Thinking'")
    assert exchange.get_attribute("aria-busy") == "true"
    assert metric(place, "thinksmith_running") == 1
    if how == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    page.wait_for_selector("li[data-status=stopped]")
    assert exchange.locator(".outcome").inner_text() == "Stopped."
    assert "Stopped after" in exchange.locator("summary").inner_text()
    assert page.evaluate("document.activeElement.id") == "prompt"
    until(lambda: metric(place, "thinksmith_running") == 0)
    ask(page, "Another", "wrong")
    assert [message["content"] for message in page.body["messages"]] == ["Another"]  # what never came is not told


def test_thinking_streams_into_the_fold(page: Any) -> None:
    exchange = ask(page, "Think long", "slow", wait="running")
    peek, count = exchange.locator(".peek"), exchange.locator("summary .figures")
    page.wait_for_function("() => document.querySelector('.peek').textContent.includes('so so')")
    assert peek.is_visible()
    early = int(re.search(r"\d+", count.inner_text())[0])  # type: ignore[index]
    exchange.locator("summary").click()
    page.wait_for_function(
        f"() => Number(document.querySelector('summary .figures').textContent.match(/\\d+/)[0]) > {early + 5}"
    )
    shown = exchange.locator(".body").inner_text()
    assert len(shown.split()) > early
    assert re.search(r"about \d+ tokens · \d", count.inner_text())
    page.keyboard.press("Escape")
    page.wait_for_selector("li[data-status=stopped]")
    nxt = ask(page, "x", "wrong")
    assert nxt.locator("details").get_attribute("open") is not None  # who looks at one wants to see the next


def test_a_long_trace_is_whole(page: Any) -> None:
    exchange = ask(page, "Go", "long")
    exchange.locator("summary").click()
    lines = page.evaluate(
        "[...document.querySelectorAll('.body > div')].map((each) => each.textContent).join('\\n').split('\\n')"
    )
    assert lines == [f"line {i} of it" for i in range(1500)]


# --- model, strategy, budget


def test_the_budget_is_a_slider_for_mouse_keys_and_ears(page: Any) -> None:
    page.select_option("#model", "tiny")
    slider = page.get_by_role("slider", name="Thinking")
    assert slider.get_attribute("aria-valuetext") == "as long as it wants"
    ask(page, "What is 6 * (19 - 8 - 6 + 11)?")
    assert not {"thinking_token_budget", "reasoning_effort"} & set(page.body)
    slider.focus()
    page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "no thinking"
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "at most 32 tokens"
    assert page.locator("#budget-said").inner_text() == "32"
    exchange = ask(page, "What is 6 * (19 - 8 - 6 + 11)?")
    assert page.body["thinking_token_budget"] == 32
    assert int(re.search(r"(\d+) token", exchange.locator("summary").inner_text())[1]) <= 40  # type: ignore[index]
    slider.focus()
    page.keyboard.press("Home")
    exchange = ask(page, "What is 2 + 3?")
    assert page.body["reasoning_effort"] == "none"
    assert exchange.locator(".answer").inner_text().strip()


def test_a_strategy_shows_what_it_does(page: Any) -> None:
    page.select_option("#model", "tiny")
    offered = page.locator("#strategy option").all_inner_texts()
    assert offered[0] == "single"
    assert "vote@8" in offered
    page.select_option("#strategy", "vote@8")
    exchange = ask(page, "What is 19 - 16 + 12?")
    assert page.body["model"] == "tiny:vote@8"
    assert "15" in exchange.locator(".answer").inner_text()
    exchange.locator("summary").click()
    progress = exchange.locator(".progress").inner_text()
    assert len(re.findall(r"^\d+: ", progress, re.MULTILINE)) == 8, progress
    page.get_by_role("button", name="Audit").click()
    page.wait_for_selector(".findings:not([hidden])")
    assert exchange.locator(".segment").count() >= 1  # of the chosen trace: progress is not audited
    assert not re.search(r"\d tokens\)", exchange.locator(".body").inner_text())
    page.select_option("#model", "wrong")
    assert "vote@8" in page.locator("#strategy option").all_inner_texts()


# --- audit


def test_the_audit_marks_the_thinking(page: Any) -> None:
    exchange = ask(page, "What is 2 * (3 + 4)?", "wrong")
    button = page.get_by_role("button", name="Audit")
    assert button.get_attribute("aria-expanded") == "false"
    button.press("Enter")
    page.wait_for_selector(".findings:not([hidden])")
    assert button.get_attribute("aria-expanded") == "true"
    assert page.evaluate("document.activeElement.textContent") == "Audit"
    marks = [re.sub(r"\s+", " ", text) for text in exchange.locator("mark").all_text_contents()]
    first = "7 * 2 = (the answer first stands here) 14 ✓ (true)"
    assert marks == ["3 + 4 = 7 ✓ (true)", "7 * 2 = 15 ✗ (false: 14 is not 15)", first]
    assert exchange.locator("mark.false").evaluate("(mark) => mark.firstChild.data") == "7 * 2 = 15"
    kinds = exchange.locator(".kind").all_inner_texts()
    assert "turns back" in kinds
    assert kinds[-1] == "concludes"
    place = exchange.locator(".first").evaluate("(mark) => mark.nextSibling.textContent")
    assert place.startswith("14")
    findings = exchange.locator(".findings").inner_text()
    assert "2 of 3 true" in findings
    assert "Audit: 3 equations, 1 false." in page.locator("#said").inner_text()
    page.get_by_role("button", name=re.compile("14 is not 15")).click()
    assert page.evaluate("document.activeElement.className") == "false"
    button.click()
    assert not exchange.locator(".findings").is_visible()
    assert drawn(exchange.locator(".body")).split() == WRONG.split()


# --- what the model writes is text


def test_hostile_text_stays_text(page: Any) -> None:
    exchange = ask(page, HOSTILE, "hostile")
    exchange.locator("summary").click()
    page.get_by_role("button", name="Audit").click()
    page.wait_for_selector(".findings:not([hidden])")
    for shown in (".answer", ".body", ".question"):
        assert exchange.locator(f"{shown} :is(script, img, b, i, a, mtext)").count() == 0
        assert "<script>window.caught = 1</script>" in exchange.locator(shown).text_content()
    assert page.evaluate("window.caught") is None


def test_nothing_but_the_servers_own_files_can_run(browser: Any, place: str) -> None:
    context = browser.new_context()
    page, _ = new_page(context, place)
    tries = {
        "markup": "() => { document.body.innerHTML = '<p>x</p>'; }",
        "eval": "() => { window.setTimeout('window.caught = 1', 0); }",
        "document": "() => { document.write('<p>x</p>'); }",
    }
    for name, attempt in tries.items():
        told = page.evaluate(
            f"() => {{ try {{ ({attempt})(); return 'it ran'; }} catch (error) {{ return error.name; }} }}"
        )
        assert told in ("TypeError", "EvalError"), name
    inline = "const s = document.createElement('script'); s.append('window.caught = 1'); document.body.append(s)"
    page.evaluate(f"() => {{ try {{ {inline} }} catch {{}} }}")
    assert page.evaluate("window.caught") is None
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'went', () => 'refused')") == "refused"
    with urllib.request.urlopen(place) as response:
        policy = response.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self';")
    context.close()


FORMS = {
    "a **b** *c* `d` e": "<p>a <strong>b</strong> <em>c</em> <code>d</code> e</p>",
    "2 * 3 * 4 and a_b_c": "<p>2 * 3 * 4 and a_b_c</p>",
    "# One\ntwo": "<h3>One</h3><p>two</p>",
    "- a\n- b\n  1. c": "<ul><li>a</li><li>b<ol><li>c</li></ol></li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "> q\n> r\n\n---": "<blockquote><p>q\nr</p></blockquote><hr>",
    "$x^2$": "<p><math><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math></p>",
    "costs $5 and $6": "<p>costs $5 and $6</p>",
    "\\(\\frac12\\)": "<p>\\(\\frac12\\)</p>",  # one number as it is read here, so not guessed at
    "\\(\\frac ab\\)": "<p><math><mrow><mfrac><mi>a</mi><mi>b</mi></mfrac></mrow></math></p>",
    "$\\unknown{x}$": "<p>$\\unknown{x}$</p>",
    "$\\frac{1$": "<p>$\\frac{1$</p>",
    "so \\boxed{42}": '<p>so <math><mrow><mrow class="boxed"><mn>42</mn></mrow></mrow></math></p>',
    "<b>&amp;</b>": "<p>&lt;b&gt;&amp;amp;&lt;/b&gt;</p>",
    "[a](http://x)": "<p>[a](http://x)</p>",
    "\\*a\\*": "<p>*a*</p>",
}


def test_markdown_is_read_as_it_is_meant(page: Any) -> None:
    for text, wanted in FORMS.items():
        shown = page.evaluate(
            """async (text) => {
                const { Markdown } = await import("/page/markdown.js");
                const place = document.createElement("div");
                new Markdown(place).show(text);
                place.querySelectorAll("[dir]").forEach((each) => each.removeAttribute("dir"));
                return place.innerHTML.replaceAll(' xmlns="http://www.w3.org/1998/Math/MathML"', "");
            }""",
            text,
        )
        assert shown == wanted, text


def test_text_that_grows_looks_as_if_it_had_come_at_once(page: Any) -> None:
    """500 random texts, each shown in random pieces, by one view; and nothing but signs of Markdown is ever lost."""
    assert probe(page, "grows") is None


SIGNS = (
    "*",
    "**a ",
    "$",
    "\\(",
    "`",
    "\\boxed{",
    "> ",
    "- ",
    "|",
    "[",
    "_a",
    "\\frac{",
    "#",
    "{" * 50,
    "a|b\n",
    "```\n",
    "1. a\n  ",
)


@pytest.mark.parametrize("sign", SIGNS)
def test_the_time_for_markdown_grows_as_the_text(page: Any, sign: str) -> None:
    """Ten times the text: ten times as long, and room for a busy machine. A square would be a hundred times."""
    short, long = probe(page, "times", sign)
    assert long < 60 * max(short, 25), (short, long)


# --- who cannot see, or has no mouse


def test_a_screen_reader_is_told_the_news_and_not_the_tokens(page: Any) -> None:
    probe(page, "listen")
    exchange = ask(page, "Go", "long")
    page.wait_for_function("() => window.told.some((each) => each.startsWith('Answer: It is 5.'))")
    told = page.evaluate("window.told")
    assert len(told) <= 3, told
    live = probe(page, "live")
    assert sorted(live) == ["budget-said", "said", "trouble"]
    assert exchange.locator("h2").all_text_contents() == ["You", "long"]


def test_everything_is_reached_by_tab_and_shows_it(page: Any) -> None:
    ask(page, "What is 2 * (3 + 4)?", "wrong")
    page.evaluate("document.querySelector('.skip').focus()")
    seen = [probe(page, "focused")]
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(probe(page, "focused"))
        if seen[-1][0] == "send":
            break
    names = [name for name, _, _ in seen]
    assert names[0].startswith("Skip")
    assert [each for each in names if each in ("fresh", "prompt", "model", "strategy", "budget", "send")] == [
        "fresh", "prompt", "model", "strategy", "budget", "send",
    ]  # fmt: skip
    assert {"Copy", "Retry", "Audit"} <= set(names)
    assert all(marked and visible for _, marked, visible in seen), seen
    unnamed = probe(page, "unnamed")
    assert unnamed == []


def test_enter_sends_and_shift_enter_does_not(page: Any) -> None:
    page.select_option("#model", "wrong")
    page.focus("#prompt")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    assert page.locator("#conversation > li").count() == 0
    assert page.input_value("#prompt") == "one\ntwo"
    page.dispatch_event(
        "#prompt", "keydown", {"key": "Enter", "isComposing": True}
    )  # the end of a word by an input method
    assert page.locator("#conversation > li").count() == 0
    page.keyboard.press("Enter")
    page.wait_for_selector("li[data-status=done]")
    assert page.locator(".question p").inner_text() == "one\ntwo"
    assert page.input_value("#prompt") == ""
    page.keyboard.type("   ")
    page.keyboard.press("Enter")
    assert page.locator("#conversation > li").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_both_schemes(browser: Any, place: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme, reduced_motion="reduce")
    page, wrong = new_page(context, place)
    assert probe(page, "contrast") == []
    ask(page, "What is 2 * (3 + 4)?", "wrong").locator("summary").click()
    page.get_by_role("button", name="Audit").click()
    page.wait_for_selector(".findings:not([hidden])")
    ask(page, "Fail", "broken", wait="failed")
    assert probe(page, "contrast") == []
    ask(page, "Think long", "slow", wait="running")
    page.wait_for_selector(".live .dot")
    assert page.evaluate("getComputedStyle(document.querySelector('.live .dot')).animationName") == "none"
    page.keyboard.press("Escape")
    assert (
        page.evaluate("getComputedStyle(document.body).backgroundColor")
        == {
            "light": "rgb(251, 250, 248)",
            "dark": "rgb(18, 20, 24)",
        }[scheme]
    )
    context.close()
    assert wrong == []


@pytest.mark.parametrize("width", [320, 480])
def test_it_fits_a_narrow_screen(browser: Any, place: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 640})
    page, wrong = new_page(context, place)
    fits = "document.documentElement.scrollWidth <= window.innerWidth"
    assert page.evaluate(fits)
    ask(page, "x" * 300, "wrong").locator("summary").click()
    page.get_by_role("button", name="Audit").click()
    page.wait_for_selector(".findings:not([hidden])")
    assert page.evaluate(fits)
    outside = probe(page, "outside")
    assert outside == []
    context.close()
    assert wrong == []


def test_the_page_goes_along_unless_one_reads_further_up(page: Any) -> None:
    for _ in range(3):
        ask(page, "Go", "long")
    end = "window.innerHeight + window.scrollY >= document.documentElement.scrollHeight - 60"
    page.wait_for_function(f"() => {end}")
    ask(page, "Think long", "slow", wait="running")
    page.locator("#conversation > li:last-child summary").click()
    page.mouse.move(500, 200)
    page.mouse.wheel(0, -900)
    page.wait_for_selector("#latest:not([hidden])")
    before = page.evaluate("window.scrollY")
    time.sleep(0.4)
    assert page.evaluate("window.scrollY") == before
    page.locator("#latest").click()
    page.wait_for_function(f"() => {end}")
    page.keyboard.press("Escape")
    page.wait_for_selector("li[data-status=stopped]")


# --- what goes wrong


def test_a_failure_is_said_and_can_be_asked_again(page: Any) -> None:
    exchange = ask(page, "Fail", "broken", wait="failed")
    assert "it broke" in exchange.locator(".outcome").inner_text()
    page.select_option("#model", "wrong")
    page.get_by_role("button", name="Ask this again").click()
    page.wait_for_selector("li[data-status=done]")
    assert exchange.locator(".answer").inner_text() == "The answer is 14."


def test_a_full_server_is_asked_again(browser: Any) -> None:
    slow, quick = Scripted("so " * 60, "done", pause=0.05), Scripted("well", "It is 1.")
    with serving({"slow": slow, "quick": quick}, places=1, queue=0) as place:
        context = browser.new_context()
        one, _ = new_page(context, place)
        other, _ = new_page(context, place)
        ask(one, "Think", "slow", wait="running")
        one.wait_for_selector(".live .peek:not(:empty)")
        exchange = ask(other, "Quick", "slow", wait="running")
        other.wait_for_selector(".outcome:not([hidden])")
        assert "The server is full; it is asked again in" in exchange.locator(".outcome").inner_text()
        other.wait_for_selector("li[data-status=done]")
        assert exchange.locator(".answer").inner_text() == "done"
        context.close()


def test_a_token_is_asked_for_and_kept_in_the_page(browser: Any) -> None:
    with serving({"quick": Scripted("well", "It is 1.")}, token="open sesame") as place:
        context = browser.new_context()
        page, _ = new_page(context, place)
        for token in ("wrong", "open sesame"):
            page.wait_for_selector("dialog[open]")
            assert page.evaluate("document.activeElement.id") == "token"
            page.keyboard.type(token)
            page.keyboard.press("Enter")
        page.wait_for_selector("#send:not([disabled])")
        assert ask(page, "x").locator(".answer").inner_text() == "It is 1."
        assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
        page, wrong = new_page(context, place, "/#token=open%20sesame")
        page.wait_for_selector("#send:not([disabled])")
        assert page.url == f"{place}/"
        assert wrong == []
        context.close()


# --- files


def test_files_are_cached_by_their_content(place: str) -> None:
    for path in ("/", "/page/app.js", "/page/style.css", "/page/icon.svg"):
        with urllib.request.urlopen(place + path) as response:
            tag, size = response.headers["ETag"], len(response.read())
            assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert size > 100
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(urllib.request.Request(place + path, headers={"If-None-Match": tag}))
        assert told.value.code == 304
    for path in ("/page/", "/page/../app.py", "/page/routes.py", "/page/%2e%2e/app.py", "/page/static/app.js"):
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(place + path)
        assert told.value.code == 404


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"thinking": "", "answer": " "}, 400),
        ({"thinking": 5}, 400),
        ({"thinking": "x", "thinking_tokens": -1}, 400),
        ({"thinking": "x" * 100_001}, 413),
        ([], 400),
    ],
)
def test_an_audit_of_nothing_usable_is_refused_in_one_line(place: str, body: Any, status: int) -> None:
    request = urllib.request.Request(f"{place}/audit", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(request)
    assert told.value.code == status
    assert "\n" not in json.loads(told.value.read())["error"]["message"]
