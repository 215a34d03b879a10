"""The batch: rows that are decoded together, one token a step, on the policy's live weights.

It decides who is in it and whose memory is whose; how a pass is computed is the road's affair. Row i of the batch is
slot i: where a row ends, the last one takes its place, so a step works on the first slots and on nothing else.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import accumulate, islice, repeat

import torch

from thinksmith.engines.local.cache import BLOCK, blocks_for
from thinksmith.engines.local.memory import out_of_memory
from thinksmith.engines.local.native.road import NativeRoad
from thinksmith.engines.local.prompts import PIECE, PrefixStore, Prompt
from thinksmith.engines.local.road import LEAST, Road, TransformersRoad
from thinksmith.engines.local.rows import Row
from thinksmith.engines.local.sampler import Drawn
from thinksmith.engines.local.slots import Slots
from thinksmith.fit.memory.free import free_bytes
from thinksmith.fit.memory.inference import local_token_numbers
from thinksmith.fit.rounding import round_up
from thinksmith.policy.policy import Policy

STALL = 1024  # tokens of prompts that are written between two steps while rows are decoded
MEMORY_SHARE = 0.5  # of what is free, for keys and values,
LEAST_SHARE = 1e-4  # at least, after it turned out to be too much,
PREFIX_SHARE = 0.125  # an eighth of it at most for the beginnings of earlier prompts
TYPICAL = 256.0  # tokens of a completion, before any has ended


class Batch:
    """At most `slots` rows. Not safe for threads: one thread owns it."""

    def __init__(self, policy: Policy, slots: int, native: bool = True, graphs: bool = True) -> None:
        self._policy = policy
        self._limit = slots
        self._native = native
        self._graphs = graphs
        self._road: Road = TransformersRoad(policy, graphs)
        self._slots = Slots(policy, round_up(slots, LEAST))
        self._prefixes = PrefixStore(self._road.pool)
        self._prompts: dict[tuple[int, ...], Prompt] = {}  # of the rows in the batch
        self._typical = TYPICAL
        self._share = MEMORY_SHARE
        self._most = 0  # blocks that the pool may have, as measured when it was opened
        self._full = False  # rows had to go: admit none until one has ended
        self._alone = False  # the only row had to go
        self.rows: list[Row] = []

    @property
    def memory(self) -> int:
        """Bytes that its buffers take now, beside the weights."""
        return self._road.pool.bytes + self._road.bytes

    def admit(self, waiting: deque[Row]) -> None:
        """Move rows from the queue's front into free slots."""
        if not self.rows and waiting:
            self._open(waiting)
        new = self._take(waiting)
        if not new:
            return
        start = len(self.rows)
        self.rows += new  # before anything can fail: who is in no list is lost
        for slot, row in enumerate(new, start):
            row.slot = slot
        for row in new:
            row.source = self._prompts.get(row.job.prompt) or self._begin(row.job.prompt)
            row.source.rows.append(row)
            row.blocks = list(row.source.blocks)
        self._slots.write(new, start)
        self._slots.mark(new)

    def fill(self) -> list[Row]:
        """Write prompts: all of them while nothing is decoded, else a few pieces, so that a step is not held up long.
        Returns the rows for which that failed."""
        left = STALL if any(row.ready for row in self.rows) else None
        while (unwritten := self._unwritten()) and (left is None or left > 0):
            first = unwritten[0]
            group = next(group for group in self._road.passes(unwritten) if first in group)
            if left is not None:
                group = [first, *(prompt for prompt in group if prompt is not first)]
                ends = list(accumulate(prompt.width for prompt in group))
                group = group[: max(1, bisect_right(ends, left))]
                left -= ends[len(group) - 1]
            self._write(group)
        return self.drop(row for row in self.rows if row.finish)

    def step(self, waiting: deque[Row]) -> list[Row]:
        """Sample one token for every row whose prompt is written. Returns the rows that ended, which are no longer in
        the batch. Rows for which the memory does not do go back to the queue's front, to begin anew."""
        self._make_room(waiting)
        if not any(row.ready for row in self.rows):
            return []
        drawn = self._road.step(self._slots, self.rows)
        self._slots.advance(len(self.rows), drawn.token_B)
        return self.drop(self._note(drawn))

    def drop(self, ended: Iterable[Row]) -> list[Row]:
        """Take rows out and close the gaps. Returns them."""
        gone = {id(row) for row in ended}
        if not gone:
            return []
        keep = len(self.rows) - len(gone)
        self._full = False
        out = [row for row in self.rows if id(row) in gone]
        holes = [slot for slot, row in enumerate(self.rows[:keep]) if id(row) in gone]
        movers = [slot for slot in range(keep, len(self.rows)) if id(self.rows[slot]) not in gone]
        if holes:
            self._slots.move(movers, holes)
            for source, target in zip(movers, holes, strict=True):
                self.rows[target] = self.rows[source]
                self.rows[target].slot = target
        del self.rows[keep:]
        self._slots.empty(keep)
        for row in out:
            self._leave(row)
            if row.finish in ("stop", "length", "budget"):
                self._typical += (len(row.tokens) - self._typical) / 32
        return out

    def release(self) -> None:
        """Give the memory back; the batch must be empty."""
        self._prefixes.clear()
        self._road.release()
        self._slots.seen = None

    def shrink(self, waiting: deque[Row]) -> bool:
        """The memory did not do: all rows go back to the queue's front, and less at a time will be tried; False if that
        would be too little for anything."""
        if len(self.rows) == 1 or self._share < LEAST_SHARE:
            return False
        if self.rows:
            self._limit = max(1, len(self.rows) // 2)
        self._share /= 2
        self._put_back(list(self.rows), waiting)
        self.release()
        if self._policy.device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    # --- who is in it

    def _open(self, waiting: deque[Row]) -> None:
        """Choose the road, and a pool, before rows come in."""
        native = self._native and NativeRoad.fits(self._policy)
        if native != isinstance(self._road, NativeRoad):
            self.release()
            self._road = NativeRoad(self._policy) if native else TransformersRoad(self._policy, self._graphs)
            self._prefixes = PrefixStore(self._road.pool)
        pool = self._road.pool
        wanted = self._wanted(waiting)
        if not pool.size or (wanted > pool.size and (pool.size < self._most or self._alone)):
            self.release()
            self._most = self._budget()
            # A row that was alone and had too little gets what it can use, whatever was thought of the memory.
            pool.open(max(min(wanted, self._most), wanted if self._alone else _need(waiting[0], BLOCK)))
            self._prefixes.limit = int(pool.size * PREFIX_SHARE)
        self._alone = False
        self._road.open()

    def _wanted(self, waiting: deque[Row]) -> int:
        """Blocks that rows can use. On a CPU a pool costs nothing until it is written to: it is for all to come."""
        if self._alone:
            return _need(waiting[0], waiting[0].limit)
        if self._policy.device.type == "cpu":
            return self._limit * (blocks_for(self._policy.context_length) + 1)
        rows = list(islice(waiting, self._limit))
        prompts = {row.job.prompt for row in rows}
        return sum(blocks_for(row.limit) for row in rows) + sum(blocks_for(len(prompt) - 1) for prompt in prompts)

    def _budget(self) -> int:
        """Blocks that keys and values may take."""
        return int(free_bytes(self._policy.device) * self._share) // (BLOCK * self._token_bytes())

    def _token_bytes(self) -> int:
        """Keys and values of one token."""
        return self._token_numbers * int(self._policy.model.dtype.itemsize)

    @cached_property
    def _token_numbers(self) -> int:
        return local_token_numbers(self._policy.model.config.to_dict())

    def _take(self, waiting: deque[Row]) -> list[Row]:
        """As many rows as there are slots and, as far as can be foreseen, memory for; at least one if the batch is
        empty."""
        free = self._limit - len(self.rows)
        # A refill costs a forward pass, so with many waiting let a few slots come free first.
        if not waiting or free < min(len(waiting), max(1, self._limit // 16)) or (self._full and self.rows):
            return []
        size = self._road.pool.size
        need = sum(self._foreseen(row) for row in self.rows) + sum(len(p.blocks) for p in self._prompts.values())
        known = set(self._prompts)
        new: list[Row] = []
        while waiting and len(new) < free:
            prompt = waiting[0].job.prompt
            need += self._foreseen(waiting[0]) + (0 if prompt in known else blocks_for(len(prompt) - 1))
            if (self.rows or new) and need > size:
                break
            known.add(prompt)
            new.append(waiting.popleft())
        return new

    def _foreseen(self, row: Row) -> int:
        """Blocks of its own that a row will likely need: at most half of all completions are longer than twice their
        mean."""
        return blocks_for(min(row.limit, max(2 * int(self._typical), len(row.tokens) + BLOCK)))

    def _begin(self, ids: tuple[int, ...]) -> Prompt:
        """A prompt that no row has yet, with what is known of it."""
        found: list[int] = []
        if len(ids) > PIECE:
            self._prefixes.use(self._policy.version)
            found = self._prefixes.find(ids)
        more = blocks_for(len(ids) - 1) - len(found)
        self._free_up(more)
        prompt = Prompt(ids, found + self._road.pool.take(more), done=len(found) * BLOCK)
        self._prompts[ids] = prompt
        return prompt

    def _leave(self, row: Row) -> None:
        """Give back what a row had of the pool."""
        prompt, pool = row.source, self._road.pool
        if prompt is None:
            return
        if row.finish == "error":
            self._prefixes.clear()
        prompt.sound |= bool(row.tokens)
        pool.give(row.blocks[len(prompt.blocks) :], wipe=row.finish == "error" or not row.tokens)
        prompt.rows.remove(row)
        if not prompt.rows:
            pool.give(prompt.blocks, wipe=not prompt.sound)
            del self._prompts[prompt.ids]
        row.source, row.blocks = None, []

    def _put_back(self, rows: Sequence[Row], waiting: deque[Row]) -> None:
        out = self.drop(rows)
        for row in out:
            row.restart()
        waiting.extendleft(reversed(out))

    # --- memory for the next step

    def _make_room(self, waiting: deque[Row]) -> None:
        """Give every row that needs one another block. Where they do not do, the rows that have sampled least go back:
        they lose least."""
        while not self._free_up(len(short := self._short())):
            self._alone = len(self.rows) == 1
            self._put_back([self._least()], waiting)
            self._full = bool(self.rows)
        for row, block in zip(short, self._road.pool.take(len(short)), strict=True):
            row.blocks.append(block)
        self._slots.append(short)

    def _short(self) -> list[Row]:
        """Rows whose next token begins a block."""
        return [row for row in self.rows if row.ready and len(row.tokens) % BLOCK == 0]

    def _least(self) -> Row:
        """Of two that sampled as much, the one that came later."""
        return min(reversed(self.rows), key=lambda row: len(row.tokens))

    def _free_up(self, blocks: int) -> bool:
        """Let kept beginnings go until so many blocks are free; are they?"""
        while self._road.pool.free < blocks:
            if not self._prefixes.forget():
                return False
        return True

    # --- prompts

    def _unwritten(self) -> list[Prompt]:
        return [prompt for prompt in self._prompts.values() if prompt.done < prompt.total and not prompt.failed]

    def _write(self, group: Sequence[Prompt]) -> None:
        """Write the next pieces of these prompts. If that fails, find the ones that it fails for."""
        try:
            self._road.write(group)
        except Exception as error:  # whatever it is, it concerns these prompts and no other row
            if out_of_memory(error):
                raise
            if len(group) > 1:
                for prompt in group:
                    self._write([prompt])
                return
            for row in group[0].rows:
                row.end("error", f"{type(error).__name__}: {error}")
            group[0].failed = True
            return
        for prompt in group:
            prompt.done += len(prompt.piece)
            self._prefixes.keep(prompt)
        self._slots.mark([row for prompt in group for row in prompt.rows])

    # --- what was drawn

    def _note(self, drawn: Drawn) -> list[Row]:
        """Write the step's tokens down; return the rows that ended with them."""
        # One transfer a step where nothing was withheld; int64 tokens are exact in float64.
        numbers = torch.stack((drawn.token_B.double(), drawn.logprob_B.double())).tolist()
        swaps = repeat(False) if drawn.swapped_B is None else drawn.swapped_B.tolist()
        eos, ended = self._policy.eos_ids, []
        for row, token, logprob, swapped in zip(self.rows, *numbers, swaps, strict=False):
            if not row.ready:
                continue
            if token < 0:
                row.end("error", "the model's logits are not finite")
            else:
                row.tokens.append(int(token))
                row.logprobs.append(logprob)
                if row.watch is not None:
                    row.watch.after(row, swapped)
                if token in eos or token in row.job.request.sampling.stop_ids:
                    row.end("stop")
                elif row.finish is None and len(row.tokens) >= row.limit:
                    row.end("budget" if row.watch is not None and row.watch.cut_by_budget(row) else "length")
            if row.finish is not None:
                ended.append(row)
        if drawn.top is not None:
            self._note_top(*(numbers.tolist() for numbers in drawn.top))
        return ended

    def _note_top(self, ids: list[list[int]], logprobs: list[list[float]]) -> None:
        for row, best, values in zip(self.rows, ids, logprobs, strict=False):
            wanted = row.job.request.sampling.top_logprobs
            if wanted and row.ready and row.finish != "error":
                row.top.append(tuple(zip(best[:wanted], values[:wanted], strict=True)))


def _need(row: Row, tokens: int) -> int:
    """Blocks for a row's prompt and so many tokens of its own."""
    return blocks_for(len(row.job.prompt) - 1) + blocks_for(min(row.limit, tokens))
