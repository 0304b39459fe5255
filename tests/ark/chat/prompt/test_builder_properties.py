"""What holds of prompts for every shape of template, whatever a conversation goes through."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ark.chat.prompt.builder import Prompt, PromptBuilder
from ark.config import SessionsConfig
from ark.sessions.store import SessionStore
from ark.sessions.transcript import Transcript, read_messages, unpack_tokens

TOOLS = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
THINKING = re.compile(r"<think>.*?</think>\n*", re.DOTALL)

texts = st.text(alphabet="abc xyz\né🦊日'\"{}.,", min_size=1, max_size=24).map(lambda text: text.strip() or "q")
relaxed = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Step:
    """One turn of a client."""

    question: str
    answer: str
    reasoning: str | None
    ending: str
    change: str
    """What changes before the turn."""
    back: int
    """Turns of the past that the client takes back first."""
    returns: bool
    """The client sends the reasoning back."""
    other: bool
    """The turn belongs to the client's other conversation."""


def steps(*, changes: tuple[str, ...] = ("nothing", "date", "tools", "thinking"), rewinds: bool = True) -> Any:
    return st.lists(
        st.builds(
            Step,
            question=texts,
            answer=texts,
            reasoning=st.none() | texts,
            ending=st.sampled_from(["stop", "stop", "length", "foreign", "string"]),
            change=st.sampled_from(["nothing", "nothing", *changes]),
            back=st.sampled_from([0, 0, 0, 1, 2]) if rewinds else st.just(0),
            returns=st.booleans(),
            other=st.booleans(),
        ),
        min_size=1,
        max_size=6,
    )


@dataclass
class Turn:
    """What one turn was, for the checks."""

    prompt: Prompt
    before: Transcript | None
    rendering: str
    committed: Transcript


@dataclass
class Client:
    """A client with two conversations in one session, and the server's side of a turn."""

    tokenizer: Any
    system: bool = True
    tools: list[dict[str, Any]] | None = None
    kwargs: dict[str, Any] = field(default_factory=dict)
    cookie: str | None = None
    count: int = 0

    def __post_init__(self) -> None:
        self.store = SessionStore(SessionsConfig(), clock=lambda: 0.0)
        self.builder = PromptBuilder(self.tokenizer, model="m", context_length=100_000)
        first = [{"role": "system", "content": "be kind"}] if self.system else []
        self.histories: list[list[dict[str, Any]]] = [list(first), list(first)]

    def apply(self, change: str) -> None:
        self.count += 1
        if change == "date":
            self.tokenizer.date = f"day {self.count}"
        elif change == "tools":
            self.tools = None if self.tools else TOOLS
        elif change == "thinking":
            self.kwargs = {"enable_thinking": not self.kwargs.get("enable_thinking", True)}

    def turn(self, step: Step) -> Turn:
        self.apply(step.change)
        which = int(step.other)
        history = self.histories[which]
        for _ in range(step.back):
            if history and history[-1]["role"] == "assistant":
                del history[-2:]
        history.append({"role": "user", "content": f"{step.question} {self.word(which)}"})
        sent = [dict(message) for message in history]
        if not step.returns:
            for message in sent:
                message.pop("reasoning_content", None)
        lease = self.store.lease_cookie("me", self.cookie)
        continuation = self.store.resume(lease, read_messages(sent), "m")
        prompt = self.builder.build(continuation, tools=self.tools, template_kwargs=self.kwargs)
        message, ids, kept = self.reply(step, which)
        committed = prompt.finish(ids, message, stop_ids=self.tokenizer.stop_token_ids, kept=kept)
        self.store.commit(lease, committed)
        self.cookie = lease.session.id
        rendering = self.tokenizer.render(sent, tools=self.tools, template_kwargs=self.kwargs)
        history.append(message)
        return Turn(prompt, continuation.transcript, rendering, committed)

    def word(self, which: int) -> str:
        return f"word{which}n{self.count}"

    def reply(self, step: Step, which: int) -> tuple[dict[str, Any], list[int], int | None]:
        answer = f"{step.answer} {self.word(which)}"
        message: dict[str, Any] = {"role": "assistant", "content": answer}
        # Where the template writes a space before the past's replies, the model has learned to write it.
        text = " " if self.tokenizer.shape in {"mistral", "plain"} else ""
        if step.reasoning is not None:
            message["reasoning_content"] = f"{step.reasoning} secret{which}n{self.count}"
            text += "" if self.tokenizer.shape == "opened" else "<think>\n"
            text += f"{message['reasoning_content']}\n</think>\n\n"
        elif self.tokenizer.shape == "opened":
            text += "\n</think>\n\n"
        text += answer
        if step.ending == "string":
            return message, self.tokenizer.encode(text + "ab|STOP|more"), len(text)
        ids = self.tokenizer.encode(text)
        if step.ending == "stop":
            ids.append(self.tokenizer.stop_id)
        elif step.ending == "foreign":
            ids.append(self.tokenizer.core.token_to_id("<|eom_id|>"))
        return message, ids, None


def bare(text: str) -> str:
    """Without complete reasoning."""
    return THINKING.sub("", text)


@relaxed
@given(script=steps(), system=st.booleans())
def test_a_prompt_reads_as_the_template_writes_the_conversation_but_for_reasoning(
    tokenizer: Any, script: list[Step], system: bool
) -> None:
    client = Client(tokenizer, system)
    for step in script:
        turn = client.turn(step)
        assert bare(tokenizer.decode(turn.prompt.ids)) == bare(turn.rendering)


@relaxed
@given(script=steps(), system=st.booleans())
def test_reasoning_of_kept_replies_stays_whatever_the_template_does_to_the_past(
    tokenizer: Any, script: list[Step], system: bool
) -> None:
    client = Client(tokenizer, system)
    for step in script:
        turn = client.turn(step)
        text = tokenizer.decode(turn.prompt.ids)
        for message in turn.prompt.continuation.messages:
            if message.data.get("reasoning_content"):
                assert message.data["reasoning_content"] in text


@relaxed
@given(script=steps())
def test_nothing_of_another_conversation_is_in_a_prompt(tokenizer: Any, script: list[Step]) -> None:
    client = Client(tokenizer)
    for step in script:
        turn = client.turn(step)
        text = tokenizer.decode(turn.prompt.ids)
        other = int(not step.other)
        assert not re.search(rf"(word|secret){other}n", text)


@relaxed
@given(script=steps(changes=("thinking",)))
def test_while_the_template_is_stable_a_prompt_begins_with_the_transcripts_own_ids(
    tokenizer: Any, script: list[Step]
) -> None:
    # A system message that is folded into the last question is no stable past.
    client = Client(tokenizer, system=tokenizer.shape != "mistral")
    for step in script:
        turn = client.turn(step)
        if turn.before is None:
            assert turn.prompt.continuation.how == "created"
            continue
        kept = [seam for seam in turn.before.seams if seam.message < turn.prompt.continuation.kept]
        end = kept[-1].end if kept else 0
        if kept and kept[-1].stopped and turn.before.tokens[4 * end - 4 : 4 * end] != token(tokenizer):
            end -= 1  # a stop id that the template does not write
        assert turn.prompt.ids[:end] == unpack_tokens(turn.before.tokens, 0, end)
        assert turn.prompt.retained >= end


@relaxed
@given(script=steps())
def test_text_behind_a_reply_gets_the_ids_that_it_has_in_the_whole(tokenizer: Any, script: list[Step]) -> None:
    client = Client(tokenizer)
    for step in script:
        turn = client.turn(step)
        seams = [seam for seam in turn.committed.seams if seam.end <= len(turn.prompt.ids)]
        tail = turn.prompt.ids[seams[-1].end if seams else 0 :]
        # Where the closing of a reply is plain text, it merges with the reply in the whole and not behind it.
        if tokenizer.shape != "plain" and tail:
            assert tokenizer.encode(turn.rendering)[-len(tail) :] == tail


@relaxed
@given(script=steps())
def test_a_transcripts_replies_read_as_the_client_saw_them(tokenizer: Any, script: list[Step]) -> None:
    client = Client(tokenizer)
    for step in script:
        transcript = client.turn(step).committed
        for seam in transcript.seams:
            stream = tokenizer.stream()
            text = stream.push(unpack_tokens(transcript.tokens, seam.start, seam.end)) + stream.flush()
            assert bare(text).endswith(transcript.messages[seam.message].data["content"])


@relaxed
@given(script=steps())
def test_how_a_request_continued(tokenizer: Any, script: list[Step]) -> None:
    client = Client(tokenizer)
    turns = [0, 0]
    for step in script:
        which = int(step.other)
        back = min(step.back, turns[which])
        how = client.turn(step).prompt.continuation.how
        turns[which] += 1 - back
        if back == 0 and turns[which] > 1:
            assert how == "continued"
        elif turns[which] == 1:
            assert how == "created"
        else:
            assert how in {"continued", "rewound"}  # continued: an earlier branch ended just there


def token(tokenizer: Any) -> bytes:
    from ark.sessions.transcript import pack_tokens

    written = tokenizer.stop_id if tokenizer.shape != "plain" else -1
    return pack_tokens([written]) if written >= 0 else b""
