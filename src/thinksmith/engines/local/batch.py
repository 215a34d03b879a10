"""The batch: rows that are decoded together, one token a step, on the policy's live weights.

Row i of the batch is slot i of the cache and element i of every tensor here. Rows come and go between steps: new ones
are appended, and where one ends the last takes its place, so a step works on the first rows and on nothing else.

A prompt is written to the cache without its last token; that one is the input of the row's first step. So prefill needs
no logits, and a row whose prompt another row already holds is a copy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

import torch

from thinksmith.engines.local.attention import Decode, Prefill
from thinksmith.engines.local.cache import ROWS, SlotCache, round_up
from thinksmith.engines.local.memory import free_bytes
from thinksmith.engines.local.rows import Row
from thinksmith.engines.local.sampler import Drawn, Rules, draw, row_key
from thinksmith.policy.policy import Policy

SPAN = 16  # attention looks at whole multiples of this many columns,
SHORTEST = 32  # and at least at so many: below, a CPU's softmax takes another path
PREFILL_TOKENS = 8192  # at most in one forward pass, padding included
PREFILL_PADDED = 192  # longer prompts are never padded: a CPU's fused attention sums in another order from here on
PREFILL_ENOUGH = 1024  # with so many a pass is efficient: rather another one than more padding
MEMORY_SHARE = 0.5  # of what is free, for keys and values


class Batch:
    """At most `slots` rows. Not safe for threads: one thread owns it."""

    def __init__(self, policy: Policy, slots: int) -> None:
        self._policy = policy
        self._slots = slots
        self._cache = SlotCache(policy.device)
        self._budget = 0
        self.rows: list[Row] = []
        device = policy.device
        height = round_up(slots, ROWS)
        self._last = torch.zeros(height, dtype=torch.int64, device=device)  # the token that the next step reads
        self._length = torch.zeros(height, dtype=torch.int64, device=device)  # tokens in the cache before it
        self._step = torch.zeros(height, dtype=torch.int64, device=device)  # tokens sampled
        self._key = torch.zeros(height, dtype=torch.int64, device=device)
        self._top_k = torch.zeros(height, dtype=torch.int64, device=device)
        self._real = torch.zeros(4, height, device=device)  # temperature, top_p, min_p, repetition penalty
        self._seen: torch.Tensor | None = (
            None  # [height, vocabulary]: ids that a row holds; made when a penalty needs it
        )
        # A CPU's matrix product takes other paths for one to seven rows, with other last bits. With a few idle rows,
        # what a request gets does not depend on how many neighbours it has.
        self._least = ROWS if device.type == "cpu" else 1

    def admit(self, waiting: deque[Row]) -> list[Row]:
        """Move rows from the queue's front into free slots. Returns those for which that failed."""
        new = self._take(waiting)
        if not new:
            return []
        start = len(self.rows)
        columns = max(len(row.job.prompt) for row in new)
        self._cache.reserve(max(start + len(new), self._least), round_up(columns, SPAN), used=start)
        holders = {row.job.prompt: slot for slot, row in enumerate(self.rows)}
        self.rows += new
        self._write(new, start)
        copies, fresh = [], dict[tuple[int, ...], list[int]]()
        for slot, row in enumerate(new, start):
            if row.job.prompt in holders:
                copies.append((holders[row.job.prompt], slot))
            elif len(row.job.prompt) > 1:
                fresh.setdefault(row.job.prompt, []).append(slot)
        if copies:
            self._cache.move([source for source, _ in copies], [target for _, target in copies], columns)
        for group in _groups(sorted(fresh, key=len)):
            self._prefill({prompt: fresh[prompt] for prompt in group})
        return self.drop(row for row in new if row.finish)

    def step(self) -> list[Row]:
        """Sample one token for every row. Returns the rows that ended, which are no longer in the batch."""
        rows = self.rows
        longest = 1 + max(len(row.job.prompt) + len(row.tokens) for row in rows)
        span = round_up(max(longest, SHORTEST), SPAN)
        height = max(len(rows), self._least)
        self._cache.reserve(height, span, used=len(rows))
        rules = self._rules(height)
        logits_BV = self._decode(height, span)
        drawn = draw(logits_BV, rules)
        self._last[:height] = drawn.token_B.clamp(min=0)
        self._length[: len(rows)] += 1
        self._step[: len(rows)] += 1
        if self._seen is not None:
            self._seen[:height].scatter_(1, self._last[:height, None], True)
        return self.drop(self._note(drawn))

    def drop(self, ended: Iterable[Row]) -> list[Row]:
        """Take rows out and close the gaps. Returns them."""
        gone = {id(row) for row in ended}
        if not gone:
            return []
        keep = len(self.rows) - len(gone)
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
        return out

    def release(self) -> None:
        """Give the cache's memory back; the batch must be empty."""
        self._cache.release()
        self._seen = None

    def _take(self, waiting: deque[Row]) -> list[Row]:
        """As many rows as there are slots and memory for; at least one if the batch is empty."""
        free = self._slots - len(self.rows)
        # A refill costs a forward pass, so with many waiting let a few slots come free first.
        if not waiting or free < min(len(waiting), max(1, self._slots // 16)):
            return []
        if not self.rows:
            self._budget = self._measure()
        need = max((len(row.job.prompt) + row.limit for row in self.rows), default=0)
        new: list[Row] = []
        while waiting and len(new) < free:
            need = max(need, len(waiting[0].job.prompt) + waiting[0].limit)
            if (self.rows or new) and self._bytes(len(self.rows) + len(new) + 1, need) > self._budget:
                break
            new.append(waiting.popleft())
        return new

    def _measure(self) -> int:
        held = self._bytes(self._cache.rows, self._cache.columns)
        return int((free_bytes(self._policy.device) + held) * MEMORY_SHARE)

    def _bytes(self, rows: int, columns: int) -> int:
        """Keys and values of so many tokens."""
        config = self._policy.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_token = 2 * config.num_hidden_layers * heads * dim * self._policy.model.dtype.itemsize
        return round_up(max(rows, 1), ROWS) * columns * int(per_token)

    def _write(self, new: Sequence[Row], start: int) -> None:
        """Set what the tensors say about new rows, which begin at slot `start`."""
        part = slice(start, start + len(new))
        sampling = [row.job.request.sampling for row in new]
        self._last[part] = self._whole([row.job.prompt[-1] for row in new])
        self._length[part] = self._whole([len(row.job.prompt) - 1 for row in new])
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

    def _prefill(self, slots_of: dict[tuple[int, ...], list[int]]) -> None:
        """Write prompts, all but their last token, into their slots. If that fails, find the ones that it fails for."""
        width = max(map(_width, slots_of))
        ids_PT = self._whole([[*prompt[:-1], *[0] * (width - len(prompt) + 1)] for prompt in slots_of])
        pairs = [(source, slot) for source, slots in enumerate(slots_of.values()) for slot in slots]
        target_R = self._whole([slot for _, slot in pairs])
        step = Prefill(self._cache, self._whole([source for source, _ in pairs]), target_R)
        self._cache.reserve(0, width, used=len(self.rows))
        try:
            self._run(self._policy.model.get_decoder(), ids_PT, torch.arange(width, device=ids_PT.device)[None], step)
        except Exception as error:  # whatever it is, it concerns these prompts and no other row
            if len(slots_of) > 1:
                for prompt, slots in slots_of.items():
                    self._prefill({prompt: slots})
                return
            for _, slot in pairs:
                self.rows[slot].end("error", f"{type(error).__name__}: {error}")

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
        steers = [(slot, row.watch.before(row)) for slot, row in enumerate(self.rows) if row.watch is not None]
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
        swapped_B = torch.zeros_like(drawn.token_B) if drawn.swapped_B is None else drawn.swapped_B
        # One transfer a step; int64 tokens are exact in float64.
        numbers = torch.stack((drawn.token_B.double(), drawn.logprob_B.double(), swapped_B.double())).tolist()
        eos, ended = self._policy.eos_ids, []
        for row, token, logprob, swapped in zip(self.rows, *numbers, strict=False):
            if token < 0:
                row.end("error", "the model's logits are not finite")
            else:
                row.tokens.append(int(token))
                row.logprobs.append(logprob)
                if row.watch is not None:
                    row.watch.after(row, bool(swapped))
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
            if wanted and row.finish != "error":
                row.top.append(tuple(zip(best[:wanted], values[:wanted], strict=True)))

    def _move(self, source: list[int], target: list[int]) -> None:
        columns = max(len(self.rows[slot].job.prompt) + len(self.rows[slot].tokens) for slot in source)
        self._cache.move(source, target, columns)
        source_R, target_R = self._whole(source), self._whole(target)
        for state in (self._last, self._length, self._step, self._key, self._top_k):
            state[target_R] = state[source_R]
        self._real[:, target_R] = self._real[:, source_R]
        if self._seen is not None:
            self._seen[target_R] = self._seen[source_R]
        for one, other in zip(source, target, strict=True):
            self.rows[other] = self.rows[one]


def _groups(prompts: Sequence[tuple[int, ...]]) -> list[list[tuple[int, ...]]]:
    """Cut prompts, shortest first, into batches of bounded size, which are padded only while they are small."""
    groups: list[list[tuple[int, ...]]] = []
    for prompt in prompts:
        width, held = _width(prompt), groups[-1] if groups else []
        pads = (
            bool(held) and width > _width(held[-1]) and (len(held) * width > PREFILL_ENOUGH or width > PREFILL_PADDED)
        )
        if not held or pads or (len(held) + 1) * width > PREFILL_TOKENS:
            groups.append([])
        groups[-1].append(prompt)
    return groups


def _width(prompt: tuple[int, ...]) -> int:
    """Columns that a prompt without its last token takes in a prefill; a CPU's last bits depend on them otherwise."""
    return round_up(len(prompt) - 1, ROWS)
