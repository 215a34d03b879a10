"""Whether prompts and completions fit into a model's context, from its config and tokenizer alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub

from thinksmith import models
from thinksmith.errors import UserError
from thinksmith.policy.load import is_folder, load_tokenizer, plain_name
from thinksmith.policy.policy import Policy
from thinksmith.records import Problem
from thinksmith.training.rl.recipe import GRPORecipe

LONGEST = 16  # prompts, the longest as texts, that are looked at for the longest in tokens


def check_room(recipe: GRPORecipe, problems: Sequence[Problem], held_out: Sequence[Problem] = ()) -> None:
    """`check_lengths` before the weights are loaded, where the model's folder lies on this machine; else nothing."""
    folder = _folder(plain_name(recipe.model))
    context = _context(folder) if folder else 0
    if folder and context:
        try:
            tokenizer = load_tokenizer(folder)
        except Exception:  # whatever is wrong with the folder: loading the model tells it better
            return
        check_lengths(recipe, Policy(None, tokenizer, recipe.model), problems, held_out, context=context)


def check_lengths(
    recipe: GRPORecipe,
    policy: Policy,
    problems: Sequence[Problem],
    held_out: Sequence[Problem] = (),
    *,
    context: int = 0,
) -> None:
    """Raises UserError where the longest prompt and the longest completion do not fit into the context: so many tokens,
    by default the policy's."""
    context = context or policy.context_length
    for key, most, asked in (
        ("rollout.max_tokens", recipe.rollout.max_tokens, problems),
        ("evaluation.max_tokens", recipe.evaluation.max_tokens, held_out),
    ):
        if not asked:
            continue
        texts = sorted({problem.text: problem.messages for problem in asked}.items(), key=lambda item: -len(item[0]))
        prompt = max(len(policy.render(messages).ids) for _, messages in texts[:LONGEST])
        if prompt >= context:
            raise UserError(
                f"a prompt of {prompt} tokens does not fit into the {context} of {recipe.model}'s context: leave out "
                "problems so long, or name another model"
            )
        if prompt + most > context:
            raise UserError(
                f"{key} = {most} and a prompt of {prompt} tokens are more than the {context} of {recipe.model}'s "
                f"context: set it to {context - prompt} or less"
            )


def _folder(name: str) -> Path | None:
    """Where the model lies on this machine: embedded, a folder, or in the hub's cache."""
    if name in models.EMBEDDED:
        return models.path(name)
    try:
        folder = Path(name).expanduser()
        if is_folder(folder):
            return folder
        found = huggingface_hub.try_to_load_from_cache(name, "config.json")
    except (RuntimeError, huggingface_hub.errors.HFValidationError):  # nobody's home; neither a folder's name nor an id
        return None
    return Path(found).parent if isinstance(found, str) else None


def _context(folder: Path) -> int:
    """The model's context in tokens; 0 where its config does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    found: object = 0
    for part in (config, config.get("text_config")) if isinstance(config, dict) else ():
        found = part.get("max_position_embeddings", found) if isinstance(part, dict) else found
    return found if isinstance(found, int) and found > 0 else 0
