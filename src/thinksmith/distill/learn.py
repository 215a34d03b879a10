"""A whole run of SFT or DPO: samples become examples of the student's own, are split, learnt, and accounted for."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from thinksmith.distill.examples import Turn, examples_of, set_thinking, turn_of
from thinksmith.distill.formats import read_set
from thinksmith.distill.pairs import pairs_of
from thinksmith.distill.sample import Sample
from thinksmith.errors import UserError
from thinksmith.policy.load import load_policy, load_tokenizer
from thinksmith.policy.policy import Policy
from thinksmith.records import Message
from thinksmith.training.adapt import adapt, check_precision
from thinksmith.training.alarms import Alarm
from thinksmith.training.batches import Example
from thinksmith.training.durable import told
from thinksmith.training.ranks import ALONE, Ranks
from thinksmith.training.rows import Metrics
from thinksmith.training.run_folder import open_folder, read_facts, read_json, versions, write_json
from thinksmith.training.sharding import check_sharding, shard
from thinksmith.training.supervised.dpo import DPO, Pair, Sums, reference_sums
from thinksmith.training.supervised.lesson import Lesson
from thinksmith.training.supervised.recipe import DPORecipe, SFTRecipe, TaughtRecipe, check
from thinksmith.training.supervised.room import room_for
from thinksmith.training.supervised.sft import SFT
from thinksmith.training.supervised.train import Trained, planned_steps, train
from thinksmith.training.track import check_trackers, open_trackers

Item = TypeVar("Item")
PROBES = 16  # prompts by which a saved tokenizer is checked
LEAST_HELD_OUT = 2  # problems that must be there for one of them to be held out


class Watcher(Protocol):
    """Who looks on while a run goes."""

    def note(self, text: str) -> None: ...

    def training(self, steps: int) -> None: ...

    def step(self, metrics: Metrics) -> None: ...

    def alarm(self, alarm: Alarm) -> None: ...


class Measure(Protocol):
    """Accuracy of sampled answers; `ids` are the problems'."""

    @property
    def ids(self) -> frozenset[str]: ...

    def __call__(self, policy: Policy, step: int) -> Metrics: ...


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a run came to. `samples`: learnt ones (of DPO pairs), `held_out`: those that were kept apart, `dropped`: by
    reason; `notes`: what was noticed of the student's template and tokenizer."""

    folder: Path
    trained: Trained
    samples: int
    held_out: int
    dropped: Mapping[str, int]
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Student:
    """A loaded student, how it writes its turn, the hash of its weights as they came, and whether its chat template was
    changed."""

    policy: Policy
    turn: Turn
    weights_hash: str
    changed: bool


@dataclass(frozen=True, slots=True)
class _Given(Generic[Item]):
    """What a run has to learn from and what it keeps apart; of the samples themselves their hash stays, and a few
    prompts."""

    learnt: Sequence[Item]
    held_out: Sequence[Item]
    dropped: Mapping[str, int]
    data_hash: str
    probes: tuple[tuple[Message, ...], ...]


def sft(
    recipe: SFTRecipe, folder: Path, watcher: Watcher, *, measure: Measure | None = None, ranks: Ranks = ALONE
) -> Learnt:
    """Do all of it in `folder`; called again with the same recipe it goes on where it was stopped. Raises UserError."""
    began = time.perf_counter()
    _check(recipe, measure, ranks)
    pools = _samples(recipe, measure)
    student = _student(recipe)
    policy = student.policy

    def make(samples: Sequence[Sample]) -> tuple[Sequence[Example], Mapping[str, int]]:
        made = examples_of(samples, policy, student.turn, recipe.batch.max_length)
        return made.examples, made.dropped

    given = _given(recipe, pools, make)
    del pools  # ids are all that is needed now
    _tell(watcher, student, given, "samples", ranks)
    adapt(policy, recipe)
    check_precision(recipe, policy)
    if recipe.training.sharding == "full":
        shard(policy, ranks)
    prompt = min(len(example.prompt_ids) for example in given.learnt)
    room = _room(policy, recipe, "sft", _tokens(given), prompt, ranks)
    room = _open(folder, recipe, student, given, room, ranks)
    lesson = SFT(policy, given.learnt, given.held_out, recipe.training.max_grad_norm, room, ranks)
    trained = _train(recipe, folder, student, lesson, watcher, measure, ranks)
    ranks.by_first(partial(_save_template, folder, student, given, watcher))
    return _told(folder, student, given, trained, began, ranks)


def dpo(
    recipe: DPORecipe, folder: Path, watcher: Watcher, *, measure: Measure | None = None, ranks: Ranks = ALONE
) -> Learnt:
    """The same with pairs of right and wrong traces."""
    began = time.perf_counter()
    _check(recipe, measure, ranks)
    if recipe.training.sharding == "full":
        raise UserError('dpo cannot train shares of weights: set training.sharding to "none", or tuning to "lora"')
    pools = _samples(recipe, measure)
    student = _student(recipe)
    policy, table = student.policy, recipe.dpo

    def make(samples: Sequence[Sample]) -> tuple[Sequence[Pair], Mapping[str, int]]:
        made = examples_of(samples, policy, student.turn, recipe.batch.max_length)
        paired = pairs_of(made, table.wrong, table.pairs, recipe.seed)
        return paired.pairs, paired.dropped

    given = _given(recipe, pools, make)
    del pools
    _tell(watcher, student, given, "pairs", ranks)
    every = (*given.learnt, *given.held_out)
    before = _reference(folder, policy, every, recipe.training.micro_tokens, ranks)  # of the weights as they come
    adapt(policy, recipe)
    check_precision(recipe, policy)
    prompt = min(len(pair.right.prompt_ids) for pair in every)
    room = _room(policy, recipe, "dpo", _tokens(given), prompt, ranks)
    room = _open(folder, recipe, student, given, room, ranks)
    ranks.by_first(partial(_keep_reference, folder, every, before))
    known, kept = before[: len(given.learnt)], before[len(given.learnt) :]
    most = recipe.training.max_grad_norm
    lesson = DPO(policy, given.learnt, known, table.beta, given.held_out, kept, most, room, ranks)
    trained = _train(recipe, folder, student, lesson, watcher, measure, ranks)
    ranks.by_first(partial(_save_template, folder, student, given, watcher))
    return _told(folder, student, given, trained, began, ranks)


def held_out_of(ids: Sequence[str], share: float, seed: int) -> frozenset[str]:
    """The problems that are kept apart: about `share` of them, and one at least where there are two. Which they are
    depends on the seed and their ids alone."""
    problems = set(ids)
    if not share or len(problems) < LEAST_HELD_OUT:
        return frozenset()
    order = sorted(problems, key=lambda each: hashlib.sha256(f"{seed}\0{each}".encode()).digest())
    return frozenset(order[: max(1, round(share * len(order)))])


def samples_hash(samples: Sequence[Sample]) -> str:
    """sha256 (hex) over what can be learnt of samples, in their order."""
    digest = hashlib.sha256()
    for sample in samples:
        said = [sample.id, list(sample.messages), sample.thinking, sample.answer, sample.status, sample.finish]
        digest.update(json.dumps(said, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _check(recipe: TaughtRecipe, measure: Measure | None, ranks: Ranks) -> None:
    """What can be said before anything is read or computed."""
    check(recipe)
    check_trackers(recipe.track)
    check_sharding(recipe.training, ranks)
    if recipe.evaluation.problems and measure is None:
        raise UserError("evaluation.problems is for thinksmith sft and dpo, which sample answers: leave it out here")


def _samples(recipe: TaughtRecipe, measure: Measure | None) -> tuple[list[Sample], list[Sample]]:
    """Those to learn from, and those to keep apart: whole problems, so none is known from another trace of it."""
    table = recipe.evaluation
    samples = _read(recipe.data)
    if table.data:
        apart = _read(table.data)
        known = {sample.id for sample in apart} & {sample.id for sample in samples}
        if known:
            raise UserError(
                f"{len(known)} problems are both in data and in evaluation.data ({min(known)}): take them out of one"
            )
    else:
        held = held_out_of([sample.id for sample in samples], table.held_out, recipe.seed)
        apart = [sample for sample in samples if sample.id in held]
        samples = [sample for sample in samples if sample.id not in held]
    shared = {sample.id for sample in samples} & (measure.ids if measure else frozenset())
    if shared:
        raise UserError(
            f"{len(shared)} problems are both learnt from and measured by evaluation.problems ({min(shared)}): name "
            "others, or curate against them"
        )
    return samples, apart


def _read(name: str) -> list[Sample]:
    try:
        return read_set(name)
    except UserError as error:
        if name in str(error):
            raise
        raise UserError(f"data {name!r} cannot be read: {error}") from None


def _student(recipe: TaughtRecipe) -> _Student:
    policy = load_policy(recipe.model)
    changed = set_thinking(policy, recipe.thinking)
    return _Student(policy, turn_of(policy), policy.weights_hash(), changed)


def _save_template(folder: Path, student: _Student, given: _Given[Any], watcher: Watcher) -> None:
    """Have what was saved be asked as it was trained: an adapter whose model has another template needs its own."""
    policy, saved = student.policy, folder / ("adapter" if student.policy.adapter else "model")
    if policy.adapter:
        if not student.changed:
            return
        with told(f"the tokenizer in {saved}"):
            policy.tokenizer.save_pretrained(saved)
    again = Policy(policy.model, load_tokenizer(saved), policy.name)
    if any(_ids(again, messages) != _ids(policy, messages) for messages in given.probes):
        watcher.note(
            f"the tokenizer in {saved} gives other ids than those that were learnt: copy that of {policy.base}"
        )


def _ids(policy: Policy, messages: Sequence[Message]) -> tuple[int, ...]:
    """What the model is given; nothing where the template refuses the messages."""
    try:
        return policy.render(messages).ids
    except UserError:
        return ()


def _given(
    recipe: TaughtRecipe,
    pools: tuple[Sequence[Sample], Sequence[Sample]],
    make: Callable[[Sequence[Sample]], tuple[Sequence[Item], Mapping[str, int]]],
) -> _Given[Item]:
    """What `make` makes of the samples to learn from, and of those to keep apart. Raises UserError where nothing is
    left to learn from."""
    samples, apart = pools
    learnt, dropped = make(samples)
    if not learnt:
        raise UserError(
            f"of the {len(samples):,} samples of {recipe.data} nothing can be learnt: {counted(dropped)}; mend the set"
        )
    held_out, more = make(apart)
    reasons = sorted({*dropped, *more})
    together = {reason: dropped.get(reason, 0) + more.get(reason, 0) for reason in reasons}
    probes = tuple(sample.messages for sample in samples[:PROBES])
    return _Given(learnt, held_out, together, samples_hash(samples), probes)


def counted(dropped: Mapping[str, int]) -> str:
    """The reasons with their counts, the commonest first."""
    order = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count:,} {reason}" for reason, count in order) or "none dropped"


def _tell(watcher: Watcher, student: _Student, given: _Given[Any], what: str, ranks: Ranks) -> None:
    if ranks.first:
        for note in student.turn.notes:
            watcher.note(note)
        left = f"; dropped: {counted(given.dropped)}" if given.dropped else ""
        watcher.note(f"{len(given.learnt):,} {what} to learn from, {len(given.held_out):,} held out{left}")


def _tokens(given: _Given[Any]) -> list[int]:
    return [item.tokens for part in (given.learnt, given.held_out) for item in part]


def _room(policy: Policy, recipe: TaughtRecipe, method: Any, sizes: Sequence[int], prompt: int, ranks: Ranks) -> int:
    """What a pass may have. Of shares no estimate is made."""
    own = recipe.training.micro_tokens
    if recipe.training.sharding == "none":
        own = room_for(policy, recipe, method, sizes, prompt)
    return min(ranks.gather(own))


def _open(folder: Path, recipe: TaughtRecipe, student: _Student, given: _Given[Any], room: int, ranks: Ranks) -> int:
    """Open the run folder and return the tokens of a pass: a resumed run cuts as it did. Raises UserError where the
    folder's run is of another recipe, other weights or other data."""
    facts = {
        "model": student.policy.name,
        "weights_hash": student.weights_hash,
        "data": recipe.data,
        "data_hash": given.data_hash,
        "learnt": len(given.learnt),
        "held_out": len(given.held_out),
        "dropped": dict(given.dropped),
        "notes": list(student.turn.notes),
        "versions": versions(),
        "micro_tokens": room,
    }
    ranks.by_first(partial(open_folder, folder, recipe, facts))
    known = read_facts(folder)
    if known.get("data_hash") != given.data_hash:
        raise UserError(f"{folder} holds a run that learnt from other data than {recipe.data} has now; name another")
    return int(known.get("micro_tokens", room))


def _train(
    recipe: TaughtRecipe,
    folder: Path,
    student: _Student,
    lesson: Lesson,
    watcher: Watcher,
    measure: Measure | None,
    ranks: Ranks,
) -> Trained:
    policy = student.policy
    if ranks.first:
        watcher.training(planned_steps(lesson, recipe))
    asked: Callable[[int], Metrics] = partial(measure, policy) if measure else lambda step: {}
    config = recipe.model_dump(mode="json")
    with open_trackers(recipe.track if ranks.first else (), folder, config, folder.name) as trackers:

        def on_step(metrics: Metrics) -> None:
            watcher.step(metrics)
            trackers.log(int(metrics["step"]), metrics)

        return train(
            policy, lesson, recipe, folder, measure=asked, on_step=on_step, on_alarm=watcher.alarm, ranks=ranks
        )


def _told(folder: Path, student: _Student, given: _Given[Any], trained: Trained, began: float, ranks: Ranks) -> Learnt:
    """Write result.json, which says that the run is done."""
    learnt = Learnt(
        folder,
        trained,
        len(given.learnt),
        len(given.held_out),
        dict(given.dropped),
        student.turn.notes,
        time.perf_counter() - began,
    )
    whole = {name: value for name, value in asdict(learnt).items() if name not in ("folder", "trained")}
    ranks.by_first(lambda: write_json(folder / "result.json", {**asdict(trained), **whole}))
    return learnt


def _reference(folder: Path, policy: Policy, pairs: Sequence[Pair], micro_tokens: int, ranks: Ranks) -> list[Sums]:
    """The pairs' sums before training: of a run that is resumed as they were found when it began."""
    known = ranks.by_first(lambda: read_json(folder / "reference.json"))
    if known.get("pairs") == _pairs_hash(pairs):
        return [(float(right), float(wrong)) for right, wrong in known["sums"]]
    return reference_sums(policy, pairs, micro_tokens, ranks)


def _keep_reference(folder: Path, pairs: Sequence[Pair], sums: Sequence[Sums]) -> None:
    write_json(folder / "reference.json", {"pairs": _pairs_hash(pairs), "sums": [list(each) for each in sums]})


def _pairs_hash(pairs: Sequence[Pair]) -> str:
    digest = hashlib.sha256()
    for pair in pairs:
        digest.update(repr((pair.right.prompt_ids, pair.right.completion_ids, pair.wrong.completion_ids)).encode())
    return digest.hexdigest()
