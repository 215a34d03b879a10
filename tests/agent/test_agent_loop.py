"""The loop: a conversation of a model with its tools, step by step."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from agent_scripts import Scripted, calls, heard, no, tool, yes

from thinksmith.agent.contract import Result, ToolFault
from thinksmith.agent.loop import Manner, work
from thinksmith.agent.meter import Limits
from thinksmith.agent.outcome import Trajectory, notes_of, outcome_of
from thinksmith.errors import UserError
from thinksmith.records import Problem, Request, Sampling

TASK = Problem("agent/x", "How much is in the till?", kind="task")
PLAIN = Manner(planning=False)


def go(engine: Any, *tools: Any, manner: Manner = PLAIN, approve: Any = yes, **more: Any) -> Trajectory:
    sampling = more.pop("sampling", Sampling(max_tokens=500))
    return asyncio.run(work(TASK, engine, tools=tools, sampling=sampling, approve=approve, manner=manner, **more))


def test_it_calls_reads_and_answers() -> None:
    engine = Scripted(calls("look", "I need to look.", where="till"), "<think>\nSeven.\n</think>\n\nThere are 7 in it.")
    found = go(engine, tool("look", lambda where: f"7 coins in the {where}"))
    assert found.answer == "There are 7 in it."
    assert found.answered
    assert found.why == "it answered"
    assert [step.part for step in found.steps] == ["act", "act"]
    first = found.steps[0]
    assert first.trace.thinking == "I need to look."
    assert first.observations[0].call["arguments"] == {"where": "till"}
    told = engine.asked[1].messages
    assert [message["role"] for message in told] == ["system", "user", "assistant", "tool"]
    assert told[2]["thinking"] == "I need to look."
    assert told[2]["tool_calls"][0]["name"] == "look"
    assert "7 coins in the till" in told[3]["content"]
    assert told[3]["tool_call_id"] == told[2]["tool_calls"][0]["id"]
    assert engine.asked[0].tools[0]["function"]["name"] == "look"


def test_the_history_only_grows() -> None:
    engine = Scripted(*(calls("look", n=n) for n in range(4)), "Done.")
    go(engine, tool("look", lambda n: f"saw {n}"))
    for before, after in zip(engine.asked, engine.asked[1:], strict=False):
        assert after.messages[: len(before.messages)] == before.messages


def test_it_plans_first_and_ticks() -> None:
    engine = Scripted(
        "1. look\n2. count",
        "- [x] look\n- [ ] count\n\n" + calls("look"),
        "There are 7.",
    )
    found = go(engine, tool("look", lambda: "7"), manner=Manner())
    assert [step.part for step in found.steps] == ["plan", "act", "act"]
    assert [(line.text, line.done) for line in found.plan] == [("look", True), ("count", False)]
    assert engine.asked[0].tool_choice == "none"
    assert engine.asked[1].tool_choice == "auto"
    assert found.steps[0].observations == ()


def test_a_call_in_the_plan_is_not_made() -> None:
    made: list[int] = []
    engine = Scripted(calls("look"), "Done.")
    go(engine, tool("look", lambda: str(made.append(1))), manner=Manner())
    assert not made


def test_a_failure_leads_to_a_look_back_and_the_model_goes_on() -> None:
    def broken() -> str:
        raise ToolFault("the till is locked")

    engine = Scripted(calls("look", n=1), calls("open"), "1. [x] look\n2. [ ] ask the owner", "It is locked.")
    found = go(engine, tool("look", lambda n: "a till"), tool("open", broken))
    assert [step.part for step in found.steps] == ["act", "act", "reflect", "act"]
    assert "open did not work" in found.steps[2].why
    assert found.plan[1].text == "ask the owner"
    assert "the till is locked" in found.steps[1].observations[0].text


def test_every_n_steps_it_looks_back() -> None:
    engine = Scripted(
        *(calls("look", n=n) for n in range(3)), "1. on", *(calls("look", n=n) for n in (3, 4, 5)), "On.", "End."
    )
    found = go(engine, tool("look", lambda n: f"{n}"), manner=Manner(planning=False, reflect_every=3))
    assert [step.part for step in found.steps][:8] == ["act"] * 3 + ["reflect"] + ["act"] * 3 + ["reflect"]


@pytest.mark.parametrize("period", [1, 2, 3])
def test_what_goes_round_in_circles_looks_back_then_stops(period: int) -> None:
    def turn(request: Request) -> str:
        if request.tool_choice == "none":
            return "It cannot be known."
        turn.n += 1  # type: ignore[attr-defined]
        return calls("look", n=(turn.n - 1) % period)  # type: ignore[attr-defined]

    turn.n = 0  # type: ignore[attr-defined]
    found = go(Scripted(turn), tool("look", lambda n: f"{n}"), limits=Limits(steps=40))
    parts = [step.part for step in found.steps]
    # The first that comes again leads to a look back, the second after it to the end.
    assert parts == ["act"] * (period + 1) + ["reflect"] + ["act"] + ["reflect"] + ["act", "answer"]
    assert found.why == "it went round in circles"
    assert not found.answered
    assert found.answer == "It cannot be known."


def test_the_same_call_with_another_result_is_no_circle() -> None:
    count = iter(range(100))
    engine = Scripted(*[calls("poll")] * 6, "Ready.")
    found = go(engine, tool("poll", lambda: f"{next(count)} %"), manner=Manner(planning=False, reflect_every=20))
    assert found.answered
    assert found.repeats == 0


def test_steps_end_with_what_is_known() -> None:
    def turn(request: Request) -> str:
        return "About 3." if request.tool_choice == "none" else calls("look", n=len(request.messages))

    found = go(Scripted(turn), tool("look", lambda n: f"{n}"), limits=Limits(steps=3))
    assert [step.part for step in found.steps] == ["act", "act", "act", "answer"]
    assert found.answer == "About 3."
    assert "3 steps" in found.why
    assert not found.answered


def test_tokens_end_it_and_a_share_is_kept_for_the_answer() -> None:
    def turn(request: Request) -> str:
        return "About 3." if request.tool_choice == "none" else calls("look", "x" * 300, n=len(request.messages))

    engine = Scripted(turn)
    found = go(engine, tool("look", lambda n: f"{n}"), limits=Limits(tokens=600))
    assert "600 tokens" in found.why
    assert found.answer == "About 3."
    assert found.steps[-1].part == "answer"
    assert found.tokens <= 600
    assert all(request.sampling.max_tokens <= 600 for request in engine.asked)


def test_seconds_cut_a_thought_off() -> None:
    class Slow(Scripted):
        async def sample(self, request: Request) -> Any:
            if self.asked:
                await asyncio.sleep(30)
            return await super().sample(request)

    found = go(Slow("So far: 7.\n\n" + calls("look")), tool("look", lambda: "7"), limits=Limits(seconds=0.3))
    assert "0.3 seconds" in found.why
    assert found.answer == "So far: 7."
    assert len(found.steps) == 1


def test_cost_ends_it() -> None:
    from dataclasses import replace

    from thinksmith.records import Usage

    class Paid(Scripted):
        async def sample(self, request: Request) -> Any:
            return [replace(trace, usage=Usage(cost=0.4)) for trace in await super().sample(request)]

    found = go(Paid(*(calls("look", n=n) for n in range(9))), tool("look", lambda n: f"{n}"), limits=Limits(cost=1.0))
    assert len(found.steps) == 3
    assert "$1" in found.why
    assert found.cost == pytest.approx(1.2)


def test_what_was_refused_stays_so() -> None:
    done: list[int] = []
    engine = Scripted(calls("wipe"), "I was not allowed to.")
    found = go(engine, tool("wipe", lambda: str(done.append(1)), "write"), approve=no)
    assert not done
    assert found.observations[0].refused
    assert not found.effects
    assert "not allowed" in heard(engine.asked[1])


def test_always_asks_once() -> None:
    asked: list[str] = []

    async def always(tool: Any, call: Any, intent: Any) -> Any:
        asked.append(tool.name)
        return "always"

    engine = Scripted(*(calls("put", n=n) for n in range(3)), calls("wipe"), "Done.")
    found = go(engine, tool("put", lambda n: "ok", "write"), tool("wipe", lambda: "ok", "write"), approve=always)
    assert asked == ["put", "wipe"]
    assert len(found.effects) == 4


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ('<tool_call>{"name": "look", "arguments": {"a": }}</tool_call>', "not valid JSON"),
        ('<tool_call>{"name": "look"', "not valid JSON"),
        ('<tool_call>{"arguments": {}}</tool_call>', "lacks name"),
        (calls("lok"), "did you mean look?"),
        (calls("look", n="many"), "'many' is not of type 'integer'"),
        (calls("look", m=1), "'m' was unexpected"),
        ("<think>\nstill", "cut off"),
        ("<think>\nthat is it\n</think>\n", "neither a call nor an answer"),
    ],
)
def test_a_wrong_reply_is_told_what_to_mend(reply: str, says: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}
    engine = Scripted(reply, "Done.")
    found = go(engine, tool("look", lambda n=0: "7", parameters=schema))
    assert says in heard(engine.asked[1])
    assert found.answered
    assert not found.effects


def test_an_engine_that_fails_ends_it() -> None:
    from dataclasses import replace

    class Failing(Scripted):
        async def sample(self, request: Request) -> Any:
            (trace,) = await super().sample(request)
            return [replace(trace, finish="error", error="out of memory", answer="", completion="")]

    found = go(Failing("x"), tool("look", lambda: "7"))
    assert "out of memory" in found.why
    assert len(found.steps) == 1
    assert not found.answered


def test_two_tools_of_one_name() -> None:
    with pytest.raises(UserError, match="same name"):
        go(Scripted("x"), tool("look", lambda: ""), tool("look", lambda: ""))


def test_an_untold_model_gets_the_bare_task_and_bare_results() -> None:
    engine = Scripted(calls("look"), "7")
    go(engine, tool("look", lambda: "7"), manner=Manner(planning=False, instructed=False, described=False))
    assert [message["content"] for message in engine.asked[1].messages if message["role"] != "assistant"] == [
        TASK.text,
        "7",
    ]
    assert engine.asked[0].tools == ()


def test_a_long_result_is_cut_in_the_middle_and_can_be_read_on() -> None:
    text = "".join(f"line {n}\n" for n in range(5000))

    def read_on(request: Request) -> str:
        told = heard(request)
        assert "line 0\n" in told
        assert "line 4999" in told
        assert "line 2500\n" not in told
        assert len(told) < 1300
        begin = told.index('read_more(handle="') + len('read_more(handle="')
        handle = told[begin : told.index('"', begin)]
        start = int(told[told.index("start=") + 6 :].split(")")[0])
        read_on.start = start  # type: ignore[attr-defined]
        return calls("read_more", handle=handle, start=start)

    engine = Scripted(calls("read"), read_on, "Done.")
    found = go(engine, tool("read", lambda: text), manner=Manner(planning=False, observation=1000))
    piece = text[read_on.start : read_on.start + 800]  # type: ignore[attr-defined]
    assert piece in found.steps[1].observations[0].text


def test_when_the_context_fills_old_results_are_summed_up() -> None:
    def turn(request: Request) -> str:
        last = heard(request)
        if "Sum up for yourself" in last:
            return "The till has 7, the safe has 9."
        return "16" if turn.n > 8 else calls("look", n=(turn.__dict__.__setitem__("n", turn.n + 1), turn.n)[1])  # type: ignore[attr-defined]

    turn.n = 0  # type: ignore[attr-defined]
    engine = Scripted(turn, context=4000)
    found = go(engine, tool("look", lambda n: f"{n} " + "blah " * 400), sampling=Sampling(max_tokens=300))
    parts = [step.part for step in found.steps]
    assert "summary" in parts
    assert found.answered
    assert all(sum(len(m["content"]) for m in r.messages) // 3 + 300 <= 4000 for r in engine.asked)
    after = engine.asked[parts.index("summary") + 1].messages
    assert any("7, the safe" in message["content"] for message in after)
    assert any("taken out" in message["content"] for message in after if message["role"] == "tool")


def test_an_outcome_is_the_answer_with_what_it_took() -> None:
    engine = Scripted(calls("look"), "7")
    outcome = outcome_of(go(engine, tool("look", lambda: "7")))
    assert outcome.answer == "7"
    assert len(outcome.traces) == 2
    assert outcome.chosen.answer == "7"
    assert json.loads(json.dumps(outcome.notes))["calls"] == 1
    assert outcome.tokens == sum(t.tokens for t in outcome.traces)


def test_the_seed_of_a_step_depends_on_the_step_and_the_sample() -> None:
    def seeds(sample: int) -> list[int]:
        engine = Scripted(calls("look"), "7")
        go(engine, tool("look", lambda: "7"), sample=sample)
        return [request.sampling.seed for request in engine.asked]

    assert seeds(0) == seeds(0)
    assert len({*seeds(0), *seeds(1)}) == 4


def test_a_result_that_says_it_failed_is_no_effect() -> None:
    found = go(Scripted(calls("put"), "Done."), tool("put", lambda: Result("no room", ok=False), "write"))
    assert not found.effects
    assert notes_of(found)["failed"] == 1
