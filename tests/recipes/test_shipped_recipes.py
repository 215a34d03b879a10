"""The recipes that ship: each runs as it stands on random weights of its model's true shape, and its comments are true.

In a dry run the width, the heads, the template's turns and all settings of the algorithm are the recipe's; there is
one layer, the vocabulary is small, and steps, prompts and lengths are cut.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from thinksmith.evaluate.report import read_metrics
from thinksmith.fit.shapes.catalogue import catalogue, find_shape
from thinksmith.models import EMBEDDED
from thinksmith.policy.load import load_policy
from thinksmith.problems.load import load as load_problems
from thinksmith.recipes import load as recipes
from thinksmith.recipes.load import load
from thinksmith.recipes.tiny.tokenizer import corpus
from thinksmith.records import Attempt
from thinksmith.store.store import Store
from thinksmith.training.rl.check import check
from thinksmith.training.rl.recipe import GRPORecipe
from thinksmith.training.rl.run import Result, run

SHIPPED = sorted(path.stem for path in recipes.HERE.glob("*.toml"))
LAYERS = 1
LARGE = [name for name in SHIPPED if load(name, GRPORecipe).model not in EMBEDDED]
every = pytest.mark.parametrize("name", SHIPPED)
large = pytest.mark.parametrize("name", LARGE)

QWEN = {
    "tokens": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "end": "<|im_end|>",
    "pad": "<|endoftext|>",
    "template": (
        "{%- if messages[0]['role'] != 'system' -%}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif -%}"
        "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
    ),
    "prompt": (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n1 + 1?<|im_end|>\n"
        "<|im_start|>assistant\n"
    ),
}
R1 = {
    "tokens": ["<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>"],
    "end": "<｜end▁of▁sentence｜>",
    "pad": "<｜end▁of▁sentence｜>",
    "template": (
        "{{ '<｜begin▁of▁sentence｜>' }}{%- for message in messages -%}"
        "{{ ('<｜User｜>' if message['role'] == 'user' else '<｜Assistant｜>') + message['content'] }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<｜Assistant｜><think>\\n' }}{%- endif -%}"
    ),
    "prompt": "<｜begin▁of▁sentence｜><｜User｜>1 + 1?<｜Assistant｜><think>\n",
}


def chat_of(model: str) -> dict[str, Any]:
    """How the model's template marks turns: ChatML with a system turn of its own, or R1's with `<think>` opened."""
    return R1 if "R1" in model else QWEN


def make_tokenizer(chat: dict[str, Any]) -> transformers.PreTrainedTokenizerFast:
    """Byte-level, so that any problem can be asked, with the special tokens and the template of the real one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=512, special_tokens=chat["tokens"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(corpus(seed=3, problems=20), trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in ("<think>", "</think>")])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=chat["end"],
        pad_token=chat["pad"],
        chat_template=chat["template"],
        clean_up_tokenization_spaces=False,
    )


def make_checkpoint(folder: Path, model: str, layers: int | None = LAYERS, vocabulary: int | None = None) -> Path:
    """Random weights in the true shape of a model of the catalogue. `layers` and `vocabulary`: None is as many as it
    has, and as many as the tokenizer has."""
    tokenizer = make_tokenizer(chat_of(model))
    # `layers=None` is for a whole model: 2 GB for Qwen2.5-0.5B, so not done here.
    fields = dict(catalogue()[model].config) | ({"num_hidden_layers": layers} if layers else {})
    kind = fields.pop("model_type")
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    fields |= {"vocab_size": vocabulary or len(tokenizer), "initializer_range": 0.02, **ends}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(kind, **fields))
    made.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def even_ids(attempt: Attempt) -> float:
    """Random weights are never right; this differs between most attempts, so that there is something to learn."""
    return sum(1 - token % 2 for token in attempt.trace.token_ids) / 10


@dataclass
class Watcher:
    """Keeps what it is shown, and stops the run after a step."""

    stop_after: int = 0
    steps: list[int] = field(default_factory=list)

    def stage(self, stage: str, total: int) -> None:
        pass

    def attempt(self, attempt: Attempt) -> None:
        pass

    def alarm(self, alarm: object) -> None:
        pass

    def warming(self, step: int, loss: float) -> None:
        pass

    def step(self, metrics: dict[str, float]) -> None:
        self.steps.append(int(metrics["step"]))
        if self.steps[-1] == self.stop_after:
            raise KeyboardInterrupt


def do(recipe: GRPORecipe, folder: Path, watcher: Watcher | None = None) -> Result:
    with Store.open(folder.parent / "store.db") as store:
        return run(recipe, folder, store, watcher or Watcher())


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Bit for bit holds for one number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def competition(rows: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """MATH's training set lies on the hub; its stand-in are two halves of MATH-500, written as that one is."""
    folder = tmp_path_factory.mktemp("math")
    found = rows("math500/test.jsonl")
    for name, part in (("train", found[:60]), ("test", found[400:420])):
        lines = [json.dumps({"problem": r["problem"], "solution": r["solution"], "level": r["level"]}) for r in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    options = "kind=math,answer=solution"  # as the recipe says it of the hub's set
    return f"{folder / 'train.jsonl'}:{options}", f"{folder / 'test.jsonl'}:{options}"


@pytest.fixture
def problem_sets(rows: Callable[..., Any], request: pytest.FixtureRequest) -> Callable[[GRPORecipe], dict[str, str]]:
    """What is asked instead of sets that are not here; skips where the data sets are not."""

    def sets(recipe: GRPORecipe) -> dict[str, str]:
        if recipe.problems.startswith("hub/"):
            assert recipe.problems.endswith(":kind=math,answer=solution")
            train, test = request.getfixturevalue("competition")
            return {"problems": train, "evaluation.problems": test}
        if recipe.problems == "gsm8k":
            rows("gsm8k/train.jsonl")
        return {}

    return sets


@dataclass(frozen=True)
class Dry:
    """A recipe cut down to two steps, and the folder of the model in its place."""

    whole: GRPORecipe
    recipe: GRPORecipe
    model: str


@pytest.fixture(scope="session")
def folders() -> dict[str, Path]:
    return {}


@pytest.fixture
def dry(
    problem_sets: Callable[[GRPORecipe], dict[str, str]],
    folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str], Dry]:
    def make(name: str) -> Dry:
        whole = load(name, GRPORecipe)
        if whole.model not in EMBEDDED and whole.model not in folders:
            folders[whole.model] = make_checkpoint(tmp_path_factory.mktemp("shape") / "model", whole.model)
        return cut(name, whole, str(folders.get(whole.model, whole.model)), problem_sets(whole))

    return make


def cut(name: str, whole: GRPORecipe, model: str, sets: dict[str, str]) -> Dry:
    """Fewer and shorter; what is left is the recipe's."""
    rewards = {**whole.rewards, "test_shipped_recipes:even_ids": 1.0}
    sizes = {
        "model": model,
        "steps": 2,
        "rewards": rewards,
        "rollout.prompts": 2,
        "rollout.num_generations": 4,
        "rollout.max_tokens": 12,
        "rollout.pool": 16,
        "training.warmup": min(whole.training.warmup, 1),
        "training.decay": 0,
        "training.save_every": 1,
        "evaluation.n": 2,
        "evaluation.max_tokens": 12,
    }
    if whole.warmup:
        sizes |= {"warmup.steps": 2, "warmup.trajectories": 8, "warmup.batch": 4}
    if whole.evaluation.every:
        sizes |= {"evaluation.every": 1, "evaluation.every_n": 2}
    return Dry(whole, load(name, GRPORecipe, sizes | sets), model)


def trained(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    (path,) = (path for part in ("adapter", "model") for path in (folder / part).glob("*.safetensors"))
    return load_file(path)


@every
def test_a_dry_run_is_stopped_goes_on_and_moves_the_weights(
    name: str, dry: Callable[[str], Dry], tmp_path: Path
) -> None:
    recipe, folder, watcher = dry(name).recipe, tmp_path / "run", Watcher()
    with pytest.raises(KeyboardInterrupt):
        do(recipe, folder, Watcher(stop_after=1))
    first = read_metrics(folder / "metrics.jsonl")
    do(recipe, folder, watcher)
    assert watcher.steps == [2]
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[:1] == first
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert all(row["kept_share"] > 0 and row["grad_norm"] > 0 and row["lr"] > 0 for row in rows)
    assert all(row["largest_logprob_gap"] < 1e-3 for row in rows)  # NaN would be found above
    assert {f"reward/{reward}" for reward in recipe.rewards} <= rows[0].keys()
    assert ("held_out_accuracy" in rows[1]) == bool(recipe.evaluation.every)
    assert (folder / "report.html").stat().st_size > 10_000
    after = trained(folder)
    if recipe.training.tuning == "lora":
        outer = [tensor for key, tensor in after.items() if "lora_B" in key]  # zero where an adapter begins
        assert len(outer) == 7 * LAYERS
        assert all(tensor.any() and recipe.lora.rank in tensor.shape for tensor in outer)
    else:
        before = load_policy(recipe.model).model.state_dict()
        assert sum(not torch.equal(tensor, before[key]) for key, tensor in after.items()) > len(after) / 2


@every
def test_nothing_in_it_is_refused_or_without_effect(
    name: str, dry: Callable[[str], Dry], problem_sets: Callable[[GRPORecipe], dict[str, str]]
) -> None:
    found = dry(name)
    # As it stands but for the model's folder: its lengths must fit into the model's own context.
    recipe = load(name, GRPORecipe, {"model": found.model, **problem_sets(found.whole)})
    pool = load_problems(recipe.problems, recipe.rollout.pool, split="train", seed=recipe.seed, all_if_fewer=True)
    n = min(recipe.evaluation.n, 20) if recipe.evaluation.problems.endswith("solution") else recipe.evaluation.n
    held_out = load_problems(recipe.evaluation.problems, n, split="test", seed=recipe.seed)
    check(recipe, pool, held_out)
    assert not {p.id for p in pool} & {p.id for p in held_out}
    assert not {p.text for p in pool} & {p.text for p in held_out}
    assert recipe.evaluation.every_n <= recipe.evaluation.n
    assert recipe.rollout.pool == 4096 or len(pool) in (recipe.rollout.pool, 60)


@large
def test_its_stand_in_has_the_true_shape_and_asks_as_the_model_is_asked(name: str, dry: Callable[[str], Dry]) -> None:
    found = dry(name)
    assert found.whole.model in catalogue()
    policy = load_policy(found.model)
    small, true = policy.model.config, find_shape(found.whole.model)
    assert small.hidden_size == true.hidden
    for key, value in catalogue()[found.whole.model].config.items():
        if key not in ("num_hidden_layers", "vocab_size"):
            assert getattr(small, key) == value, key
    prompt = policy.tokenizer.decode(policy.render([{"role": "user", "content": "1 + 1?"}]).ids)
    assert prompt == chat_of(found.whole.model)["prompt"]


@large
def test_it_fits_as_its_comment_says(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    from thinksmith.cli.main import run as cli

    recipe = load(name, GRPORecipe)
    comment = " ".join(re.findall(r"^# ?(.*)$", recipes.find(name).read_text(encoding="utf-8"), re.MULTILINE))
    command, said = re.search(r"`thinksmith (fit .+?)` says: ([\d.]+ GB of 24\.8 GB)", comment).groups()  # type: ignore[union-attr]
    words = shlex.split(command)
    assert cli(words) == 0
    answer = capsys.readouterr().out
    assert answer.startswith("Yes: it needs")
    assert said in answer.split("\n")[0]
    # And it was asked about this recipe.
    options = dict(pairwise(words))
    assert find_shape(words[1]).name == recipe.model
    assert options["--group"] == str(recipe.rollout.num_generations)
    assert options["--prompts"] == str(recipe.rollout.prompts)
    assert options["--tuning"] == recipe.training.tuning
    assert options["--lora-rank"] == str(recipe.lora.rank)
    assert int(options["--length"]) == recipe.rollout.max_tokens + 256
    assert ("--checkpointing" in words) == recipe.training.gradient_checkpointing
    assert options.get("--reference") == ("adapter" if recipe.training.beta else None)


@large
def test_it_says_whose_figures_it_means_to_reach(name: str) -> None:
    assert re.search(r"(github|huggingface)\.com?/\S+", load(name, GRPORecipe).expected)


@large
def test_all_weights_are_not_trained_in_bfloat16_at_a_rate_that_is_rounded_away(name: str) -> None:
    """On a GPU weights are bfloat16 unless the model's name says otherwise: a step of 1e-5 moves 1 of 7 of them."""
    recipe = load(name, GRPORecipe)
    assert recipe.training.tuning == "lora" or recipe.model.endswith(":float32")
