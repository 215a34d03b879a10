"""How an assistant's message that is there already is gone on with."""

from __future__ import annotations

from thinksmith.engines.contract import Engine, Opens, Reads
from thinksmith.records import Message
from thinksmith.thinking import THINK


def prefill_of(engine: Engine, message: Message) -> str:
    """The prefill of a request that goes on with `message`, which is left out of the request's messages.

    Of a message with thinking and content the thinking is over, and the content goes on; thinking alone goes on as
    thinking. Content alone is an answer: where the template opens a thinking, an empty one stands before it, or else
    the answer would be taken for a thought. Content that has its own tags stays as it is.
    """
    tags = engine.tags if isinstance(engine, Reads) else THINK
    thinking, content = message.get("thinking", ""), message["content"]
    opens = isinstance(engine, Opens) and engine.opens_thinking
    if not thinking and (not content or not opens or content.lstrip().startswith(tuple(tags.starts))):
        return content
    line = "" if tags.answer else "\n"  # a format with a tag before the answer has no lines of its own
    begun = f"{tags.start}{line}{thinking}"
    if not content:
        return begun
    return f"{begun}{line}{tags.end}{tags.header if tags.answer else ''}{tags.answer}{line * 2}{content}"
