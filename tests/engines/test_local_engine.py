"""The local engine against transformers, against itself in other company, and against those who disturb it."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time

import pytest
import torch

from thinksmith.engines import open_engine
from thinksmith.engines.contract import Engine
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.records import Message, Request, Sampling
from thinksmith.thinking import TokenSplitter


@pytest.fixture(scope="module", params=[True, False], ids=["native", "transformers"])
def native(request):
    return request.param


@pytest.fixture(scope="module")
def engines(checkpoints, native):
    return {
        kind: LocalEngine(load_policy(str(path), device="cpu"), slots=32, native=native)
        for kind, path in checkpoints.items()
    }


@pytest.fixture
def engine(engines):
    return engines["Qwen2"]


def policy_of(engine) -> Policy:
    return engine._policy


def ask(number, *, n=1, prefill="", **sampling):
    text = f"What is {number} * 34?" + " Think well." * (number % 4)
    sampling = {"temperature": 1.0, "max_tokens": 24, "seed": number} | sampling
    return Request(messages=(Message(role="user", content=text),), n=n, prefill=prefill, sampling=Sampling(**sampling))


def scored(policy, trace):
    """Log-probabilities of the trace's tokens by the training forward."""
    ids = torch.tensor([trace.prompt_ids + trace.token_ids])
    where = torch.zeros(ids.shape, dtype=torch.bool)
    where[:, trace.prompt_tokens :] = True
    with torch.no_grad():
        return policy.logprobs(ids, where).logprobs_BT[0, trace.prompt_tokens :]


def counted(policy, trace):
    """The trace's tokens taken apart one by one."""
    splitter = TokenSplitter(policy.decode, policy.tags, opened=True)
    for token in trace.token_ids:
        if token not in policy.eos_ids:
            splitter.feed(token)
    splitter.finish()
    return splitter


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_greedy_equals_generate(engines, kind):
    engine = engines[kind]
    policy = policy_of(engine)
    for (trace,) in engine.sample_all([ask(number, temperature=0.0, max_tokens=40) for number in range(9)]):
        prompt = torch.tensor([trace.prompt_ids])
        with torch.no_grad():
            expected = policy.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=40, pad_token_id=0
            )
        assert list(trace.token_ids) == expected[0, prompt.shape[1] :].tolist()


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_logprobs_are_the_training_forwards(engines, kind):
    engine = engines[kind]
    requests = [ask(n, n=2, temperature=0.3 + 0.2 * n, top_p=1 - 0.1 * n, top_k=9 * (n % 2)) for n in range(5)]
    for traces in engine.sample_all(requests):
        for trace in traces:
            assert len(trace.logprobs) == len(trace.token_ids)
            difference = torch.tensor(trace.logprobs) - scored(policy_of(engine), trace)
            assert difference.abs().max() <= 1e-4


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_alone_or_among_two_hundred_the_same_tokens_and_logprobs(engines, kind):
    engine = engines[kind]
    requests = [ask(number, n=3, max_tokens=10 + number % 30) for number in range(70)]
    together = engine.sample_all(requests)  # 210 samples through 32 slots: refills, moves and copies
    for number in range(0, 70, 7):
        alone = engine.sample_all([requests[number]])[0]
        assert [t.token_ids for t in alone] == [t.token_ids for t in together[number]]
        assert [t.logprobs for t in alone] == [t.logprobs for t in together[number]]
    samples = {trace.token_ids for traces in together for trace in traces}
    assert len(samples) > 150  # the samples of a group differ from each other


def test_prompts_of_any_length_give_the_same_tokens_alone_and_together(engine):
    draw = random.Random(0)
    lengths = [1, 2, 3, 16, 17, 18, 33, 64, 150, 190, 193, 194, 200, 215, 260, 300, 305]
    prompts = [tuple(draw.randrange(300) for _ in range(length)) for length in lengths]
    requests = [Request(token_ids=p, sampling=Sampling(temperature=1.0, max_tokens=6, seed=4)) for p in prompts]
    together = engine.sample_all(requests)
    for request, (trace,) in zip(requests, together, strict=True):
        (alone,) = engine.sample_all([request])[0]
        assert alone.token_ids == trace.token_ids
        assert alone.logprobs == trace.logprobs


def test_sliding_window_and_many_query_heads(tokenizer, tmp_path, native):
    import transformers

    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=8, sliding_window=8, max_position_embeddings=128, initializer_range=0.3,
        eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    policy = Policy(transformers.MistralForCausalLM(config).eval(), tokenizer, "mistral")
    engine = LocalEngine(policy, slots=4, native=native)
    for (trace,) in engine.sample_all([ask(number, temperature=0.7) for number in range(6)]):
        assert trace.prompt_tokens > 8
        difference = torch.tensor(trace.logprobs) - scored(policy, trace)
        assert difference.abs().max() <= 1e-4


def test_the_trace_is_whole(engine):
    policy = policy_of(engine)
    for prefill in ("", "Let me see. ", "A thought.\n</think>\n\nThe answer"):
        for trace in engine.sample_all([ask(5, n=8, prefill=prefill, max_tokens=60)])[0]:
            rendered = policy.render(ask(5).messages, prefill)
            assert trace.prompt_ids == rendered.ids
            assert trace.opened == "<think>\n" + prefill
            ended = trace.token_ids[-1] in policy.eos_ids
            assert ended == (trace.finish == "stop")
            assert trace.completion == policy.decode(trace.token_ids[: len(trace.token_ids) - ended])
            assert trace.thinking_tokens + trace.answer_tokens == len(trace.token_ids)
            if "</think>" not in prefill:
                splitter = counted(policy, trace)
                assert trace.thinking_status == splitter.status
                assert trace.answer == splitter.answer
                if splitter.status == "closed":
                    assert trace.thinking_tokens == splitter.thinking_tokens
            else:
                assert trace.thinking == "A thought."
                assert trace.answer.startswith("The answer")
                assert trace.thinking_tokens == 0
            assert trace.seconds > 0
            assert trace.model == policy.name


def test_token_ids_in_are_what_the_messages_render_to(engine):
    (by_text,) = engine.sample_all([ask(3)])[0]
    (by_ids,) = engine.sample_all([Request(token_ids=by_text.prompt_ids, sampling=ask(3).sampling)])[0]
    assert by_ids.token_ids == by_text.token_ids
    assert by_ids.opened == by_text.opened
    # Continuing from any token of a trace continues the trace, greedily.
    (greedy,) = engine.sample_all([ask(3, temperature=0.0)])[0]
    prompt = greedy.prompt_ids + greedy.token_ids[:7]
    (rest,) = engine.sample_all([Request(token_ids=prompt, sampling=Sampling(temperature=0.0, max_tokens=17))])[0]
    assert rest.token_ids == greedy.token_ids[7:]
    assert rest.thinking == greedy.thinking


def test_stop_strings_cut_the_text_and_not_the_tokens(engine):
    policy = policy_of(engine)
    (free,) = engine.sample_all([ask(1, max_tokens=40)])[0]
    for length in (1, 2, 5):
        pieces = (free.completion[start : start + length] for start in range(3, len(free.completion) - length, 9))
        stops = [stop for stop in pieces if "\ufffd" not in stop]
        stopped = engine.sample_all([ask(1, max_tokens=40, stop=("never so", stop)) for stop in stops])
        for stop, (trace,) in zip(stops, stopped, strict=True):
            assert trace.finish == "stop"
            assert trace.completion == free.completion[: free.completion.index(stop)]
            assert trace.token_ids == free.token_ids[: len(trace.token_ids)]
            assert stop in policy.decode(trace.token_ids)
            assert stop not in policy.decode(trace.token_ids[:-1])


def test_a_thinking_budget_forces_the_end_tag(engine):
    policy = policy_of(engine)
    closing = policy.tokenizer("\n</think>", add_special_tokens=False)["input_ids"]
    free = [traces[0] for traces in engine.sample_all([ask(n, max_tokens=50) for n in range(12)])]
    for budget in (0, 1, 7):
        forced = engine.sample_all([ask(n, max_tokens=50, max_thinking_tokens=budget) for n in range(12)])
        for before, (trace,) in zip(free, forced, strict=True):
            if before.thinking_tokens <= budget:
                assert trace.token_ids == before.token_ids
                continue
            assert trace.token_ids[:budget] == before.token_ids[:budget]
            assert list(trace.token_ids[budget : budget + len(closing)]) == closing
            assert trace.thinking_status == "closed"
            assert trace.thinking_tokens == counted(policy, trace).thinking_tokens >= budget + len(closing)
            assert trace.finish in ("stop", "length")
            difference = torch.tensor(trace.logprobs) - scored(policy, trace)
            assert difference.abs().max() <= 1e-4
    (cut,) = engine.sample_all([ask(2, max_tokens=8, max_thinking_tokens=7)])[0]
    assert cut.finish == ("budget" if free[2].thinking_tokens > 7 else free[2].finish)


def test_a_sentence_closes_the_thought(engine):
    policy = policy_of(engine)
    words, tag = (
        policy.tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Time is up.", "\n</think>")
    )
    for number in range(6):
        (trace,) = engine.sample_all([ask(number, max_tokens=60, max_thinking_tokens=3, closing="Time is up.")])[0]
        (free,) = engine.sample_all([ask(number, max_tokens=60)])[0]
        if free.thinking_tokens <= 3:
            assert trace.forced == ()
            continue
        assert list(trace.token_ids[3 : 3 + len(words) + len(tag)]) == [*words, *tag]
        assert trace.forced == tuple(range(3, 3 + len(words) + len(tag)))
        assert trace.thinking.endswith("Time is up.")


def test_a_minimum_of_thinking_withholds_the_end(engine):
    policy = policy_of(engine)
    requests = [ask(n, n=4, max_tokens=60, min_thinking_tokens=40, temperature=1.5, wait="") for n in range(8)]
    for traces in engine.sample_all(requests):
        for trace in traces:
            assert trace.thinking_tokens >= 40
            assert trace.forced == ()
            assert not policy.eos_ids & set(trace.token_ids[:40])


def test_a_minimum_of_thinking_puts_wait_where_the_model_would_end(engine):
    """Up to the first end that it draws, a row is as it is without a minimum; there stands the text instead."""
    policy = policy_of(engine)
    wait = tuple(policy.tokenizer("Wait, no", add_special_tokens=False)["input_ids"])
    sampling = {"n": 16, "max_tokens": 60, "temperature": 1.5}
    free = engine.sample_all([ask(n, **sampling) for n in range(8)])
    bound = engine.sample_all([ask(n, **sampling, min_thinking_tokens=40, wait="Wait, no") for n in range(8)])
    waited = 0
    for before, trace in zip((t for ts in free for t in ts), (t for ts in bound for t in ts), strict=True):
        assert trace.thinking_tokens >= 40
        assert not policy.eos_ids & set(trace.token_ids[:40])
        same = next(
            (i for i, pair in enumerate(zip(before.token_ids, trace.token_ids, strict=False)) if len(set(pair)) > 1), 60
        )
        assert trace.forced == () or trace.forced[0] == same
        if trace.forced:
            first = tuple(trace.token_ids[position] for position in trace.forced[: len(wait)])
            assert first == wait[: len(first)]
            waited += 1
    assert waited > 3


def test_stop_ids_end_a_completion(engine):
    policy = policy_of(engine)
    (free,) = engine.sample_all([ask(3, max_tokens=40)])[0]
    number = free.token_ids[10]
    (trace,) = engine.sample_all([ask(3, max_tokens=40, stop_ids=(number,))])[0]
    assert trace.token_ids == free.token_ids[: free.token_ids.index(number) + 1]
    assert trace.finish == "stop"
    assert trace.completion == policy.decode(trace.token_ids[:-1])


def test_the_repetition_penalty_equals_generates(engine):
    policy = policy_of(engine)
    for number in range(4):
        (trace,) = engine.sample_all([ask(number, temperature=0.0, max_tokens=40, repetition_penalty=1.3)])[0]
        ids = torch.tensor([trace.prompt_ids])
        made = policy.model.generate(
            ids, max_new_tokens=40, do_sample=False, repetition_penalty=1.3, attention_mask=torch.ones_like(ids)
        )[0, ids.shape[1] :].tolist()
        assert list(trace.token_ids) == made[: len(trace.token_ids)]


def test_penalties_do_not_leak_between_neighbours(engine):
    """Rows come, end and are moved; each penalty is for its own row's tokens."""
    mixed = [ask(n, n=3, max_tokens=5 + 7 * n, repetition_penalty=1.0 + 0.4 * (n % 3)) for n in range(9)]
    together = engine.sample_all(mixed)
    for request, traces in zip(mixed, together, strict=True):
        assert [t.token_ids for t in engine.sample_all([request])[0]] == [t.token_ids for t in traces]


def test_the_likeliest_tokens_are_told_where_that_is_asked_for(engine):
    some, none = engine.sample_all([ask(1, n=3, top_logprobs=4), ask(2, n=3)])
    assert all(trace.top_logprobs is None for trace in none)
    for trace in some:
        assert trace.top_logprobs is not None
        assert [len(each) for each in trace.top_logprobs] == [4] * len(trace.token_ids)
        for token, logprob, best in zip(trace.token_ids, trace.logprobs, trace.top_logprobs, strict=True):
            assert [p for _, p in best] == sorted((p for _, p in best), reverse=True)
            assert logprob <= best[0][1]
            assert dict(best).get(token, logprob) == logprob


def test_context_and_length_ends(engine):
    policy = policy_of(engine)
    room = policy.context_length
    long = tuple([7] * (room - 3))
    (near,) = engine.sample_all([Request(token_ids=long, sampling=Sampling(max_tokens=99, seed=2))])[0]
    assert len(near.token_ids) <= 3
    assert near.finish in ("length", "stop")
    full, fine = engine.sample_all([Request(token_ids=(*long, 7, 7, 7)), ask(4)])
    assert full[0].finish == "error"
    assert str(room) in full[0].error
    assert not full[0].token_ids
    assert fine[0].finish != "error"


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"top_k": -1},
        {"min_p": 2},
        {"max_tokens": 0},
        {"max_thinking_tokens": -1},
        {"repetition_penalty": 0.0},
        {"top_logprobs": -1},
    ],
)
def test_numbers_that_mean_nothing(engine, sampling):
    with pytest.raises(UserError):
        engine.sample_all([ask(1), ask(2, **sampling)])
    assert engine.room == 64


def test_ids_that_the_model_does_not_have(engine):
    for ids in ((5, 10**6), (-1, 5)):
        with pytest.raises(UserError, match="ids"):
            engine.sample_all([Request(token_ids=ids)])


def test_a_step_of_training_shows_in_the_next_sample(checkpoints, native):
    policy = load_policy(str(checkpoints["Qwen2"]), device="cpu")
    engine = LocalEngine(policy, slots=8, native=native)
    policy.model.train()
    (before,) = engine.sample_all([ask(1, temperature=0.0)])[0]
    assert policy.model.training
    assert engine.info.weights_hash == policy.weights_hash()
    ids = torch.tensor([before.prompt_ids + before.token_ids])
    where = torch.zeros(ids.shape, dtype=torch.bool)
    where[:, before.prompt_tokens :] = True
    optimizer = torch.optim.SGD(policy.model.parameters(), lr=0.5)
    for _ in range(3):  # make what it said unlikely
        optimizer.zero_grad()
        policy.logprobs(ids, where).logprobs_BT.sum().div(24).exp().mul(100).backward()
        assert all(p.grad is not None for p in policy.model.parameters())
        optimizer.step()
    policy.touch()
    (after,) = engine.sample_all([ask(1, temperature=0.0)])[0]
    assert after.token_ids != before.token_ids
    assert (torch.tensor(after.logprobs) - scored(policy, after)).abs().max() <= 1e-4
    assert engine.info.weights_hash == policy.weights_hash()


def test_a_trained_model_can_be_saved_and_loaded(engine, native, tmp_path):
    policy = policy_of(engine)
    policy.model.save_pretrained(tmp_path)
    policy.tokenizer.save_pretrained(tmp_path)
    again = LocalEngine(load_policy(str(tmp_path), device="cpu"), native=native)
    assert again.sample_all([ask(1)])[0][0].token_ids == engine.sample_all([ask(1)])[0][0].token_ids
    assert again.info.weights_hash == engine.info.weights_hash


def collect(engine, request):
    async def run():
        return [delta async for delta in engine.stream(request)]

    return asyncio.run(run())


@pytest.mark.parametrize("changes", [{}, {"max_thinking_tokens": 5}, {"stop": ("e", "zz")}, {"min_thinking_tokens": 9}])
def test_a_stream_adds_up_to_the_trace(engine, changes):
    for number in range(6):
        request = ask(number, max_tokens=40, **changes)
        *pieces, last = collect(engine, request)
        assert last.part == "done"
        assert number % 3 or last.trace.token_ids == engine.sample_all([request])[0][0].token_ids
        assert "".join(p.text for p in pieces if p.part == "thinking") == last.trace.thinking
        assert "".join(p.text for p in pieces if p.part == "answer") == last.trace.answer
    with pytest.raises(UserError):
        collect(engine, ask(1, n=2))


def test_sample_stream_and_sample_all_beside_each_other_inside_a_loop(engine):
    async def run():
        expected = [traces[0].token_ids for traces in engine.sample_all([ask(n) for n in range(6)])]
        many = [asyncio.create_task(engine.sample(ask(n, n=2))) for n in range(6)]
        streamed = [delta async for delta in engine.stream(ask(3))]
        got = [traces[0].token_ids for traces in await asyncio.gather(*many)]
        assert got == expected
        assert streamed[-1].trace.token_ids == expected[3]

    asyncio.run(run())
    assert engine.room == 64


def long_request(engine, seed=0):
    """One that does not end by itself: greedy end-of-turn ids are withheld while it thinks."""
    return ask(seed, max_tokens=450, min_thinking_tokens=450)


def test_cancelling_frees_the_slots_and_leaves_the_others_alone(engine):
    async def run():
        expected = await engine.sample(ask(9, max_tokens=100))
        doomed = [asyncio.create_task(engine.sample(long_request(engine, n))) for n in range(40)]
        await asyncio.sleep(0.05)
        survivor = asyncio.create_task(engine.sample(ask(9, max_tokens=100)))
        await asyncio.sleep(0.05)
        for task in doomed:
            task.cancel()
        results = await asyncio.gather(*doomed, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        assert [t.token_ids for t in await survivor] == [t.token_ids for t in expected]
        stream = engine.stream(long_request(engine))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(run())
    deadline = time.monotonic() + 20
    while engine.room < 64 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.room == 64


def test_what_is_asked_for_in_one_turn_of_the_loop_comes_in_at_once(engine, monkeypatch):
    came = []
    enqueue = engine._enqueue
    monkeypatch.setattr(engine, "_enqueue", lambda jobs: (came.append(len(jobs)), enqueue(jobs)))

    async def run():
        return await asyncio.gather(*(engine.sample(ask(number)) for number in range(40)))

    found = asyncio.run(run())
    assert came == [32, 8]  # a batch full, and what is left
    monkeypatch.undo()
    together = engine.sample_all([ask(number) for number in range(40)])
    assert [traces[0].token_ids for traces in found] == [traces[0].token_ids for traces in together]


def test_event_loops_in_several_threads_do_not_wait_for_each_other(engine):
    """A loop that stands still does not hold up what another one asked for."""
    held, found = threading.Event(), []

    async def stands_still():
        task = asyncio.create_task(engine.sample(ask(1)))
        await asyncio.sleep(0)  # it has asked, and its loop does not turn again
        held.wait(60)
        return await task

    async def goes_on():
        found.append(await asyncio.wait_for(engine.sample(ask(2)), 60))

    first = threading.Thread(target=lambda: found.append(asyncio.run(stands_still())))
    second = threading.Thread(target=lambda: asyncio.run(goes_on()))
    first.start()
    second.start()
    second.join(60)
    assert len(found) == 1
    held.set()
    first.join(60)
    assert len(found) == 2


def test_cancelled_before_it_came_in_it_leaves_nothing(engine):
    async def run():
        tasks = [asyncio.create_task(engine.sample(long_request(engine, number))) for number in range(5)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    deadline = time.monotonic() + 20
    while engine.room < 64 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.room == 64


def test_ctrl_c_while_waiting_cancels_and_leaves_the_engine_usable(engine):
    expected = engine.sample_all([ask(1)])[0][0].token_ids

    def press():
        deadline = time.monotonic() + 20
        while engine.room == 64 and time.monotonic() < deadline:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        engine.sample_all([long_request(engine, n) for n in range(40)])
    thread.join()
    assert engine.sample_all([ask(1)])[0][0].token_ids == expected
    deadline = time.monotonic() + 20
    while engine.room < 64 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.room == 64


def test_an_error_in_one_request_is_its_own(engines, monkeypatch):
    engine = engines["Llama"]
    poisoned = policy_of(engine).render(ask(1).messages).ids
    expected = engine.sample_all([ask(2), ask(3)])
    road = type(engine._batch._road)
    real = road.write

    def write(self, prompts):
        if any(prompt.ids == poisoned for prompt in prompts):
            raise RuntimeError("out of luck")
        real(self, prompts)

    monkeypatch.setattr(road, "write", write)
    bad, *good = engine.sample_all([ask(1, n=2), ask(2), ask(3)])
    assert [t.finish for t in bad] == ["error", "error"]
    assert "out of luck" in bad[0].error
    assert [t[0].token_ids for t in good] == [t[0].token_ids for t in expected]


def test_weights_that_are_not_numbers_give_an_error_and_no_hang(checkpoints, native):
    policy = load_policy(str(checkpoints["Qwen3"]), device="cpu")
    engine = LocalEngine(policy, slots=4, native=native)
    with torch.no_grad():
        next(policy.model.parameters())[:] = torch.nan
    traces = engine.sample_all([ask(n, n=3) for n in range(3)])
    assert {trace.finish for group in traces for trace in group} == {"error"}
    assert "finite" in traces[0][0].error


def test_a_row_that_is_not_a_number_leaves_nothing_behind(checkpoints, native):
    policy = load_policy(str(checkpoints["Qwen3"]), device="cpu")
    engine = LocalEngine(policy, slots=4, native=native)
    short = Request(token_ids=(5, 6), sampling=Sampling(seed=1, max_tokens=10))
    expected = engine.sample_all([short] * 4)
    table = policy.model.get_input_embeddings().weight
    with torch.no_grad():
        kept = table[9].clone()
        table[9] = torch.nan
        poisoned = Request(token_ids=(9,) * 30, sampling=Sampling(max_tokens=10))
        bad = engine.sample_all([poisoned] * 4)
        table[9] = kept
    assert {group[0].finish for group in bad} == {"error"}
    assert [g[0].token_ids for g in engine.sample_all([short] * 4)] == [g[0].token_ids for g in expected]


def test_a_small_budget_of_memory_makes_requests_wait(engine, native, monkeypatch):
    requests = [ask(n, n=2) for n in range(12)]
    expected = engine.sample_all(requests)
    monkeypatch.setattr("thinksmith.engines.local.batch.free_bytes", lambda device: 1)
    tight = LocalEngine(policy_of(engine), slots=32, native=native)
    assert [[t.token_ids for t in g] for g in tight.sample_all(requests)] == [
        [t.token_ids for t in g] for g in expected
    ]
    pool = tight._batch._road.pool
    assert pool.size == pool.free < 32


def test_closing_and_releasing(checkpoints):
    engine = LocalEngine(load_policy(str(checkpoints["Qwen2"]), device="cpu"), slots=4)
    assert isinstance(engine, Engine)
    first = engine.sample_all([ask(1)])
    engine.release()
    assert engine.sample_all([ask(1)])[0][0].token_ids == first[0][0].token_ids
    failed: list[BaseException] = []

    def wait():
        try:
            engine.sample_all([long_request(engine)])
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    while engine.room == 8 and thread.is_alive():
        time.sleep(0.001)
    asyncio.run(engine.aclose())
    thread.join(20)
    assert not thread.is_alive()
    assert failed
    with pytest.raises(RuntimeError, match="closed"):
        engine.sample_all([ask(1)])


def test_names_of_engines(checkpoints):
    assert open_engine(str(checkpoints["Llama"]), device="cpu", slots=3).room == 6
    with pytest.raises(UserError, match="did you mean tiny"):
        open_engine("tinie")
    with pytest.raises(UserError, match="slots"):
        open_engine(str(checkpoints["Llama"]), slots=0)
