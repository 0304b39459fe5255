"""From a conversation as a request continues it to the exact token ids that the model reads.

The ids of a transcript are never made again from text: the template is rendered, and what it writes behind the last
reply is encoded and appended. `Prompt.finish` gives the transcript that the turn leaves behind.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

from ark.chat.prompt.infill import find_format
from ark.chat.prompt.splice import RenderedPrompt, RenderTemplate, splice
from ark.chat.prompt.verbatim import Verbatim, mark_texts
from ark.chat.tools.formats import ToolFormat
from ark.chat.tools.in_prompt import write_tools
from ark.chat.tools.toolbox import function_call_id
from ark.engines.chat import Tokenizer
from ark.errors import BadRequest, ContextLengthExceeded, UnsupportedParameter, invalid_value, shorten
from ark.sessions.transcript import Continuation, Message, Seam, Transcript, common_tokens, pack_tokens, read_message

_ENDING = 64
_PROBE = (
    "The quick brown fox, 0123456789 times;\n\tif (x != 3.14) { return 'naïve'; } "
    "Съешь ещё этих мягких булок. 今日は良い天気です。 ¿Dónde está el niño? مرحبا بالعالم 🦊🚀"
)
_SAMPLES = 512
_CUTS = 8
"""Places before a stop string at which the text before it is tried to be encoded anew."""


class PromptBuilder:
    """Builds the prompts of one served model. Pure work on the processor: may be called in any thread."""

    def __init__(
        self, tokenizer: Tokenizer, *, model: str, context_length: int, tool_format: ToolFormat | None = None
    ) -> None:
        """`model` is the served name, which conversations belong to. `tool_format` is given for a chat template that
        shows no tools: they are then written into the messages."""
        self._verbatim = Verbatim(tokenizer, context_length)
        self._context_length = context_length
        self._last_opening = "", 0
        """The last prompt's opening, which most have, and how many ids it was. Any thread may replace it whole."""
        self.tokenizer = tokenizer
        self.fingerprint = fingerprint(tokenizer)
        self.model = model
        self._tool_format = tool_format

    def build(
        self,
        continuation: Continuation,
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """The prompt that `continuation` asks for.

        Raises BadRequest in the template's words when it refuses the messages, and ContextLengthExceeded when there
        is no room for one token of a reply.
        """

        tools, template_kwargs = self._verbatim.mark(tools), self._verbatim.mark(template_kwargs)

        def write(messages: Sequence[Mapping[str, Any]], generate: bool) -> str:
            shown = tools
            if self._tool_format is not None:
                messages, shown = write_tools(messages, tools, self._tool_format), None
            return self.tokenizer.render(
                messages, tools=shown, template_kwargs=template_kwargs, add_generation_prompt=generate
            )

        def render(messages: Sequence[Mapping[str, Any]], generate: bool = True) -> str:
            return self._verbatim.render(messages, partial(write, generate=generate))

        transcript = continuation.transcript
        if transcript is not None and transcript.fingerprint != self.fingerprint:
            transcript = None
        rendered = None if transcript is None else splice(continuation, transcript, render, self._verbatim)
        if rendered is None:
            # The reasoning of earlier replies goes to the template here, which keeps what the model is used to see.
            messages = [message.data for message in continuation.messages]
            text = render(messages)
            rendered = RenderedPrompt(ids=self._verbatim.encode(text), seams=(), text=text, messages=messages)
        if len(rendered.ids) >= self._context_length:
            raise ContextLengthExceeded(
                f"The messages are {len(rendered.ids)} tokens; the model's context is {self._context_length}, "
                "and the reply needs at least one.",
                param="messages",
            )
        return Prompt(
            ids=rendered.ids,
            retained=0 if transcript is None else common_tokens(transcript.tokens, pack_tokens(rendered.ids)),
            ending=rendered.text[-_ENDING:],
            continuation=continuation,
            rendered=rendered,
            # It is for the transcript, which a stateless turn does not leave.
            opening=None if continuation.how == "stateless" else self._find_opening(rendered, render),
            builder=self,
        )

    def encode(self, text: str, suffix: str | None = None, *, opening: bool = True) -> list[int]:
        """The ids of a bare prompt, in which special tokens are what they are; with a `suffix`, of one that asks for
        what comes between the two.

        Raises ContextLengthExceeded, and UnsupportedParameter for a suffix that the model knows nothing of.
        """
        form = None if suffix is None else find_format(self.tokenizer)
        if suffix is not None and form is None:
            reason = f"The model '{self.model}' was not trained to fill in: its tokenizer has no tokens for it."
            raise UnsupportedParameter(reason, param="suffix")
        try:
            if form is None:
                self._verbatim.check_length(text)
                ids = self.tokenizer.encode(text)
            else:
                before, after = (mark_texts(self._verbatim.mark(one), form.tokens) for one in (text, suffix or ""))
                ids = self._verbatim.encode(form.prompt(before, after))
        except ContextLengthExceeded as error:
            raise ContextLengthExceeded(error.message.replace("messages are", "prompt is"), param="prompt") from error
        return [*self.tokenizer.opening_ids, *ids] if opening else ids

    def _find_opening(self, rendered: RenderedPrompt, render: RenderTemplate) -> Opening:
        text, ids = rendered.text, rendered.ids
        known, count = self._last_opening
        if known and text.endswith(known) and self._ends_with(ids, count, known):
            return Opening(len(text) - len(known), len(ids) - count)
        try:
            base = _common_length(text, render(rendered.messages, False))
        except BadRequest:
            base = len(text)
        opening = text[base:]
        # It is a few tokens, so they are found from the end.
        for count in range(min(len(ids), len(opening.encode())) + 1):
            if self._ends_with(ids, count, opening):
                self._last_opening = opening, count
                return Opening(base, len(ids) - count)
        return Opening(base, -1)

    def _ends_with(self, ids: Sequence[int], count: int, text: str) -> bool:
        return count <= len(ids) and self.tokenizer.decode(ids[len(ids) - count :]) == text


@dataclass(frozen=True)
class Opening:
    """Where the text that opens the reply begins in a prompt."""

    base: int
    """In the text."""
    start: int
    """In the ids; -1 where no number of them is the opening."""


@dataclass(frozen=True)
class Prompt:
    """What one request gives the model to read."""

    ids: list[int]
    retained: int
    """Leading ids that the conversation's transcript had already; its state, if still there, need not be computed."""
    ending: str
    """The last characters of the prompt's text: whether it opens a think tag."""
    continuation: Continuation
    rendered: RenderedPrompt
    opening: Opening | None
    """None for a stateless turn."""
    builder: PromptBuilder

    def finish(
        self,
        reply_ids: Sequence[int],
        message: Mapping[str, Any],
        *,
        stop_ids: frozenset[int],
        kept: int | None = None,
    ) -> Transcript:
        """The transcript with the reply behind it.

        `message` is the reply as the client sees it, in the form of the request's messages; its reasoning may be in
        it. `stop_ids` are the job's. `kept` is given when a stop string cut the reply: the characters of its text
        before the stop string, counted as the tokenizer's stream gives them, reasoning and tags included. Tokens
        behind them do not stay, so that the model never remembers what the client has not seen.
        """
        if self.opening is None:
            raise RuntimeError("a stateless turn leaves no transcript")
        messages, ids = self.continuation.messages, list(reply_ids)
        stopped = kept is None and bool(ids) and ids[-1] in stop_ids
        if kept is not None:
            ids = truncate_ids(self.builder.tokenizer, ids, kept)
        tokens = self.ids + ids
        base = self.rendered.text[: self.opening.base]
        seam = Seam.behind(base, message=len(messages), start=self.opening.start, end=len(tokens), stopped=stopped)
        return Transcript(
            model=self.builder.model,
            fingerprint=self.builder.fingerprint,
            messages=(*messages, read_message(message, messages[-1])),
            tokens=pack_tokens(tokens),
            seams=(*self.rendered.seams, seam),
        )


def check_tool_results(messages: Sequence[Message], sent: int) -> None:
    """Check that each tool's result answers a call of the assistant's message before it.

    `messages` are the whole conversation, of which the request sent the last `sent`. Raises BadRequest. A call without
    a result is no mistake: clients interrupt tools, and models read such a history.
    """
    calls: set[Any] = set()
    for index, message in enumerate(messages, sent - len(messages)):
        data = message.data
        if data.get("role") != "tool":
            calls = {call.get("id") for call in data.get("tool_calls") or ()}
            continue
        number = data.get("tool_call_id")
        # The results of functions, which came before tools, name no call.
        if index < 0 or number in calls or number == function_call_id(data.get("name") or ""):
            continue
        raise invalid_value(
            f"messages[{index}].tool_call_id",
            "a message of the role 'tool' answers a call in the 'tool_calls' of the assistant's message before it; "
            f"there is none with the id '{shorten(str(number))}'.",
        )


def truncate_ids(tokenizer: Tokenizer, ids: Sequence[int], kept: int) -> list[int]:
    """Ids whose text is the first `kept` characters of the text of `ids`, as the tokenizer's stream gives it.

    The ids up to the cut stay as they are. Where it falls inside a token, the part before it is encoded anew.
    """
    stream = tokenizer.stream()
    text = ""
    # The first count of ids that gives so many characters: the next one may begin another character.
    counts = {0: 0}
    for count, token in enumerate(ids, 1):
        text += stream.push((token,))
        counts.setdefault(len(text), count)
    wanted = (text + stream.flush())[:kept]
    whole = [(end, count) for end, count in counts.items() if end <= len(wanted)]
    results = [[*ids[:count], *tokenizer.encode(wanted[end:])] for end, count in whole[: -_CUTS - 1 : -1]]
    exact = (result for result in results if _stream_text(tokenizer, result) == wanted)
    return next(exact, results[0])


def _stream_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    stream = tokenizer.stream()
    return stream.push(ids) + stream.flush()


def fingerprint(tokenizer: Tokenizer) -> str:
    """A digest that changes when the ids of a tokenizer change their meaning."""
    size = tokenizer.vocab_size
    digest = blake2b(digest_size=16)
    # Transcripts are written in this machine's byte order.
    digest.update(f"{sys.byteorder} {size} {sorted(tokenizer.stop_token_ids)} {tokenizer.encode(_PROBE)}".encode())
    for token in range(0, size, max(1, size // _SAMPLES)):
        digest.update(tokenizer.decode([token]).encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def _common_length(text: str, other: str) -> int:
    if text.startswith(other):
        return len(other)
    return next((n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
