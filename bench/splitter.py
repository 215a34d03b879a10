"""How fast the thinking splitter is, in chunks of about one token, beside its peers in the same run.

Peers: `naive` keeps the text so far and splits it anew with a regular expression at every chunk, as serving code often
does; `partition` splits the whole text once with str.partition, so it is no streaming at all but an upper bound.
All three must agree on the text. Times are CPU seconds of this process, medians of the repetitions, interleaved.

    python bench/splitter.py [--quick]
"""

from __future__ import annotations

import argparse
import random
import re
import statistics
import time
from collections.abc import Callable

from _result import finish
from thinksmith.thinking import Splitter, TokenSplitter

CHUNK = 4  # characters, about one token
GOALS = {"mb_per_s_4_characters": 5.0, "pathological_growth_at_most": 8.0}
PATHOLOGICAL = {"<": "<", "<thin": "<thin", "spaces": " ", "end tags": "</think>", "quoted tags": "`</think>` "}
NAIVE = re.compile(r"</?think>\s*")


def trace(characters: int, seed: int = 0) -> str:
    """A completion of about this many characters, four fifths of them thinking."""
    draw = random.Random(seed)
    lines, size = list[str](), 0
    while size < characters:
        a, b = draw.randint(2, 99), draw.randint(2, 99)
        line = f"First {a} * {b} = {a * b}. Wait, check: is {a * b} < {a * b + b}? Yes.\n" + draw.choice(
            ["", "\n", "So "]
        )
        lines.append(line)
        size += len(line)
    border = len(lines) * 4 // 5
    thinking, answer = "".join(lines[:border]).strip(), "".join(lines[border:]).strip()
    return f"<think>\n{thinking}\n</think>\n\n{answer}"


def by_splitter(chunks: list[str]) -> tuple[str, str]:
    splitter = Splitter()
    for chunk in chunks:
        splitter.feed(chunk)
    splitter.finish()
    return splitter.thinking, splitter.answer


def by_naive(chunks: list[str]) -> tuple[str, str]:
    text, parts = "", [""]
    for chunk in chunks:
        text += chunk
        parts = NAIVE.split(text, maxsplit=2)
    return parts[1].strip(), parts[2]


def by_partition(chunks: list[str]) -> tuple[str, str]:
    thinking, _, answer = "".join(chunks).removeprefix("<think>").partition("</think>")
    return thinking.strip(), answer.lstrip()


def chopped(text: str) -> list[str]:
    return [text[i : i + CHUNK] for i in range(0, len(text), CHUNK)]


def words(text: str) -> list[str]:
    """Chunks as a tokenizer makes them: a word with the space before it, digits one by one, a run of signs."""
    return re.findall(r" ?[A-Za-z]+|\d|\n+| ?[^\sA-Za-z\d]+| ", text)


def seconds(work: Callable[[], object]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def rates(
    size: int, repetitions: int, cut: Callable[[str], list[str]], *ways: Callable[[list[str]], object]
) -> list[float]:
    """MB (1e6 characters, all ASCII) a second of each way, over the same chunks."""
    chunks = cut(trace(size))
    total = sum(map(len, chunks))
    times = [[seconds(lambda way=way: way(chunks)) for way in ways] for _ in range(repetitions)]
    return [total / statistics.median(column) / 1e6 for column in zip(*times, strict=True)]


def growth(filler: str, size: int, repetitions: int) -> float:
    """How many times as long four times the text takes; 4 is linear, 16 quadratic."""
    small, large = (chopped(filler * (n // len(filler))) for n in (size, 4 * size))
    times = [
        [seconds(lambda chunks=chunks: by_splitter(chunks)) for chunks in (small, large)] for _ in range(repetitions)
    ]
    return statistics.median(large for _, large in times) / statistics.median(small for small, _ in times)


def tokens_per_second(size: int, repetitions: int) -> float:
    """The token splitter over a byte-level toy tokenizer, whose decoder costs next to nothing."""
    vocabulary = sorted(set(words(trace(size))))
    ids = {word: i for i, word in enumerate(vocabulary)}
    tokens = [ids[word] for word in words(trace(size))]

    def run() -> None:
        splitter = TokenSplitter(lambda window: "".join([vocabulary[i] for i in window]))
        for token in tokens:
            splitter.feed(token)
        splitter.finish()

    return len(tokens) / statistics.median(seconds(run) for _ in range(repetitions))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions and shorter texts, under 50 seconds")
    quick = parser.parse_args().quick
    repetitions, size, short = (3, 200_000, 16_000) if quick else (7, 1_000_000, 32_000)

    for cut in (chopped, words):
        sample = cut(trace(8_000))
        assert by_splitter(sample) == by_naive(sample) == by_partition(sample), "the peers disagree"

    streamed, whole = rates(size, repetitions, chopped, by_splitter, by_partition)
    (token_like,) = rates(size, repetitions, words, by_splitter)
    ours, naive = rates(short, repetitions, chopped, by_splitter, by_naive)
    grown = {name: growth(filler, size // 8, repetitions) for name, filler in PATHOLOGICAL.items()}
    tokens = tokens_per_second(size // 4, repetitions)

    print(f"splitter, chunks of {CHUNK} characters   {streamed:8.1f} MB/s over {size:,} characters")
    print(f"splitter, chunks like tokens       {token_like:8.1f} MB/s")
    print(f"partition of the whole text        {whole:8.1f} MB/s   {whole / streamed:.0f} times the splitter")
    print(f"naive re-split at every chunk      {naive:8.3f} MB/s over {short:,} characters")
    print(f"splitter on those                  {ours:8.1f} MB/s   {ours / naive:.0f} times the naive way")
    print(f"token splitter                     {tokens:8.0f} tokens/s")
    for name, factor in grown.items():
        print(f"four times the text, {name:12}  {factor:8.1f} times the time")

    figures = {
        "mb_per_s_4_characters": round(streamed, 2),
        "mb_per_s_token_like": round(token_like, 2),
        "mb_per_s_partition_whole": round(whole, 1),
        "characters": size,
        "mb_per_s_naive": round(naive, 4),
        "mb_per_s_beside_naive": round(ours, 2),
        "times_naive": round(ours / naive, 1),
        "characters_beside_naive": short,
        "tokens_per_s": round(tokens),
        "pathological_growth": {name: round(factor, 2) for name, factor in grown.items()},
        "repetitions": repetitions,
    }
    holds = streamed >= GOALS["mb_per_s_4_characters"] and max(grown.values()) <= GOALS["pathological_growth_at_most"]
    finish("splitter", figures, GOALS, holds)


if __name__ == "__main__":
    main()
