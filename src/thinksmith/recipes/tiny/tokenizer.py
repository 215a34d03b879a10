"""The tokenizer of the embedded models: byte-level BPE, every digit its own token, at most 1,024 entries.

Byte-level, so that any text at all can be given to the models; digits apart, so that columns of a number can be
attended to. Signs keep the spaces around them in one token, which makes `27 * 34` five tokens and not nine.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from thinksmith.problems.families import FAMILIES, stream, write_solution
from thinksmith.problems.writer import Style

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>")
# A digit; a bracket; a word with the space before it and, if a digit follows, behind it; a run of signs with its
# spaces; other space.
SPLIT = r"\d|[()]| ?[A-Za-z]+(?: (?=\d))?| ?[^\sA-Za-z\d()]+[ \n]?|\s"
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n<think>\\n' }}{%- endif -%}"
)


def corpus(seed: int, problems: int) -> list[str]:
    """Texts in which the merges are counted: prompts and traces of every family, slips and hunches included."""
    rng = Random(seed)
    style = Style(direct=0.2, slip=0.1, notice=0.3, check=0.5)
    texts = []
    for name in FAMILIES:
        source = stream(name, {}, split="train", seed=seed)
        for _ in range(problems):
            problem = next(source)
            solution = write_solution(problem, rng, style)
            texts.append(f"{problem.text}\n{solution.thinking}\n\n{solution.answer}")
    return texts


def train_tokenizer(texts: list[str], entries: int) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `entries` tokens, the special ones included."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries - len(TAGS),
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=20,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def save(tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
