"""Long prompts, prompts that begin alike, and too little memory: none of it changes what a request gets."""

from __future__ import annotations

import asyncio
import random
import warnings
from itertools import pairwise

import pytest
import torch
import transformers

from thinksmith.engines.local import batch as batches
from thinksmith.engines.local.cache import BLOCK, blocks_for
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.engines.local.prompts import PIECE, Prompt, together
from thinksmith.policy.policy import Policy
from thinksmith.records import Request, Sampling


@pytest.fixture(scope="module")
def policy(tokenizer):
    """Random weights and a context of 4,096 tokens; the second layer looks through a window."""
    torch.manual_seed(3)
    config = transformers.Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=4096, initializer_range=0.3, use_sliding_window=True,
        sliding_window=300, max_window_layers=1, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return Policy(transformers.Qwen2ForCausalLM(config).eval(), tokenizer, "long")


@pytest.fixture(params=[True, False], ids=["native", "transformers"])
def native(request):
    return request.param


@pytest.fixture
def engine(policy, native):
    engine = LocalEngine(policy, slots=16, native=native)
    yield engine
    engine.close()


def prompt(length: int, seed: int = 0, beginning: tuple[int, ...] = ()) -> tuple[int, ...]:
    draw = random.Random(seed)
    return (*beginning, *(draw.randrange(5, 300) for _ in range(length - len(beginning))))


def request(ids: tuple[int, ...], n: int = 1, **sampling) -> Request:
    return Request(
        token_ids=ids, n=n, sampling=Sampling(**({"temperature": 1.0, "max_tokens": 8, "seed": 4} | sampling))
    )


def drawn(groups):
    return [[(trace.token_ids, trace.logprobs) for trace in traces] for traces in groups]


LENGTHS = (3, 200, PIECE, PIECE + 1, PIECE + 2, 700, 2 * PIECE + 1, 1500)


def test_log_probs_of_long_prompts_are_the_training_forwards(engine, policy):
    for (trace,) in engine.sample_all([request(prompt(length)) for length in LENGTHS]):
        ids = torch.tensor([trace.prompt_ids + trace.token_ids])
        where = torch.zeros(ids.shape, dtype=torch.bool)
        where[:, trace.prompt_tokens :] = True
        with torch.no_grad():
            expected = policy.logprobs(ids, where).logprobs_BT[0, trace.prompt_tokens :]
        assert (torch.tensor(trace.logprobs) - expected).abs().max() <= 1e-4


def test_long_prompts_alone_together_and_while_others_are_decoded(policy, native):
    requests = [request(prompt(length, seed), n=2) for seed, length in enumerate(LENGTHS)]
    alone = []
    for each in requests:
        engine = LocalEngine(policy, slots=16, native=native)
        alone += drawn(engine.sample_all([each]))
        engine.close()
    together = LocalEngine(policy, slots=16, native=native)
    assert drawn(together.sample_all(requests)) == alone
    together.close()

    async def one_after_the_other() -> list:
        engine = LocalEngine(policy, slots=32, native=native)
        busy = asyncio.create_task(engine.sample(request(prompt(5, 99), n=4, max_tokens=400)))
        tasks = []
        for each in requests:
            tasks.append(asyncio.create_task(engine.sample(each)))
            await asyncio.sleep(0.01)
        found = [await task for task in tasks]
        busy.cancel()
        await engine.aclose()
        return found

    assert drawn(asyncio.run(one_after_the_other())) == alone


def test_a_long_prompt_does_not_stop_those_that_are_decoded(engine, monkeypatch):
    """Between two passes over pieces of the long prompt, the short one gets its next token."""
    events = []
    write, step = batches.Batch._write, batches.Batch.step
    monkeypatch.setattr(batches, "STALL", PIECE)
    monkeypatch.setattr(batches.Batch, "_write", lambda self, g: (events.append(len(g[0].ids)), write(self, g))[1])
    monkeypatch.setattr(batches.Batch, "step", lambda self, w: (events.append(0), step(self, w))[1])

    async def both() -> None:
        short = asyncio.create_task(engine.sample(request(prompt(5), max_tokens=600, stop_ids=())))
        while events.count(0) < 3 and not short.done():
            await asyncio.sleep(0.001)
        await engine.sample(request(prompt(4 * PIECE, 1)))
        short.cancel()

    asyncio.run(both())
    pieces = [index for index, event in enumerate(events) if event == 4 * PIECE]
    assert len(pieces) == 4
    assert all(0 in events[one:other] for one, other in pairwise(pieces))


def test_a_common_beginning_is_computed_once(engine, policy, native):
    common = prompt(2 * PIECE + 50)
    requests = [request(prompt(2 * PIECE + 100 + 40 * seed, seed, common), n=2) for seed in range(4)]
    fresh = []
    for each in requests:
        other = LocalEngine(policy, slots=16, native=native)
        fresh += drawn(other.sample_all([each]))
        other.close()
    engine.sample_all([requests[0]])
    store = engine._batch._prefixes
    store.clear()
    found = [drawn(engine.sample_all([each]))[0] for each in requests]
    assert found == fresh  # bit for bit
    assert store.hits == 2 * 3
    assert store.blocks > 0
    # Its keys and values were those of other weights once these have changed, whoever changed them.
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[7] += 1e-3
    engine.sample_all([requests[0]])
    assert store.hits == 2 * 3
    engine.release()
    assert store.blocks == 0


def test_the_store_of_beginnings_keeps_to_its_limit(engine):
    engine.sample_all([request(prompt(PIECE + 9))])
    store, piece = engine._batch._prefixes, PIECE // BLOCK
    assert store.blocks == piece
    store.limit = int(2.5 * piece)
    for seed in range(5):
        engine.sample_all([request(prompt(PIECE + 9, seed))])
    assert store.blocks == 2 * piece


def test_kept_beginnings_go_when_their_blocks_are_needed(engine, monkeypatch):
    pool_of = lambda: engine._batch._road.pool  # noqa: E731
    expected = drawn(engine.sample_all([request(prompt(900, 50), n=6, max_tokens=40)]))
    engine.release()
    monkeypatch.setattr(engine._batch, "_budget", lambda: blocks_for(900) + 6 * blocks_for(40) + PIECE // BLOCK)
    monkeypatch.setattr(batches, "PREFIX_SHARE", 1.0)
    engine.sample_all([request(prompt(PIECE + 9, seed)) for seed in range(3)])
    assert engine._batch._prefixes.blocks > 0
    assert drawn(engine.sample_all([request(prompt(900, 50), n=6, max_tokens=40)])) == expected
    assert pool_of().free + engine._batch._prefixes.blocks == pool_of().size


def test_passes_hold_every_piece_once_and_pad_only_what_is_small():
    fills = [Prompt(prompt(length), []) for length in (2, 5, 30, 180, 200, 230, 400) for _ in range(2)]
    fills += [Prompt(prompt(length), [], done=PIECE) for length in (PIECE + 20, PIECE + 33, PIECE + 20)]
    passes = together(fills, tokens=8192, padded=192, enough=1024)
    assert sorted(id(fill) for group in passes for fill in group) == sorted(map(id, fills))
    for group in passes:
        assert len({fill.done for fill in group}) == 1
        widths = {fill.width for fill in group}
        assert len(widths) == 1 or (max(widths) <= 192 and group[0].done == 0)


@pytest.mark.parametrize("blocks", [16, 60, 120, 10**5])
def test_too_little_memory_changes_nothing_but_the_time(policy, native, monkeypatch, blocks):
    """With room for so many blocks, rows are put back while they run, and begin again."""
    requests = [request(prompt(9 + seed, seed), n=4, max_tokens=40 + 15 * seed, seed=seed) for seed in range(12)]
    roomy = LocalEngine(policy, slots=16, native=native)
    expected = drawn(roomy.sample_all(requests))
    roomy.close()
    put_back = []
    original = batches.Batch._put_back
    monkeypatch.setattr(
        batches.Batch, "_put_back", lambda s, rows, w: (put_back.append(len(rows)), original(s, rows, w))[1]
    )
    monkeypatch.setattr(batches, "TYPICAL", 8.0)  # it foresees short completions and finds long ones
    tight = LocalEngine(policy, slots=48, native=native)
    monkeypatch.setattr(tight._batch, "_budget", lambda: blocks)
    assert drawn(tight.sample_all(requests)) == expected
    assert bool(put_back) == (blocks < 10**5)
    pool = tight._batch._road.pool
    assert pool.size <= max(blocks, blocks_for(20) + blocks_for(205))
    assert pool.free == pool.size  # nothing is lost
    tight.close()


def test_a_stream_that_begins_again_tells_nothing_twice(engine, monkeypatch):
    step, calls = batches.Batch.step, []

    def fails_once(self, *arguments):
        calls.append(len(self.rows))
        if len(calls) == 20:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, *arguments)

    monkeypatch.setattr(batches.Batch, "step", fails_once)

    async def listen() -> tuple[list[str], str]:
        other = asyncio.create_task(engine.sample(request(prompt(7), n=3, max_tokens=60)))
        pieces = []
        async for delta in engine.stream(request(prompt(6), max_tokens=60)):
            pieces.append(delta.text)
        await other
        return pieces, delta.trace.text

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pieces, text = asyncio.run(listen())
    heard = "".join(pieces)
    assert heard
    assert heard in text
    engine.close()


def test_out_of_memory_means_smaller_batches_and_one_warning(policy, native, monkeypatch):
    requests = [request(prompt(9, seed), n=4, seed=seed, max_tokens=12) for seed in range(4)]
    roomy = LocalEngine(policy, slots=16, native=native)
    expected = drawn(roomy.sample_all(requests))
    roomy.close()
    engine = LocalEngine(policy, slots=16, native=native)
    step = batches.Batch.step

    def more_than_five_do_not_fit(self, waiting):
        if len(self.rows) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return step(self, waiting)

    monkeypatch.setattr(batches.Batch, "step", more_than_five_do_not_fit)
    with pytest.warns(RuntimeWarning, match="smaller batches") as told:
        assert drawn(engine.sample_all(requests)) == expected
    assert len(told) == 1
    monkeypatch.setattr(batches.Batch, "step", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
    (alone,) = engine.sample_all([request(prompt(4))])[0]
    assert alone.finish == "error"
    assert "full" in alone.error
    engine.close()


def poisoned(policy, ids: tuple[int, ...], work):
    """Do some work while the tokens `ids` have an embedding that is not a number."""
    table, rows = policy.model.get_input_embeddings().weight, list(ids)
    with torch.no_grad():
        kept = table[rows].clone()
        table[rows] = torch.nan
        try:
            return work()
        finally:
            table[rows] = kept


def test_a_failed_request_takes_nothing_from_others_with_the_same_beginning(policy, native):
    """One of two that share a stored beginning has logits that are not finite."""
    common = prompt(PIECE + 40)
    good = request((*common, 301, 302), n=2, max_tokens=60)
    expected = drawn(LocalEngine(policy, slots=16, native=native).sample_all([good]))
    sampled = {token for tokens, _ in expected[0] for token in tokens}
    poison = next(token for token in range(310, 600) if token not in sampled)
    bad = request((*common, poison), max_tokens=60)
    engine = LocalEngine(policy, slots=16, native=native)
    engine.sample_all([request((*common, 304, 305))])  # the beginning is in the store now
    engine._batch._prefixes.use = lambda version: None  # the poison below counts as a change of the weights

    def both():
        return engine.sample_all([good, bad])

    found = poisoned(policy, (poison,), both)
    assert found[1][0].finish == "error"
    assert drawn(found[:1]) == expected
    engine.close()


def test_what_was_cancelled_before_its_first_token_leaves_nothing_behind(policy, native):
    short = Request(token_ids=(5, 6), sampling=Sampling(seed=1, max_tokens=10))
    engine = LocalEngine(policy, slots=16, native=native)
    expected = drawn(engine.sample_all([short] * 6))
    batch = engine._batch
    jobs = [engine._prepare(request((306,) * 300, n=3)) for _ in range(2)]

    def begin():
        waiting = batches.deque(row for job in jobs for row in job.rows)
        with torch.no_grad():
            batch.admit(waiting)
            assert batch.fill() == []
        assert batch.drop(list(batch.rows))

    poisoned(policy, (306,), begin)
    assert drawn(engine.sample_all([short] * 6)) == expected
    engine.close()


def test_a_failure_before_anybody_came_in_is_told_to_one_after_the_other(engine, monkeypatch):
    real, calls = batches.Batch._open, []

    def fails_twice(self, waiting):
        calls.append(len(waiting))
        if len(calls) <= 2:
            raise RuntimeError("no such place")
        real(self, waiting)

    monkeypatch.setattr(batches.Batch, "_open", fails_twice)
    found = engine.sample_all([request(prompt(5 + n), max_tokens=4) for n in range(4)])
    assert [traces[0].finish for traces in found] == ["error", "error", "length", "length"]
    assert "no such place" in found[0][0].error


def test_memory_that_cannot_be_had_is_asked_for_in_smaller_parts(engine, policy, monkeypatch):
    expected = drawn(engine.sample_all([request(prompt(9), n=4, max_tokens=30)]))
    engine.release()
    real, sizes = batches.Batch._open, []

    def refuses(self, waiting):
        real(self, waiting)
        sizes.append(self._road.pool.size)
        if len(sizes) < 4:
            raise MemoryError("Unable to allocate")

    monkeypatch.setattr(batches.Batch, "_open", refuses)
    monkeypatch.setattr(batches, "free_bytes", lambda device: 2**23)
    with pytest.warns(RuntimeWarning, match="smaller batches"):
        assert drawn(engine.sample_all([request(prompt(9), n=4, max_tokens=30)])) == expected
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]


def test_a_request_that_might_need_more_than_there_is_gets_what_it_needs(policy, native, monkeypatch):
    engine = LocalEngine(policy, slots=16, native=native)
    requests = [request(prompt(30, seed), max_tokens=n, seed=seed) for seed, n in enumerate((200, 3000))]
    expected = drawn(engine.sample_all(requests))
    engine.close()
    assert any(len(tokens) > 6 * BLOCK for ((tokens, _),) in expected)
    tight = LocalEngine(policy, slots=16, native=native)
    monkeypatch.setattr(tight._batch, "_budget", lambda: 6)
    assert drawn(tight.sample_all(requests)) == expected
    assert 6 < tight._batch._road.pool.size <= blocks_for(30) + blocks_for(3000)
    tight.close()


def test_the_models_mode_is_back_before_the_traces_are(engine, policy):
    for training in (True, False):
        policy.model.train(training)
        for seed in range(20):
            engine.sample_all([request(prompt(4), max_tokens=2, seed=seed)])
            assert policy.model.training == training
    policy.model.eval()
