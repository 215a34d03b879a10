"""What idle OpenMP workers cost: sampling by the engine's thread, and a training pass in the caller's, while workers of
the other thread are kept, and while they are let go (`native/threads.py`).

Kept and let go in turns in one process, `tiny`, as many threads as torch takes by itself. A rollout is 32 problems × 8
samples of at most 224 tokens; an update is forward and backward over 16 rows of 128 tokens. Wall seconds, medians; each
turn begins with a product in the caller's thread, so that it has workers. `pause_us`: one letting go, with the new
workers of the loop after it.

    python bench/threads.py [--quick]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from _result import finish
from thinksmith.engines.local import engine as module
from thinksmith.engines.local.engine import LocalEngine
from thinksmith.native.threads import let_go
from thinksmith.policy.load import load_policy
from thinksmith.policy.policy import Policy
from thinksmith.problems.load import load
from thinksmith.records import Request, Sampling

GOALS = {"rollout": 1.3}
ROWS, LENGTH = 16, 128


@contextmanager
def keeping_workers() -> Iterator[None]:
    """The engine lets nobody's workers go."""
    own, module.let_go = module.let_go, lambda: None
    try:
        yield
    finally:
        module.let_go = own


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def update(policy: Policy, ids: torch.Tensor) -> None:
    where = torch.ones_like(ids, dtype=torch.bool)
    where[:, 0] = False
    policy.logprobs(ids, where).logprobs_BT.sum().backward()  # type: ignore[no-untyped-call]
    policy.model.zero_grad()


def turn(policy: Policy, engine: LocalEngine, requests: list[Request], ids: torch.Tensor) -> tuple[float, float]:
    """Seconds of a rollout, and of the update right after it."""
    product = torch.ones(600, 600)
    torch.mm(product, product)
    return seconds(lambda: engine.sample_all(requests)), seconds(lambda: update(policy, ids))


def pause() -> float:
    """Microseconds."""
    product = torch.ones(400, 400)

    def both() -> None:
        torch.mm(product, product)
        let_go()

    def alone() -> None:
        torch.mm(product, product)

    with_it, without = ([seconds(work) for _ in range(300)] for work in (both, alone))
    return 1e6 * (statistics.median(with_it) - statistics.median(without))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 turns instead of 15")
    turns = 3 if parser.parse_args().quick else 15
    policy = load_policy("tiny")
    engine = LocalEngine(policy)
    sampling = Sampling(temperature=1.0, max_tokens=224)
    requests = [Request(messages=each.messages, sampling=sampling, n=8) for each in load("mixed", 32, seed=0)]
    ids = torch.randint(3, policy.vocab_size, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    turn(policy, engine, requests, ids)
    kept, gone = [], []
    for _ in range(turns):
        with keeping_workers():
            kept.append(turn(policy, engine, requests, ids))
        gone.append(turn(policy, engine, requests, ids))
        time.sleep(2 * module.LINGER)  # the engine's thread ends, and its kept workers with it
    engine.close()
    figures: dict[str, float] = {"threads": torch.get_num_threads()}
    for at, name in enumerate(("rollout", "update")):
        before, after = (statistics.median(each[at] for each in side) for side in (kept, gone))
        figures |= {f"{name}_kept_s": round(before, 4), f"{name}_let_go_s": round(after, 4)}
        figures[name] = round(before / after, 2)
        print(
            f"{name}: {before:.3f} s with workers kept, {after:.3f} s without: {before / after:.2f} times", flush=True
        )
    figures["pause_us"] = round(pause(), 1)
    finish("threads", figures, GOALS, figures["rollout"] >= GOALS["rollout"])


if __name__ == "__main__":
    main()
