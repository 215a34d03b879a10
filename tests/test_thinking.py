"""The splitter's laws: one result for every chunking, nothing lost, no end tag swallowed; and its rules, one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

from thinksmith.errors import UserError
from thinksmith.thinking import (
    BRACKET,
    CHANNEL,
    TAGS,
    THINK,
    THINKING,
    Piece,
    Split,
    Splitter,
    Tags,
    TokenSplitter,
    detect_tags,
    is_open,
    split,
)

WS = " \t\r\n"
ODD = Tags("Reasoning:", "§Answer:")  # tags that begin with different characters, one of them not ASCII
ALL_TAGS = [THINK, THINKING, BRACKET, CHANNEL, ODD]


def texts(tags: Tags, fragments: bool = True) -> st.SearchStrategy[str]:
    """Texts made of what can confuse a splitter: tags and their parts, fences, quotes, whitespace, letters, emoji."""
    alphabet = ["a", "b ", "é", "😀", "`", "``", "```", '"', "'", "“", "”", "(", ".", "\n", " ", "\n\n", "\t", "\r\n"]
    if fragments:
        whole = [tags.start, tags.end, *tags.all]
        quoted = [q + tags.end + q for q in "`\"'"]
        parts = [tag[:n] for tag in whole for n in (1, 2, len(tag) - 1)] + [tag[1:] for tag in whole]
        alphabet += sorted({*whole, *quoted, *parts, "<tool_call>"}) + [tags.end, "\n" + tags.end, tags.end + " "] * 2
    return st.lists(st.sampled_from(alphabet), max_size=14).map("".join)


def chop(text: str, cuts: Iterable[int]) -> list[str]:
    edges = sorted({0, len(text), *(cut for cut in cuts if cut <= len(text))})
    return [text[a:b] for a, b in pairwise(edges)]


def run(chunks: Iterable[str], tags: Tags, opened: bool) -> tuple[Splitter, list[Piece]]:
    splitter = Splitter(tags, opened)
    pieces = [piece for chunk in chunks for piece in splitter.feed(chunk)]
    return splitter, pieces + splitter.finish()


def joined(pieces: Iterable[Piece], part: str) -> str:
    return "".join(piece.text for piece in pieces if piece.part == part)


# An independent reference: the rules, read off the whole text with every character in sight.


def after_tag(text: str) -> str:
    body = text.lstrip(WS)
    space = text[: len(text) - len(body)]
    return (space.rpartition("\n")[2] if "\n" in space else "") + body


def is_quoted(text: str, since: int, at: int, tag: str) -> bool:
    before, after = text[since:at], text[at + len(tag) : at + len(tag) + 1]
    if before[-1:] + after in ("“”", "‘’", "«»", "「」"):
        return True
    if not before or before[-1] != after or after not in "`\"'" or before[-3:] == "```":
        return False
    context = before[: -2 if before.endswith("``") else -1][-1:]
    return not context or context in WS + "([{=*" or not context.isascii()


def first_tag(text: str, at: int, since: int, tags: Iterable[str], starts: Iterable[str] = ()) -> tuple[int, str]:
    """Leftmost tag in text[at:] that counts; `starts` count at the beginning of a line only. (len, "") if none."""
    while True:
        found = [(text.find(tag, at), tag) for tag in (*tags, *starts) if text.find(tag, at) >= 0]
        if not found:
            return len(text), ""
        where, tag = min(found)
        fits = text[since:where].endswith("\n") if tag in starts else not is_quoted(text, since, where, tag)
        if fits:
            return where, tag
        at = where + len(tag)


def reference(text: str, tags: Tags, opened: bool) -> Split:
    closers = {tags.end, *tags.answers}
    at, thought, block, inside = 0, "", opened, False
    while True:  # one round for each place where a tag may stand
        if not inside:
            rest = text[at:].lstrip(WS)
            gap, here = text[at : len(text) - len(rest)], len(text) - len(rest)
            tag = next((tag for tag in tags.all if rest.startswith(tag)), "")
            first = at == 0
            if tag in tags.starts:
                thought = thought + gap if thought.strip(WS) else ""
                block, inside, at = True, True, here + len(tag)
            elif tag:
                block = block or tag == tags.end or not first
                thought, at = thought + gap, here + len(tag)
            elif first and opened:
                inside = True
                if not rest:
                    return Split("", "", "truncated")
            elif first and rest:
                where, tag = first_tag(text, here, 0, closers, tags.starts)
                if not tag:
                    return Split("", text, "none")
                block, inside, thought, at = True, tag in tags.starts, text[:where], where + len(tag)
            else:
                answer = text[at:] if first else after_tag(text[at:])
                shown = after_tag(thought).rstrip(WS)
                return Split(shown, answer if rest or first else "", "closed" if block else "none")
        else:
            where, tag = first_tag(text, at, at, closers)
            thought = thought + text[at:where] if thought.strip(WS) else text[at:where]
            if not tag:
                return Split(after_tag(thought).rstrip(WS), "", "truncated")
            inside, at = False, where + len(tag)


@pytest.mark.parametrize("tags", ALL_TAGS, ids=lambda tags: tags.start)
@given(data=st.data(), opened=st.booleans())
@settings(max_examples=250, deadline=None)
def test_every_chunking_gives_the_reference_result(tags: Tags, data: st.DataObject, opened: bool) -> None:
    text = data.draw(texts(tags))
    cuts = data.draw(st.one_of(st.just(range(len(text))), st.lists(st.integers(0, max(1, len(text))))))
    whole, whole_pieces = run([text], tags, opened)
    cut, cut_pieces = run(chop(text, cuts), tags, opened)
    assert Split(whole.thinking, whole.answer, whole.status) == reference(text, tags, opened)
    for name in ("thinking", "answer", "status", "recast", "answer_from"):
        assert getattr(cut, name) == getattr(whole, name), name
    for part in ("thinking", "answer"):
        assert joined(cut_pieces, part) == joined(whole_pieces, part)
        if not whole.recast:
            assert joined(cut_pieces, part) == getattr(whole, part)
    assert all(piece.text for piece in cut_pieces)


@given(data=st.data(), opened=st.booleans(), tags=st.sampled_from(ALL_TAGS))
@settings(max_examples=400, deadline=None)
def test_nothing_is_lost_but_tags_and_whitespace(data: st.DataObject, opened: bool, tags: Tags) -> None:
    text = data.draw(texts(tags))
    result = split(text, tags, opened)
    left, kept = squeeze(text), squeeze(result.thinking + result.answer)
    reached = {(0, 0)}  # (characters of the text, of them kept) that leaving out tags can explain
    for i in range(len(left)):
        for a, j in [state for state in reached if state[0] == i]:
            if left[a : a + 1] == kept[j : j + 1]:
                reached.add((a + 1, j + 1))
            reached.update((a + len(tag), j) for tag in tags.all if left.startswith(tag, a))
    assert (len(left), len(kept)) in reached
    if result.status == "none" and not (tags.answer and tags.answer in text):
        assert result.answer == text


def squeeze(text: str) -> str:
    return "".join(character for character in text if character not in WS)


@given(thought=texts(THINK, fragments=False), answer=texts(THINK), opened=st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_fence_or_quote_swallows_the_true_end_tag(thought: str, answer: str, opened: bool) -> None:
    answer = "x" + answer  # so that it is not itself a tag or whitespace
    text = ("" if opened else "<think>") + thought + "\n</think>\n\n" + answer
    assert split(text, opened=opened) == Split(after_tag(thought).rstrip(WS), answer, "closed")


@given(text=texts(THINK))
@settings(max_examples=300, deadline=None)
def test_a_wrong_opened_flag_changes_little(text: str) -> None:
    """A repeated start tag is dropped, and a lone end tag shows what the template had opened."""
    assert split("<think>" + text, opened=True) == split("<think>" + text, opened=False)
    if "<think>" not in text and split(text).status == "closed":
        assert split(text, opened=True) == split(text, opened=False)


# The rules, one by one: (completion, thinking, answer, status); U marks that the template had opened the block.

RULES: dict[str, tuple[str, str, str, str]] = {
    "plain": ("<think>\nhm\n</think>\n\n42", "hm", "42", "closed"),
    "no block": ("  42\n", "", "  42\n", "none"),
    "nothing": ("", "", "", "none"),
    "only whitespace": (" \n", "", " \n", "none"),
    "whitespace before the block": ("\n <think>hm</think>42", "hm", "42", "closed"),
    "empty block": ("<think>\n\n</think>\n\n42", "", "42", "closed"),
    "empty block, nothing else": ("<think></think>", "", "", "closed"),
    "truncated": ("<think>hm, 4 ", "hm, 4", "", "truncated"),
    "truncated at once": ("<think>", "", "", "truncated"),
    "truncated in the end tag": ("<think>hm</thin", "hm</thin", "", "truncated"),
    "truncated in the start tag": ("<thin", "", "<thin", "none"),
    "end tag in backticks": ("<think>a `</think>` b</think>42", "a `</think>` b", "42", "closed"),
    "end tag in double backticks": ("<think>a ``</think>`` b</think>42", "a ``</think>`` b", "42", "closed"),
    "end tag in a call": ('<think>s.split("</think>")\n</think>42', 's.split("</think>")', "42", "closed"),
    "end tag in curly quotes": ("<think>say“</think>”b</think>42", "say“</think>”b", "42", "closed"),
    "end tag in backticks after Chinese": ("<think>用`</think>`了</think>42", "用`</think>`了", "42", "closed"),
    "quote on one side only": ("<think>a `</think>42", "a `", "42", "closed"),
    "quote on one side, text over": ('<think>a "</think>', 'a "', "", "closed"),
    "quotes that close and open": ('<think>say "Hi"</think>"Hi"', 'say "Hi"', '"Hi"', "closed"),
    "code spans that close and open": ("<think>so `x`</think>`x`", "so `x`", "`x`", "closed"),
    "fence that was left open": (
        "<think>```py\nx = 1\n</think>\n```py\nx\n```",
        "```py\nx = 1",
        "```py\nx\n```",
        "closed",
    ),
    "end tag in a fence": ("<think>```\n</think>\n```\nb</think>42", "```", "```\nb</think>42", "closed"),
    "fences against the tag": ("<think>\n```</think>```py\nx\n```", "```", "```py\nx\n```", "closed"),
    "nested start tag": ("<think>a<think>b</think>c</think>d", "a<think>b", "c</think>d", "closed"),
    "two blocks": ("<think>a</think>\n<think>\nb</think>\n42", "a\n\nb", "42", "closed"),
    "two blocks, nothing between": ("<think>a</think><think>b</think>42", "ab", "42", "closed"),
    "empty block, then one": ("<think>\n</think>\n<think>  b</think>42", "b", "42", "closed"),
    "a quote before the tag before": ("<think>a `</think><think></think>`x", "a `", "`x", "closed"),
    "second block truncated": ("<think>a</think><think>b", "ab", "", "truncated"),
    "end tag twice": ("<think>a</think>\n</think>\n42", "a", "42", "closed"),
    "block inside the answer": ("<think>a</think>b <think>c</think>\nd", "a", "b <think>c</think>\nd", "closed"),
    "tool call at once": ('<think>a</think><tool_call>{"x": 1}', "a", '<tool_call>{"x": 1}', "closed"),
    "missing start tag": ("hm\n</think>\n\n42", "hm", "42", "closed"),
    "end tag first": ("</think>\n42", "", "42", "closed"),
    "missing start tag, quoted end tag": ("try `</think>` now", "", "try `</think>` now", "none"),
    "late start tag": ("Sure!\n<think>\na</think>b", "Sure!\n\na", "b", "closed"),
    "late start tag, truncated": ("Sure!\n<think>\na", "Sure!\n\na", "", "truncated"),
    "start tag in running text": ("The <think> tag", "", "The <think> tag", "none"),
    "indentation of the answer": ("<think>a</think>\n\n    return 1\n", "a", "    return 1\n", "closed"),
    "blank on the tag's line": ("<think> a</think> 42 ", "a", "42 ", "closed"),
    "newline before the tag, blank after it": ("<think>a\n</think> 42", "a", "42", "closed"),
    "carriage returns": ("<think>\r\na\r\n</think>\r\n\r\n42\r\n", "a", "42\r\n", "closed"),
    "whitespace inside": ("<think>a \n\n b</think>c \n\n d", "a \n\n b", "c \n\n d", "closed"),
    "U: plain": ("\nhm\n</think>\n\n42", "hm", "42", "closed"),
    "U: nothing": ("", "", "", "truncated"),
    "U: truncated": ("hm", "hm", "", "truncated"),
    "U: empty block": ("\n</think>42", "", "42", "closed"),
    "U: start tag repeated": ("\n<think>\nhm</think>42", "hm", "42", "closed"),
    "U: quoted at the beginning": ("`</think>` is a tag</think>42", "`</think>` is a tag", "42", "closed"),
}


@pytest.mark.parametrize("name", RULES)
def test_rule(name: str) -> None:
    completion, *expected = RULES[name]
    opened = name.startswith("U: ")
    splitter, _ = run(completion, THINK, opened)  # letter by letter
    assert [splitter.thinking, splitter.answer, splitter.status] == expected
    assert split(completion, THINK, opened) == Split(*expected)  # type: ignore[arg-type]
    assert reference(completion, THINK, opened) == Split(*expected)  # type: ignore[arg-type]


FINAL = "<|start|>assistant<|channel|>final<|message|>"
CHANNELS: dict[str, tuple[str, str, str, str]] = {
    "usual": (f"<|channel|>analysis<|message|>hm<|end|>{FINAL}42", "hm", "42", "closed"),
    "no end": ("<|channel|>analysis<|message|>hm<|channel|>final<|message|>42", "hm", "42", "closed"),
    "no thinking": ("<|channel|>final<|message|>42", "", "42", "none"),
    "two analyses": (
        f"<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>{FINAL}\n42",
        "ab",
        "42",
        "closed",
    ),
    "tool call": (
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>commentary to=f<|message|>{}",
        "a",
        "<|start|>assistant<|channel|>commentary to=f<|message|>{}",
        "closed",
    ),
    "truncated in the header": ("<|channel|>analysis<|message|>a<|start|>assis", "a<|start|>assis", "", "truncated"),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_channel_rule(name: str) -> None:
    completion, *expected = CHANNELS[name]
    splitter, _ = run(completion, CHANNEL, opened=False)
    assert [splitter.thinking, splitter.answer, splitter.status] == expected
    thinking_takes = {"closed": len(completion) - len(completion.rpartition(">")[2]), "truncated": None, "none": 0}
    if name != "tool call":
        assert splitter.answer_from == thinking_takes[splitter.status]


def test_recast_tells_a_streaming_consumer() -> None:
    splitter, pieces = run(["hm ", "so</think>", "42"], THINK, opened=False)
    assert joined(pieces, "answer") == "hm so42"  # what had been handed out stays handed out
    assert (splitter.thinking, splitter.answer, splitter.recast) == ("hm so", "42", True)
    assert not run(["<think>hm</think>42"], THINK, opened=False)[0].recast


@pytest.mark.parametrize("filler", ["<", "</thi", "a", "`</think>` ", "<think>"])
def test_little_is_held_back(filler: str) -> None:
    """At any moment all is out but what may become a tag, a tag after a quote, or whitespace at the end."""
    splitter = Splitter(THINK, opened=True)
    splitter.feed("x ")
    fed = "x "
    for character in filler * 20:
        splitter.feed(character)
        fed += character
        assert fed.startswith(splitter.thinking)
        assert len(fed) - len(splitter.thinking) <= len("</think>") + 1


@pytest.mark.parametrize("filler", ["<", "<thin", "`</think>` ", " ", "</think>", "a\n", "<think>"])
@pytest.mark.parametrize(("opened", "chunk"), [(True, 4), (False, 4), (True, 1_000_000)])
def test_time_is_linear(filler: str, opened: bool, chunk: int) -> None:
    def seconds(size: int) -> float:
        text = filler * (size // len(filler))
        chunks = [text[i : i + chunk] for i in range(0, size, chunk)]
        begin = time.process_time()
        run(chunks, THINK, opened)
        return time.process_time() - begin

    small, large = min(seconds(8_000) for _ in range(3)), min(seconds(128_000) for _ in range(2))
    assert large < 16 * small * 4, f"16 times the text took {large / small:.0f} times as long"


# Tokens.

MERGES = [
    b"</th",
    b"ink>",
    b">The",
    b"<think>",
    b"</think>",
    b"</think>\n\n",
    b"\xf0\x9f",
    b"\x98\x80!",
    b" `",
    b"\xa9<",
    b"</think>\xf0",
]
VOCABULARY = [bytes([byte]) for byte in range(256)] + MERGES


def decode_bytes(ids: list[int]) -> str:
    """A byte-level tokenizer's decoder."""
    return b"".join(VOCABULARY[i] for i in ids).decode("utf-8", errors="replace")


def decode_fallback(ids: list[int]) -> str:
    """A decoder with byte fallback: a run of byte tokens is text only if all of it is; a first space is dropped."""
    out, run_of_bytes = "", b""
    for token in [*ids, -1]:
        if 0 <= token < 256:
            run_of_bytes += bytes([token])
            continue
        try:
            out += run_of_bytes.decode()
        except UnicodeDecodeError:
            out += "\ufffd" * len(run_of_bytes)
        run_of_bytes = b""
        out += [" word", "<think>", "</think>", "\n", ""][token - 256] if token >= 0 else ""
    return out.removeprefix(" ")


@st.composite
def tokenised(draw: st.DrawFn) -> list[int]:
    """Valid text cut into tokens of the toy vocabulary, also in the middle of characters."""
    data, ids = draw(texts(THINK)).encode(), list[int]()
    while data:
        fitting = [i for i, token in enumerate(VOCABULARY) if data.startswith(token)]
        ids.append(draw(st.sampled_from(fitting)))
        data = data[len(VOCABULARY[ids[-1]]) :]
    return ids


def feed_tokens(ids: list[int], decode: Callable[[list[int]], str], opened: bool) -> tuple[TokenSplitter, list[Piece]]:
    splitter = TokenSplitter(decode, THINK, opened)
    pieces = [piece for token in ids for piece in splitter.feed(token)]
    return splitter, pieces + splitter.finish()


@given(ids=tokenised(), opened=st.booleans())
@settings(max_examples=150, deadline=None)
def test_tokens_give_what_their_text_gives(ids: list[int], opened: bool) -> None:
    by_token, token_pieces = feed_tokens(ids, decode_bytes, opened)
    by_text, text_pieces = run([decode_bytes(ids)], THINK, opened)
    for name in ("thinking", "answer", "status", "recast"):
        assert getattr(by_token, name) == getattr(by_text, name)
    for part in ("thinking", "answer"):
        assert joined(token_pieces, part) == joined(text_pieces, part)

    border = by_text.answer_from
    starts = [b"".join(VOCABULARY[i] for i in ids[:n]).decode("utf-8", errors="ignore") for n in range(len(ids))]
    thinking = sum(border is None or len(start) < border for start in starts)
    assert (by_token.thinking_tokens, by_token.answer_tokens) == (thinking, len(ids) - thinking)


@given(
    ids=st.lists(st.sampled_from([65, 128, 0xC3, 0xE2, 0xF0, 0x9F, 0x98, 0x80, 0xFF, 256, 260, 262, 263]), max_size=80)
)
@settings(max_examples=400, deadline=None)
def test_bytes_that_are_no_text_come_out_as_the_decoder_has_them(ids: list[int]) -> None:
    splitter, _ = feed_tokens([65, *ids], decode_bytes, opened=False)
    whole = split(decode_bytes([65, *ids]))
    assert (splitter.thinking, splitter.answer, splitter.status) == (whole.thinking, whole.answer, whole.status)


@given(words=st.lists(st.sampled_from([256, 256, 257, 258, 259, 260, "é", "😀", "中文", "<", "/"]), max_size=60))
@settings(max_examples=300, deadline=None)
def test_byte_fallback_loses_no_character(words: list[int | str]) -> None:
    ids = [i for word in words for i in ([word] if isinstance(word, int) else list(word.encode()))]
    splitter, pieces = feed_tokens(ids, decode_fallback, opened=False)
    whole = split(decode_fallback(ids))
    assert (splitter.thinking, splitter.answer, splitter.status) == (whole.thinking, whole.answer, whole.status)
    assert "\ufffd" not in "".join(piece.text for piece in pieces)


@pytest.mark.parametrize("token", [65, 0x80, 0xF0, 0xFF, 256], ids=["letter", "stray", "lead", "invalid", "fragment"])
def test_tokens_decoded_grow_linearly(token: int) -> None:
    decoded = 0

    def counting(ids: list[int]) -> str:
        nonlocal decoded
        decoded += len(ids)
        return decode_bytes(ids)

    feed_tokens([token] * 3_000, counting, opened=True)
    assert decoded <= 3_000 * 20


def byte_level() -> Tokenizer:
    """A byte-level tokenizer as Qwen's and Llama 3's, small enough that most emoji need several tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["the answer is 12 because the other is not </think> so the"] * 3, trainer)
    tokenizer.add_special_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return tokenizer


def byte_fallback() -> Tokenizer:
    """A tokenizer with byte fallback as Llama 2's and Gemma's: words begin with ▁, unknown characters are bytes."""
    characters = ["▁", *"theanswrio12</k>\n"]
    vocabulary = {"<unk>": 0} | {f"<0x{byte:02X}>": byte + 1 for byte in range(256)}
    vocabulary |= {character: 257 + i for i, character in enumerate(dict.fromkeys(characters))}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    tokenizer.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    tokenizer.add_special_tokens([AddedToken("<think>"), AddedToken("</think>")])
    return tokenizer


@pytest.mark.parametrize("build", [byte_level, byte_fallback])
def test_a_real_tokenizer(build: Callable[[], Tokenizer]) -> None:
    tokenizer = build()

    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=False)

    text = "<think>the answer is 中文 12 😀😀é not `</think>` the\n</think>\n\n    is 😀 12, наш </thin"
    ids = tokenizer.encode(text).ids
    splitter, pieces = feed_tokens(ids, decode, opened=False)
    assert Split(splitter.thinking, splitter.answer, splitter.status) == split(decode(ids))
    assert splitter.answer.endswith("is 😀 12, наш </thin")
    assert "\ufffd" not in "".join(piece.text for piece in pieces)
    assert splitter.thinking_tokens == len(ids) - 1 - ids[::-1].index(tokenizer.token_to_id("</think>")) + 1


def test_token_counts() -> None:
    end, straddling, letter, skipped = 260, 258, 65, 0

    def decode(ids: list[int]) -> str:
        return decode_bytes([i for i in ids if i != skipped])

    def counts(ids: list[int], opened: bool = True) -> tuple[int, int]:
        splitter, _ = feed_tokens(ids, decode, opened)
        return splitter.thinking_tokens, splitter.answer_tokens

    assert counts([letter, letter, end, letter, skipped]) == (
        3,
        2,
    )  # the end tag is thinking, an end of turn the answer's
    assert counts([letter, end, skipped]) == (2, 1)
    assert counts([letter, *b"</think", straddling, letter]) == (9, 1)  # ">The" begins in the tag
    assert counts([letter, letter, skipped]) == (3, 0)
    assert counts([letter, letter], opened=False) == (0, 2)
    assert counts([letter, end, letter], opened=False) == (2, 1)  # missing start tag
    assert counts([259, letter, 261, 259, letter, end, letter], opened=False) == (6, 1)  # two blocks
    assert counts([0xF0, end, letter]) == (2, 1)


def test_a_tag_and_half_a_character_in_one_token() -> None:
    tag_and_lead = len(VOCABULARY) - 1
    splitter, _ = feed_tokens([65, tag_and_lead, 0x9F, 0x98, 0x80], decode_bytes, opened=True)
    assert (splitter.thinking, splitter.answer) == ("A", "😀")
    assert (splitter.thinking_tokens, splitter.answer_tokens) == (2, 3)


def test_tokens_without_text_are_no_context() -> None:
    """A decoder that drops the first space must not drop one after a row of skipped tokens."""
    skipped = 300

    def decode(ids: list[int]) -> str:
        return decode_fallback([i for i in ids if i != skipped])

    ids = [256, *[256, *[skipped] * 9] * 9, 256]
    splitter, _ = feed_tokens(ids, decode, opened=False)
    assert splitter.answer == decode(ids) == " ".join(["word"] * 11)
    assert splitter.answer_tokens == len(ids)


# Prompts and tags.

CHATML = "<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("prompt", "tags", "expected"),
    [
        (CHATML, THINK, False),
        (CHATML + "<think>\n", THINK, True),
        (CHATML + "<think>\n\n</think>\n\n", THINK, False),
        (CHATML + "<think>\nOkay, so", THINK, True),
        (CHATML + "<think>\nOkay, `</think>` is", THINK, True),
        (CHATML + "<think>\nOkay</think>\nThe", THINK, False),
        (CHATML + "<think>a</think>b<|im_end|>\n" + CHATML + "<think>\n", THINK, True),
        (CHATML + "<think>a<|im_end|>\n" + CHATML, THINK, False),
        ("<｜begin▁of▁sentence｜><｜User｜>{question}<｜Assistant｜><think>\n", THINK, True),
        ("[INST]{question}[/INST][THINK]", BRACKET, True),
        ("[INST]{question}[/INST]", BRACKET, False),
        ("<|start|>user<|message|>{question}<|end|><|start|>assistant", CHANNEL, False),
        ("<|start|>user<|message|>{question}<|end|><|start|>assistant<|channel|>analysis<|message|>", CHANNEL, True),
        ("{question}\nAssistant: <think>", THINK, True),
        ("{question}\nAssistant:", THINK, False),
        ("<think>\nhm", THINK, True),
        ("", THINK, False),
    ],
)
@pytest.mark.parametrize("question", ["2+2?", "What is <think>?", "Why\n<think>\nthat?", "And </think>?"])
def test_is_open_looks_at_the_assistants_turn_only(prompt: str, tags: Tags, expected: bool, question: str) -> None:
    assert is_open(prompt.replace("{question}", question), tags) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ messages }}", "think"),
        ("{% if enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}", "think"),
        ("{{ content.split('</thinking>')[-1] }}", "thinking"),
        ("<|im_start|>user\nUse <thinking><|im_end|>\n<|im_start|>assistant\n<think>\n", "think"),
        ("[SYSTEM_PROMPT]Draft inside [THINK]here[/THINK][/SYSTEM_PROMPT][INST]2+2?[/INST]", "bracket"),
        ("<|start|>user<|message|>2+2?<|end|><|start|>assistant", "channel"),
        ("<|user|>\n2+2?<|end|>\n<|assistant|>\n", "think"),  # Phi shares an end tag with the channel format
    ],
)
def test_detect_tags(text: str, expected: str) -> None:
    assert detect_tags(text) is TAGS[expected]


@pytest.mark.parametrize(
    "tags",
    [("", "</t>"), ("<t>", " "), ("<t>", "<t>"), ("<t>", "<t>x"), ("<<t>>", "<t>"), ("\n<t>", "</t>")],
)
def test_tags_that_cannot_be_told_apart_are_refused(tags: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"^thinking tags .*$"):
        Tags(*tags)
