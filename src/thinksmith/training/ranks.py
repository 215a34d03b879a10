"""The processes of one training run. Each has its own prompts and a copy of the weights; here they meet.

`torchrun` starts them and says by the environment who is who (RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE,
MASTER_ADDR, MASTER_PORT). Plain data goes over gloo; gradients too, or over NCCL where every process has a GPU.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor

from thinksmith.errors import UserError, one_line

Value = TypeVar("Value")

MEET = timedelta(minutes=5)  # until all have come
# One waits for another as long as that samples or measures. Who is gone is noticed at once, by its closed connection.
WAIT = timedelta(hours=24)
PATIENCE = 2.0  # seconds in which another process may say why its connection was closed
LINGER = 5.0  # seconds that who keeps the store waits for the others to read why it ends
BUCKET = 1 << 24  # elements of gradients that are summed together
LOST = ("connection closed", "connection reset", "broken pipe", "socket", "remote process exited", "timed out waiting")
_TOLD, _READ = "told", "read"


class EndedElsewhere(Exception):
    """The run was ended by another process, which has said why."""


class _Lost(Exception):
    """Another process is gone."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process is `rank` of `size`. All of them must call the same methods in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """The one that writes and tells."""
        return self.rank == 0

    def own(self, values: Sequence[Value]) -> list[Value]:
        """This rank's share of what all ranks have: every `size`-th, so that each stretch of it is shared evenly."""
        return list(values[self.rank :: self.size])

    def gather(self, value: Value) -> list[Value]:
        """Every rank's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Value | None] = [None] * self.size
        with _reaching():
            distributed.all_gather_object(values, value)
        return values  # type: ignore[return-value]

    def joined(self, values: Sequence[Value]) -> list[Value]:
        """Every rank's values, one after the other."""
        return [value for part in self.gather(list(values)) for value in part]

    def by_first(self, make: Callable[[], Value]) -> Value:
        """What the first rank makes; the others wait for it."""
        if self.size == 1:
            return make()
        made: list[Value | None] = [make() if self.first else None]
        with _reaching():
            distributed.broadcast_object_list(made, src=0)
        return made[0]  # type: ignore[return-value]

    def require_same(self, what: str, value: object) -> None:
        """Raises UserError on every rank where they do not all have the same value."""
        values = self.gather(value)
        if any(other != values[0] for other in values):
            raise UserError(
                f"{what} differs between the processes: start all of them with the same recipe, model and run folder"
            )

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Give every rank the sum of all ranks' gradients; one that has none adds nothing.

        Those of sharded parameters were summed in the backward pass. The sum is the same to the last bit everywhere, so
        equal weights stay equal. It is no mean: the loss is divided by what all ranks have.
        """
        if self.size == 1:
            return
        for bucket in _buckets(parameter for parameter in parameters if not isinstance(parameter, DTensor)):
            flat = torch.cat([grad.flatten() for grad in bucket])
            with _reaching():
                distributed.all_reduce(flat)
            for grad, part in zip(bucket, torch.split(flat, [grad.numel() for grad in bucket]), strict=True):
                grad.copy_(part.view_as(grad))


ALONE = Ranks()


@contextmanager
def opened() -> Iterator[Ranks]:
    """The ranks of this run, as the environment says; one where it says nothing.

    Where one of them ends by an exception all end. One alone tells it: on the others it is EndedElsewhere. A process
    that was killed is told as a UserError. Raises UserError where the processes cannot meet.
    """
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    ranks = Ranks(_number("RANK", -1), size)
    if not 0 <= ranks.rank < size:
        raise UserError(f"RANK must be 0 to {size - 1} with WORLD_SIZE={size}: start with torchrun, or set it")
    store = _meet(ranks)
    try:
        yield ranks
    except BaseException as error:
        _leave()  # so that those who wait for us wake up
        raise _told(error, store, ranks) from error.__cause__
    _leave()


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    try:
        return int(text)
    except ValueError:
        raise UserError(f"the environment has {name}={text!r}: it must be a number, as torchrun sets it") from None


def _meet(ranks: Ranks) -> Store:
    """Join the others. The store by which ranks find each other is also where the one that ends says so."""
    try:
        store: Store
        store, _, _ = next(rendezvous("env://", ranks.rank, ranks.size, timeout=MEET))
        store.set(f"gpu/{ranks.rank}", "yes" if _has_gpu() else "no")
        every = all(store.get(f"gpu/{rank}") == b"yes" for rank in range(ranks.size))
        backend = "cpu:gloo,cuda:nccl" if every else "gloo"
        inner = PrefixStore("group", store)
        distributed.init_process_group(backend, store=inner, rank=ranks.rank, world_size=ranks.size, timeout=WAIT)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"the {ranks.size} processes could not meet at {os.environ.get('MASTER_ADDR')}:"
            f"{os.environ.get('MASTER_PORT')} ({one_line(error)}): start them with torchrun"
        ) from None
    return store


def _has_gpu() -> bool:
    """Is there a GPU for this process alone? Where there are any it is made the one to use."""
    if not torch.cuda.is_available():
        return False
    local, count = _number("LOCAL_RANK", _number("RANK", 0)), torch.cuda.device_count()
    torch.cuda.set_device(local % count)
    return _number("LOCAL_WORLD_SIZE", _number("WORLD_SIZE", 1)) <= count


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _told(error: BaseException, store: Store, ranks: Ranks) -> BaseException:
    """What to raise: on the rank that is first to tell, the reason why the run ends; else EndedElsewhere."""
    lost = isinstance(error, _Lost) or _is_lost(error)
    try:
        if lost:
            _until(lambda: store.check([_TOLD]), PATIENCE)  # in vain where it was killed
        mine = store.add(_TOLD, 1) == 1
        if mine and ranks.first:
            _until(lambda: store.add(_READ, 0) >= ranks.size - 1, LINGER)
        elif not mine:
            store.add(_READ, 1)
    except RuntimeError:  # who kept the store is gone
        mine = lost and ranks.rank == 1
    if not mine:
        return EndedElsewhere()
    if lost:
        return UserError("another process of this run was killed or cannot be reached; the last checkpoint is kept")
    return error


def _until(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.05)


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if _is_lost(error):
            raise _Lost from error
        raise


def _is_lost(error: BaseException) -> bool:
    """torch says in words that a connection is gone."""
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(word in text for word in LOST)


def _buckets(parameters: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Gradients of one kind each, at most `BUCKET` elements together where there is more than one."""
    open_: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        bucket = open_.setdefault((parameter.grad.dtype, parameter.grad.device), [])
        if bucket and sum(grad.numel() for grad in bucket) + parameter.grad.numel() > BUCKET:
            yield list(bucket)
            bucket.clear()
        bucket.append(parameter.grad)
    yield from (bucket for bucket in open_.values() if bucket)
