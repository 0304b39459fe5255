"""Tool results in a conversation's history."""

from __future__ import annotations

from typing import Any

import pytest

from ark.chat.prompt.builder import check_tool_results
from ark.errors import BadRequest
from ark.sessions.transcript import read_messages

CALLS = {"role": "assistant", "content": "", "tool_calls": [{"id": "a", "function": {}}, {"id": "b", "function": {}}]}


def result(number: str, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": "42", "tool_call_id": number, **more}


@pytest.mark.parametrize(
    ("messages", "sent", "wrong"),
    [
        ([CALLS, result("a"), result("b")], 3, None),
        # Some calls have no result, the order is free, and an edited history may repeat itself.
        ([CALLS, result("b"), result("b"), {"role": "user", "content": "x"}], 4, None),
        ([CALLS, result("a")], 1, None),
        ([CALLS, result("call_look", name="look")], 2, None),
        ([CALLS, result("a"), result("c")], 3, 2),
        ([CALLS, result("a"), result("c")], 1, 0),
        ([result("a")], 1, 0),
        ([CALLS, {"role": "user", "content": "x"}, result("a")], 3, 2),
        ([CALLS, {"role": "assistant", "content": "x"}, result("a")], 2, 1),
        # What is in the transcript was accepted before.
        ([result("a"), {"role": "user", "content": "x"}], 1, None),
    ],
)
def test_a_result_answers_a_call(messages: list[dict[str, Any]], sent: int, wrong: int | None) -> None:
    if wrong is None:
        check_tool_results(read_messages(messages), sent)
        return
    with pytest.raises(BadRequest) as caught:
        check_tool_results(read_messages(messages), sent)
    assert caught.value.param == f"messages[{wrong}].tool_call_id"
