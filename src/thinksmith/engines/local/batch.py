"""The batch: rows that are decoded together, one token a step, on the policy's live weights.

Row i of the batch is slot i of the cache and element i of every tensor here. Rows come and go between steps: new ones
are appended, and where one ends the last takes its place, so a step works on the first rows and on nothing else.

A prompt is written to the cache without its last token; that one is the input of the row's first step. So prefill needs
no logits, and a row whose prompt another row already holds is a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any

import torch

from thinksmith.engines.local.attention import BLOCK, Decode, Prefill
from thinksmith.engines.local.cache import COLUMNS, ROWS, SlotCache, round_up
from thinksmith.engines.local.memory import free_bytes, out_of_memory
from thinksmith.engines.local.prompts import PIECE, Fill, PrefixStore, together
from thinksmith.engines.local.rows import Row
from thinksmith.engines.local.sampler import Drawn, Rules, draw, row_key
from thinksmith.policy.policy import Policy

SPAN = 16  # attention looks at whole multiples of this many columns,
SHORTEST = 32  # and at least at so many: below, a CPU's softmax takes another path
STALL = 1024  # tokens of prompts that are written between two steps while rows are decoded
MEMORY_SHARE = 0.5  # of what is free, for keys and values,
PREFIX_SHARE = 0.125  # and an eighth of that besides, for the beginnings of earlier prompts
TYPICAL = 256.0  # tokens of a completion, before any has ended


class Batch:
    """At most `slots` rows. Not safe for threads: one thread owns it."""

    def __init__(self, policy: Policy, slots: int) -> None:
        self._policy = policy
        self._slots = slots
        self._cache = SlotCache(policy.device)
        self._prefixes = PrefixStore()
        self._fills: dict[tuple[int, ...], Fill] = {}
        self._budget = 0  # tokens in the cache, rows times columns
        self._typical = TYPICAL
        self._full = False  # rows had to go: admit none until one has ended
        self.rows: list[Row] = []
        device = policy.device
        height = round_up(slots, ROWS)
        self._last = torch.zeros(height, dtype=torch.int64, device=device)  # the token that the next step reads
        self._length = torch.zeros(height, dtype=torch.int64, device=device)  # tokens in the cache before it
        self._step = torch.zeros(height, dtype=torch.int64, device=device)  # tokens sampled
        self._ready = torch.zeros(height, dtype=torch.int64, device=device)  # 1 where the prompt is in the cache
        self._key = torch.zeros(height, dtype=torch.int64, device=device)
        self._top_k = torch.zeros(height, dtype=torch.int64, device=device)
        self._real = torch.zeros(4, height, device=device)  # temperature, top_p, min_p, repetition penalty
        # [height, vocabulary]: the ids that a row holds; made when a penalty needs it.
        self._seen: torch.Tensor | None = None
        # A CPU's matrix product takes other paths for one to seven rows, with other last bits. With a few idle rows,
        # what a request gets does not depend on how many neighbours it has.
        self._least = ROWS if device.type == "cpu" else 1

    def admit(self, waiting: deque[Row]) -> None:
        """Move rows from the queue's front into free slots."""
        new = self._take(waiting)
        if not new:
            return
        start = len(self.rows)
        columns = max(len(row.job.prompt) for row in new)
        self._reserve(max(start + len(new), self._least), round_up(columns, SPAN))
        holders = {row.job.prompt: row for row in self.rows if row.ready}
        for slot, row in enumerate(new, start):
            row.slot, row.filled = slot, 0
        self.rows += new
        self._write(new, start)
        copies, fresh = [], []
        for row in new:
            prompt = row.job.prompt
            if prompt in holders:
                copies.append((holders[prompt].slot, row.slot))
                row.filled = holders[prompt].filled
            elif fill := self._fills.get(prompt):
                if fill.done:
                    copies.append((fill.rows[0].slot, row.slot))
                fill.rows.append(row)
                row.filled = fill.done
            elif len(prompt) > 1:
                self._fills[prompt] = Fill(prompt, [row])
                fresh.append(self._fills[prompt])
        if copies:
            self._cache.move([source for source, _ in copies], [target for _, target in copies], columns)
        if any(fill.total >= PIECE for fill in fresh):
            self._prefixes.use(self._policy.version)
            for fill in fresh:
                self._prefixes.restore(fill, self._cache, [row.slot for row in fill.rows])
                self._filled(fill)
        self._mark(new)

    def fill(self) -> list[Row]:
        """Write prompts: all of them while nothing is decoded, else a few pieces, so that a step is not held up long.
        Returns the rows for which that failed."""
        left = STALL if any(row.ready for row in self.rows) else None
        while self._fills and (left is None or left > 0):
            oldest = next(iter(self._fills.values()))
            group = next(group for group in together(self._fills.values()) if oldest in group)
            if left is not None:
                width = group[-1].width
                group = [oldest, *(fill for fill in group if fill is not oldest)][: max(1, left // width)]
                left -= len(group) * width
            self._prefill(group)
        return self.drop(row for row in self.rows if row.finish)

    def step(self, waiting: deque[Row]) -> list[Row]:
        """Sample one token for every row whose prompt is written. Returns the rows that ended, which are no longer in
        the batch. Rows for which the memory does not do go back to the queue's front, to begin anew."""
        self._make_room(waiting)
        rows = self.rows
        span = self._span()
        height = max(len(rows), self._least)
        self._reserve(height, span)
        rules = self._rules(height)
        logits_BV = self._decode(height, span)
        drawn = draw(logits_BV, rules)
        ready = self._ready[: len(rows)]
        token_B = drawn.token_B[: len(rows)].clamp(min=0)
        self._last[: len(rows)] = torch.where(ready > 0, token_B, self._last[: len(rows)])
        self._length[: len(rows)] += ready
        self._step[: len(rows)] += ready
        if self._seen is not None:
            self._seen[:height].scatter_(1, self._last[:height, None], True)
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
        if failed := [slot for slot, row in enumerate(self.rows) if id(row) in gone and row.finish == "error"]:
            self._cache.clear(failed)
        if holes:
            self._move(movers, holes)
        del self.rows[keep:]
        # The rows behind are idle: what they decode is thrown away, so let it be cheap and in range.
        self._length[keep:] = 0
        self._ready[keep:] = 0
        for row in out:
            if fill := self._fills.get(row.job.prompt):
                fill.rows = [other for other in fill.rows if other is not row]
                if not fill.rows:
                    del self._fills[row.job.prompt]
            if row.finish in ("stop", "length", "budget"):
                self._typical += (len(row.tokens) - self._typical) / 32
        return out

    def release(self) -> None:
        """Give the cache's memory back; the batch must be empty."""
        self._cache.release()
        self._prefixes.clear()
        self._seen = None

    def shrink(self, waiting: deque[Row]) -> None:
        """The memory did not do: all rows go back to the queue's front, and fewer at a time will be tried."""
        self._slots = max(1, len(self.rows) // 2)
        self._put_back(list(self.rows), waiting)
        self.release()
        if self._policy.device.type == "cuda":
            torch.cuda.empty_cache()

    def _take(self, waiting: deque[Row]) -> list[Row]:
        """As many rows as there are slots and, as far as can be foreseen, memory for; at least one if the batch is
        empty."""
        free = self._slots - len(self.rows)
        # A refill costs a forward pass, so with many waiting let a few slots come free first.
        if not waiting or free < min(len(waiting), max(1, self._slots // 16)) or (self._full and self.rows):
            return []
        if not self.rows:
            self._budget = self._measure()
            self._prefixes.limit = int(self._budget * self._token_bytes() * PREFIX_SHARE)
        need = max((self._foreseen(row) for row in self.rows), default=0)
        new: list[Row] = []
        while waiting and len(new) < free:
            need = max(need, self._foreseen(waiting[0]))
            if (self.rows or new) and not self._fits(len(self.rows) + len(new) + 1, need):
                break
            new.append(waiting.popleft())
        return new

    def _foreseen(self, row: Row) -> int:
        """Columns that a row will likely need: at most half of all completions are longer than twice their mean."""
        return len(row.job.prompt) + min(row.limit, max(2 * int(self._typical), len(row.tokens) + SPAN))

    def _make_room(self, waiting: deque[Row]) -> None:
        """Where the next step's columns do not fit, put the rows back that have sampled least: they lose least."""
        rows, span = len(self.rows), self._span()
        while rows > ROWS and not self._fits(rows, span):
            rows = (rows - 1) // ROWS * ROWS  # the buffers are whole multiples of this high
        if rows < len(self.rows):
            # The sort is stable: of two that sampled as much, the one that came later goes.
            self._put_back(sorted(self.rows, key=lambda row: -len(row.tokens))[rows:], waiting)
            self._full = True

    def _put_back(self, rows: Sequence[Row], waiting: deque[Row]) -> None:
        out = self.drop(rows)
        for row in out:
            row.restart()
        waiting.extendleft(reversed(out))

    def _span(self) -> int:
        """Columns that the next step looks at. The last block that is summed is never shorter than SHORTEST."""
        span = round_up(max(1 + max(row.filled + len(row.tokens) for row in self.rows), SHORTEST), SPAN)
        return span + SPAN if span % BLOCK == SPAN else span

    def _reserve(self, rows: int, columns: int) -> None:
        self._cache.reserve(rows, columns, used=len(self.rows), most=self._budget)

    def _measure(self) -> int:
        """Tokens that may be in the cache."""
        held = self._cache.rows * self._cache.columns
        return int((free_bytes(self._policy.device) / self._token_bytes() + held) * MEMORY_SHARE)

    def _fits(self, rows: int, columns: int) -> bool:
        return round_up(max(rows, self._least), ROWS) * round_up(columns, COLUMNS) <= self._budget

    def _token_bytes(self) -> int:
        """Keys and values of one token."""
        config = self._policy.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * dim * self._policy.model.dtype.itemsize)

    def _write(self, new: Sequence[Row], start: int) -> None:
        """Set what the tensors say about new rows, which begin at slot `start`."""
        part = slice(start, start + len(new))
        sampling = [row.job.request.sampling for row in new]
        self._last[part] = self._whole([row.job.prompt[-1] for row in new])
        self._step[part] = 0
        self._key[part] = self._whole([row_key(row.job.request.sampling.seed, row.index) for row in new])
        self._top_k[part] = self._whole([s.top_k if s.top_k > 0 else self._policy.vocab_size for s in sampling])
        self._real[:, part] = torch.tensor(
            [[s.temperature, s.top_p, s.min_p, s.repetition_penalty] for s in sampling], device=self._policy.device
        ).T
        if self._seen is None and any(s.repetition_penalty != 1 for s in sampling):
            self._seen = torch.zeros(
                len(self._last), self._policy.vocab_size, dtype=torch.bool, device=self._policy.device
            )
        if self._seen is not None:
            self._seen[part] = False
            for slot, row in enumerate(new, start):
                if row.job.request.sampling.repetition_penalty != 1:
                    self._seen[slot, self._whole(list(row.job.prompt))] = True

    def _whole(self, numbers: list[Any]) -> torch.Tensor:
        """Integers (or rows of them) on the device."""
        return torch.tensor(numbers, dtype=torch.int64, device=self._policy.device)

    def _mark(self, rows: Sequence[Row]) -> None:
        """Tell the tensors how much of these rows' prompts is written."""
        if rows:
            slots = self._whole([row.slot for row in rows])
            self._length[slots] = self._whole([row.filled for row in rows])
            self._ready[slots] = self._whole([int(row.ready) for row in rows])

    def _prefill(self, group: Sequence[Fill]) -> None:
        """Write the next piece of these prompts into their slots. If that fails, find the ones that it fails for."""
        start, width = group[0].done, max(fill.width for fill in group)
        ids_PT = self._whole([[*fill.piece, *[0] * (width - len(fill.piece))] for fill in group])
        pairs = [(source, row.slot) for source, fill in enumerate(group) for row in fill.rows]
        step = Prefill(
            self._cache,
            source_R=self._whole([source for source, _ in pairs]),
            target_R=self._whole([slot for _, slot in pairs]),
            leader_P=self._whole([fill.rows[0].slot for fill in group]),
            start=start,
        )
        self._reserve(0, start + width)
        positions = torch.arange(start, start + width, device=ids_PT.device)
        try:
            self._run(self._policy.model.get_decoder(), ids_PT, positions[None], step)
        except Exception as error:  # whatever it is, it concerns these prompts and no other row
            if out_of_memory(error):
                raise
            if len(group) > 1:
                for fill in group:
                    self._prefill([fill])
                return
            for row in group[0].rows:
                row.end("error", f"{type(error).__name__}: {error}")
            del self._fills[group[0].prompt]
            return
        for fill in group:
            fill.done += len(fill.piece)
            if fill.done % PIECE == 0:
                self._prefixes.keep(fill, self._cache, fill.rows[0].slot)
            self._filled(fill)
        self._mark([row for fill in group for row in fill.rows])

    def _filled(self, fill: Fill) -> None:
        """Note how far a prompt is; one that is whole is forgotten."""
        for row in fill.rows:
            row.filled = fill.done
        if fill.done == fill.total:
            del self._fills[fill.prompt]

    def _run(self, model: Any, ids: torch.Tensor, positions: torch.Tensor, step: Prefill | Decode) -> Any:
        # A mask of four dimensions is passed on as it is, so transformers builds none; `slot_attention` has its own.
        mask = torch.empty(1, 1, 1, 1, device=ids.device)
        positions = positions.expand(ids.shape)
        return model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=step, use_cache=True, slots=step
        )

    def _decode(self, height: int, span: int) -> torch.Tensor:
        """Logits [B, V] in float32 of the first `height` rows' next tokens."""
        length_B = self._length[:height]
        step = Decode(self._cache, length_B, span)
        output = self._run(self._policy.model, self._last[:height, None], length_B[:, None], step)
        logits_BV: torch.Tensor = output.logits[:, -1].float()
        return logits_BV

    def _rules(self, height: int) -> Rules:
        """How the next tokens are drawn. A filter that no row uses costs nothing."""
        sampling = [row.job.request.sampling for row in self.rows]
        penalty = any(s.repetition_penalty != 1 for s in sampling)
        ban, swap, force = self._steering()
        return Rules(
            key_B=self._key[:height],
            step_B=self._step[:height],
            temperature_B=self._real[0, :height],
            greedy=all(s.temperature <= 0 for s in sampling),
            top_k_B=self._top_k[:height] if any(s.top_k > 0 for s in sampling) else None,
            top_p_B=self._real[1, :height] if any(s.top_p < 1 for s in sampling) else None,
            min_p_B=self._real[2, :height] if any(s.min_p > 0 for s in sampling) else None,
            penalty_B=self._real[3, :height] if penalty else None,
            seen_BV=self._seen[:height] if penalty and self._seen is not None else None,
            ban=ban,
            swap=swap,
            force=force,
            top=min(max((s.top_logprobs for s in sampling), default=0), self._policy.vocab_size),
        )

    def _steering(self) -> tuple[Any, Any, Any]:
        """`ban`, `swap` and `force` of the rules."""
        steers = [(slot, row.watch.before(row)) for slot, row in enumerate(self.rows) if row.watch and row.ready]
        ban = [slot for slot, steer in steers if steer.withhold is not None and steer.instead is None]
        swap = [(slot, steer.instead) for slot, steer in steers if steer.instead is not None]
        force = [(slot, steer.force) for slot, steer in steers if steer.force is not None]
        # What is withheld is a matter of the model, so it is the same for all rows.
        withheld = next((steer.withhold for _, steer in steers if steer.withhold is not None), None)
        return (
            (self._whole(ban), withheld) if ban else None,
            (self._whole([s for s, _ in swap]), withheld, self._whole([i for _, i in swap])) if swap else None,
            (self._whole([s for s, _ in force]), self._whole([i for _, i in force])) if force else None,
        )

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

    def _move(self, source: list[int], target: list[int]) -> None:
        columns = max(len(self.rows[slot].job.prompt) + len(self.rows[slot].tokens) for slot in source)
        self._cache.move(source, target, columns)
        source_R, target_R = self._whole(source), self._whole(target)
        for state in (self._last, self._length, self._step, self._ready, self._key, self._top_k):
            state[target_R] = state[source_R]
        self._real[:, target_R] = self._real[:, source_R]
        if self._seen is not None:
            self._seen[target_R] = self._seen[source_R]
        for one, other in zip(source, target, strict=True):
            self.rows[other] = self.rows[one]
            self.rows[other].slot = other
