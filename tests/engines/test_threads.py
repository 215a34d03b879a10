"""Workers of OpenMP: let go by who will not compute, so that they do not slow down who does."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from thinksmith.engines.local.engine import LocalEngine
from thinksmith.native.threads import _pause, let_go
from thinksmith.policy.load import load_policy
from thinksmith.records import Request, Sampling

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _pause() is None, reason="only GNU's runtime lets a thread's workers go"
)


def threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def computed() -> torch.Tensor:
    return torch.ones(700, 700) @ torch.ones(700, 700)


@pytest.fixture(autouse=True)
def _three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_workers_go_and_come_back_with_the_next_loop() -> None:
    let_go()
    before = threads()
    want = computed()
    assert threads() == before + 2
    let_go()
    assert threads() == before
    let_go()  # there is nobody to let go
    assert torch.equal(computed(), want)
    assert threads() == before + 2


def test_one_thread_s_workers_are_not_another_s() -> None:
    let_go()
    began, may_end = threading.Event(), threading.Event()

    def other() -> None:
        computed()
        began.set()
        may_end.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    began.wait(60)
    computed()
    before = threads()
    let_go()
    assert threads() == before - 2
    may_end.set()
    thread.join()


def test_neither_who_samples_nor_who_waits_keeps_workers(checkpoints: dict[str, Path]) -> None:
    engine = LocalEngine(load_policy(str(checkpoints["Qwen2"])))
    let_go()
    before = threads()
    computed()
    engine.sample_all([Request(token_ids=(1, 2, 3), sampling=Sampling(max_tokens=4), n=2)])
    end = time.monotonic() + 30
    while threads() > before + 1 and time.monotonic() < end:  # the engine's thread ends its work after it has told
        time.sleep(0.001)
    assert threads() <= before + 1
    engine.close()
