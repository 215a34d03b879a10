"""What a recipe may not ask for, each told in a line that says what to change, before any weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from thinksmith.errors import UserError
from thinksmith.records import Problem
from thinksmith.training.adapt import check_quantised
from thinksmith.training.rl.episodes import named
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.room import check_room
from thinksmith.verify import VERIFIERS, check_gold, require
from thinksmith.verify.verdict import TASK

NEED_GOLD = ("correctness", "length", "code_tests")  # rewards that ask whether the answer is right

NEEDS: tuple[tuple[tuple[str, ...], str, Callable[[GRPORecipe], bool]], ...] = (
    (("rollout.max_draws",), "rollout.dynamic_sampling = true", lambda r: r.rollout.dynamic_sampling),
    (
        ("curriculum.lowest", "curriculum.highest", "curriculum.again"),
        "curriculum.measure above 0",
        lambda r: r.curriculum.measure > 0,
    ),
    (("training.kl_estimator",), "training.beta above 0", lambda r: r.training.beta > 0),
    (("training.epsilon", "training.delta"), "a loss_type other than cispo", lambda r: r.training.loss_type != "cispo"),
    (("training.decay",), 'lr_scheduler_type = "trapezoid"', lambda r: r.training.lr_scheduler_type == "trapezoid"),
    (
        ("lora.rank", "lora.alpha", "lora.dropout", "lora.targets"),
        'training.tuning = "lora"',
        lambda r: r.training.tuning == "lora",
    ),
    (("evaluation.every_n",), "evaluation.every above 0", lambda r: r.evaluation.every > 0),
)
"""Keys that do nothing without another: whoever changed one believes that it does something."""


def check(recipe: GRPORecipe, problems: Sequence[Problem], held_out: Sequence[Problem] = ()) -> None:
    """Raises UserError for the first thing that cannot be, or would not do what it seems to say.

    `problems` are trained on, `held_out` measured. The model's config and tokenizer are read where they lie on this
    machine; of a model that has to be downloaded first, lengths are left to `room.check_lengths`.
    """
    for fault in _faults(recipe):
        raise UserError(fault)
    check_quantised(recipe)
    _check_verifiable(recipe, problems, held_out)
    check_room(recipe, problems, held_out)


def _faults(recipe: GRPORecipe) -> Iterator[str]:
    """What can be said of the recipe alone."""
    for keys, condition, given in NEEDS:
        for key in keys if not given(recipe) else ():
            table, name = key.split(".")
            value = getattr(getattr(recipe, table), name)
            if value != type(getattr(recipe, table)).model_fields[name].default:
                yield f"{key} = {value} does nothing without {condition}: set that, or leave {name} out"
    yield from _batch_faults(recipe)
    yield from _ratio_faults(recipe)
    yield from _plan_faults(recipe)
    yield from _agent_faults(recipe)


def _batch_faults(recipe: GRPORecipe) -> Iterator[str]:
    rollout, minibatches = recipe.rollout, recipe.training.minibatches
    if rollout.prompts % minibatches:
        near = [n for n in range(1, rollout.prompts + 1) if rollout.prompts % n == 0]
        yield (
            f"rollout.prompts = {rollout.prompts} cannot be cut into training.minibatches = {minibatches} of equal "
            f"size: set minibatches to {' or '.join(map(str, _around(near, minibatches)))}"
        )
    if rollout.max_thinking_tokens >= rollout.max_tokens:
        yield (
            f"rollout.max_thinking_tokens = {rollout.max_thinking_tokens} leaves no room for an answer in max_tokens = "
            f"{rollout.max_tokens}: make it smaller, or leave it out"
        )


def _ratio_faults(recipe: GRPORecipe) -> Iterator[str]:
    rollout, training = recipe.rollout, recipe.training
    updates = training.num_iterations * training.minibatches
    cut = {"top_p": rollout.top_p < 1, "top_k": rollout.top_k > 0, "min_p": rollout.min_p > 0}
    for name in (name for name, on in cut.items() if on):
        if updates > 1:
            yield (
                f"rollout.{name} = {getattr(rollout, name)} with {updates} updates a rollout (num_iterations * "
                f"minibatches): tokens would be drawn from another distribution than that of the importance ratios; "
                f"leave {name} out, or make one update"
            )
    if training.loss_type == "gspo" and training.epsilon > 0.01 and updates > 1:
        yield (
            f"training.epsilon = {training.epsilon} never clips in gspo, whose ratio is a mean over the completion: "
            "set epsilon and epsilon_high near 0.0003 and 0.0004"
        )
    if training.loss_type == "cispo" and training.epsilon_high < 1:
        yield (
            f"training.epsilon_high = {training.epsilon_high} would hold every ratio below 1: in cispo it is the bound "
            "of the ratio itself; set it to 1 or more, such as 5.0"
        )
    if training.loss_type != "cispo" and 0 < training.delta <= 1 + training.epsilon_high:
        yield (
            f"training.delta = {training.delta} must be above 1 + epsilon_high = {1 + training.epsilon_high:g}, the "
            "bound that it stands beyond: raise it, or set 0.0 for none"
        )


def _plan_faults(recipe: GRPORecipe) -> Iterator[str]:
    curriculum = recipe.curriculum
    if curriculum.lowest >= curriculum.highest:
        yield (
            f"curriculum.lowest = {curriculum.lowest} must be below curriculum.highest = {curriculum.highest}: no "
            "problem would be asked"
        )
    weights = [value.get("weight") if isinstance(value, dict) else value for value in recipe.rewards.values()]
    if not any(weights):
        yield "all weights under [rewards] are 0, so nothing would be learnt: give one reward another weight"


def _agent_faults(recipe: GRPORecipe) -> Iterator[str]:
    if recipe.agent is None:
        if recipe.warmup is not None:
            yield "[warmup] is for the trajectories of [agent]: add that table, or leave [warmup] out"
        if "calls" in recipe.rewards:
            yield "the reward 'calls' does nothing without [agent]: add that table, or leave the reward out"
        return
    named(recipe.agent)
    if recipe.warmup is not None and recipe.training.tuning == "lora":
        yield '[warmup] moves all weights: set training.tuning = "full", or leave [warmup] out'
    if recipe.warmup is not None and recipe.training.sharding == "full":
        yield '[warmup] is done by one process: set training.sharding = "none", or leave [warmup] out'


def _around(choices: Sequence[int], value: int) -> list[int]:
    """The largest choice below and the smallest above a value, as far as there are."""
    return [
        *[choice for choice in choices if choice < value][-1:],
        *[choice for choice in choices if choice > value][:1],
    ]


def _check_verifiable(recipe: GRPORecipe, problems: Sequence[Problem], held_out: Sequence[Problem]) -> None:
    """Kinds must have a verifier here, and at least one training problem a gold answer where a reward asks for it.

    Single gold answers that cannot be used are warned of when the set is loaded; their groups are left out.
    """
    for kind in sorted({problem.kind for problem in (*problems, *held_out)}):
        if kind == "judge":
            raise UserError("answers of kind judge need a judging model, which training has not: name other problems")
        if kind != TASK or recipe.agent is None:
            require(kind)
    asking = [name for name in NEED_GOLD if name in recipe.rewards]
    if not asking:
        return
    first = ""
    for problem in problems:
        fault = _gold_fault(problem)
        if fault is None:
            return
        first = first or f"{problem.id}: {fault}"
    raise UserError(
        f"reward {asking[0]!r} needs gold answers, and of the {len(problems)} problems of {recipe.problems} none can "
        f"be verified ({first}): name the column with the answers, or other rewards"
    )


def _gold_fault(problem: Problem) -> str | None:
    """As `check_gold`, without waiting for a worker."""
    if problem.kind == TASK:  # its world knows
        return None
    verifier = VERIFIERS[problem.kind]
    if verifier.slow and verifier.check is None:
        return "has no answer" if problem.answer is None else None
    return check_gold(problem)
