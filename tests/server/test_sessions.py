"""Sessions through a real server with a real engine: what they continue, what they say, and who may."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from running import Running, serve
from session_server import ask, cached, client_of, code, forget_all, make_config, running_turn, state, text, wait_for
from tiny_model import save_tiny_llama

from ark.app import create_app


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny")
    save_tiny_llama(path, context_length=4096)
    return str(path)


@pytest.fixture(scope="module")
def server(tiny: str) -> Iterator[Running]:
    with serve(create_app(make_config(tiny))) as running:
        yield running


@pytest.fixture
def alice(server: Running) -> Iterator[httpx.Client]:
    with client_of(server, "alice") as client:
        yield client


@pytest.fixture
def bob(server: Running) -> Iterator[httpx.Client]:
    with client_of(server, "bob") as client:
        yield client


class TestCookie:
    def test_every_reply_carries_the_cookie_as_documented(self, alice: httpx.Client) -> None:
        first = ask(alice, "Hello there")
        session, how = state(first)
        assert how == "created"
        assert str(uuid.UUID(session, version=4)) == session
        expected = f"ark_session_id={session}; Max-Age=86400; Path=/; SameSite=lax"
        assert first.headers.get_list("set-cookie") == [expected]
        second = ask(alice, "Hello there", text(first), "And then?", cookie=session)
        assert state(second) == (session, "continued")
        assert second.headers.get_list("set-cookie") == [expected]

    def test_a_stream_carries_it_too(self, alice: httpx.Client) -> None:
        reply = ask(alice, "Hello there", stream=True)
        session, how = state(reply)
        assert how == "created"
        assert reply.headers["set-cookie"].startswith(f"ark_session_id={session};")
        assert reply.headers["x-ark-cached-tokens"].isdigit()

    def test_a_continued_conversation_computes_only_what_is_new(self, alice: httpx.Client) -> None:
        long = "once upon a time " * 30
        first = ask(alice, long)
        second = ask(alice, long, text(first), "Go on", cookie=state(first)[0])
        usage = second.json()["usage"]
        # All but the last sampled token, which has no state yet, and the new message.
        assert usage["prompt_tokens"] - cached(second) < 40
        assert cached(second) > 500

    def test_one_jar_serves_unrelated_conversations(self, server: Running) -> None:
        with openai.OpenAI(
            base_url=f"{server.url}/v1", api_key="alice", max_retries=0, _strict_response_validation=True
        ) as client:

            def create(*contents: str) -> tuple[str, str]:
                messages: Any = [
                    {"role": "assistant" if n % 2 else "user", "content": content} for n, content in enumerate(contents)
                ]
                raw = client.chat.completions.with_raw_response.create(
                    model="tiny", messages=messages, max_tokens=8, temperature=0
                )
                reply = raw.parse().choices[0].message.content
                assert reply is not None
                return reply, raw.headers["x-ark-session"]

            one, first = create("About apples")
            two, second = create("About bicycles")
            session = first.split(";")[0]
            assert (first, second) == (f"{session}; created", f"{session}; created")
            assert create("About apples", one, "More")[1] == f"{session}; continued"
            assert create("About bicycles", two, "More")[1] == f"{session}; continued"

    def test_an_edited_turn_rewinds(self, alice: httpx.Client) -> None:
        first = ask(alice, "one", max_tokens=40)
        session = state(first)[0]
        second = ask(alice, "one", text(first), "two", cookie=session)
        edited = ask(alice, "one", text(first), "TWO", cookie=session)
        assert state(second) == (session, "continued")
        assert state(edited) == (session, "rewound")
        assert cached(edited) >= 40
        fresh = ask(alice, "one", text(first), "TWO", ark_stateful=False)
        assert text(edited) == text(fresh)

    @pytest.mark.parametrize("cookie", ["nonsense", "0b0f4f6e-6f0e-4c57-9a37-0d1d6f4b7c55", "", "%00"])
    def test_an_id_that_was_not_issued_is_not_adopted(self, alice: httpx.Client, cookie: str) -> None:
        session, how = state(ask(alice, "Hello", cookie=cookie))
        assert how == "created"
        assert session != cookie

    def test_a_named_session_is_not_a_cookie(self, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        text(ask(alice, "Hello", ark_stateful=name))
        assert state(ask(alice, "Hello", cookie=name))[0] != name


class TestNamed:
    def test_only_the_new_message_is_sent(self, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        first = ask(alice, "alpha", ark_stateful=name)
        assert state(first) == (name, "created")
        assert "set-cookie" not in first.headers
        second = ask(alice, "beta", ark_stateful=name)
        assert state(second) == (name, "continued")
        whole = ask(alice, "alpha", text(first), "beta", ark_stateful=False)
        assert text(second) == text(whole)
        assert second.json()["usage"]["prompt_tokens"] == whole.json()["usage"]["prompt_tokens"]

    def test_the_whole_history_may_be_sent_too(self, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        first = ask(alice, "alpha", ark_stateful=name)
        second = ask(alice, "alpha", text(first), "beta", ark_stateful=name)
        assert state(second) == (name, "continued")
        assert text(second) == text(ask(alice, "alpha", text(first), "beta", ark_stateful=False))

    def test_the_system_message_may_be_repeated_but_not_changed(self, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())

        def say(system: str, user: str) -> httpx.Response:
            messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
            return ask(alice, messages=messages, ark_stateful=name)

        text(say("Be brief.", "alpha"))
        assert state(say("Be brief.", "beta")) == (name, "continued")
        refused = say("Be long.", "gamma")
        assert code(refused) == (400, "session_system_mismatch")
        assert state(ask(alice, "gamma", ark_stateful=name)) == (name, "continued")

    @pytest.mark.parametrize("value", ["", "abc", "3f2b8c1e-5d47-4a90-b6de", 7, [], {}])
    def test_what_is_no_id_is_refused(self, alice: httpx.Client, value: Any) -> None:
        reply = ask(alice, "Hello", ark_stateful=value)
        assert reply.status_code == 400
        assert reply.json()["error"]["param"] == "ark_stateful"

    def test_false_reads_and_keeps_nothing(self, alice: httpx.Client) -> None:
        first = ask(alice, "Hello")
        session = state(first)[0]
        reply = ask(alice, "Hello", text(first), "again", cookie=session, ark_stateful=False)
        assert reply.headers["x-ark-session"] == "none; stateless"
        assert "set-cookie" not in reply.headers
        assert alice.get(f"/sessions/{session}").json()["messages"] == 2

    def test_true_is_the_cookies_session(self, alice: httpx.Client) -> None:
        first = ask(alice, "alpha", ark_stateful=True)
        session, how = state(first)
        assert how == "created"
        second = ask(alice, "beta", cookie=session, ark_stateful=True)
        assert state(second) == (session, "continued")
        assert text(second) == text(ask(alice, "alpha", text(first), "beta", ark_stateful=False))

    def test_too_long_a_conversation_is_refused_and_the_session_stays(self, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        first = ask(alice, "alpha", ark_stateful=name)
        assert code(ask(alice, "long " * 1000, ark_stateful=name)) == (400, "context_length_exceeded")
        second = ask(alice, "beta", ark_stateful=name)
        assert text(second) == text(ask(alice, "alpha", text(first), "beta", ark_stateful=False))


class TestOwners:
    def test_another_keys_id_is_another_session(self, alice: httpx.Client, bob: httpx.Client) -> None:
        name = str(uuid.uuid4())
        text(ask(alice, "alpha", ark_stateful=name))
        his = ask(bob, "alpha", ark_stateful=name)
        assert state(his) == (name, "created")
        assert cached(his) == 0
        assert bob.get(f"/sessions/{name}").json()["messages"] == 2

    def test_another_keys_cookie_is_not_adopted(self, alice: httpx.Client, bob: httpx.Client) -> None:
        first = ask(alice, "a secret of alice")
        stolen = state(first)[0]
        his = ask(bob, "a secret of alice", text(first), "What else?", cookie=stolen)
        session, how = state(his)
        # What is cached is the template's beginning, from turns of his own.
        assert how == "created"
        assert cached(his) < 16
        assert session != stolen

    def test_the_listing_and_delete_are_the_owners(self, alice: httpx.Client, bob: httpx.Client) -> None:
        name = str(uuid.uuid4())
        text(ask(alice, "alpha", ark_stateful=name))
        assert name in [session["id"] for session in alice.get("/sessions").json()["data"]]
        assert name not in [session["id"] for session in bob.get("/sessions").json()["data"]]
        never = str(uuid.uuid4())
        for method in ("GET", "DELETE"):
            his, nobodys = bob.request(method, f"/sessions/{name}"), bob.request(method, f"/sessions/{never}")
            assert code(his) == code(nobodys) == (404, "session_not_found")
            assert his.json()["error"]["message"].replace(name, never) == nobodys.json()["error"]["message"]
        assert alice.delete(f"/sessions/{name}").json() == {
            "id": name,
            "deleted": True,
            "object": "session.deleted",
        }
        assert code(alice.get(f"/sessions/{name}")) == (404, "session_not_found")

    def test_sessions_need_a_key(self, server: Running) -> None:
        assert httpx.get(f"{server.url}/sessions").status_code == 401


class TestState:
    def test_kept_dropped_and_rebuilt_state_give_the_same_tokens(self, server: Running, alice: httpx.Client) -> None:
        long = "a long beginning " * 20
        replies = []
        for drop in (False, True):
            name = str(uuid.uuid4())
            first = ask(alice, long, ark_stateful=name, max_tokens=60)
            if drop:
                forget_all(server)
            second = ask(alice, "And then?", ark_stateful=name, max_tokens=60)
            third = ask(alice, "And after that?", ark_stateful=name, max_tokens=60)
            assert state(second)[1] == ("rebuilt" if drop else "continued")
            assert state(third)[1] == "continued"
            replies.append([text(first), text(second), text(third)])
        assert replies[0] == replies[1]

    def test_deleting_frees_the_state(self, server: Running, alice: httpx.Client) -> None:
        forget_all(server)
        before = server.settle().kv_bytes
        name = str(uuid.uuid4())
        text(ask(alice, "x" * 2000, ark_stateful=name))
        assert server.settle().kv_bytes > before
        alice.delete(f"/sessions/{name}")
        wait_for(lambda: server.status().kv_bytes == before)

    def test_a_stop_string_leaves_what_the_client_saw(self, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        whole = text(ask(alice, "alpha", ark_stateful=False, max_tokens=30))
        stop = whole[10:13]
        first = ask(alice, "alpha", ark_stateful=name, max_tokens=30, stop=stop)
        assert text(first) == whole.partition(stop)[0]
        second = ask(alice, "beta", ark_stateful=name)
        stateless = ask(alice, "alpha", text(first), "beta", ark_stateful=False)
        assert text(second) == text(stateless)


class TestRaces:
    def test_a_second_turn_of_a_named_session_waits_then_gets_409(self, server: Running, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        with running_turn(server, ark_stateful=name) as stream:
            assert code(ask(alice, "beta", ark_stateful=name)) == (409, "session_busy")
            stream.close()
        wait_for(lambda: ask(alice, "beta", ark_stateful=name).status_code == 200)

    def test_waiting_turns_come_one_after_the_other(self, alice: httpx.Client, server: Running) -> None:
        name = str(uuid.uuid4())
        results: list[httpx.Response] = []

        def turn() -> None:
            with client_of(server, "alice") as client:
                results.append(ask(client, "alpha", ark_stateful=name, max_tokens=4))

        threads = [threading.Thread(target=turn) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [reply.status_code for reply in results] == [200] * 4
        assert alice.get(f"/sessions/{name}").json()["messages"] == 8

    def test_turns_of_one_cookie_fork(self, server: Running, alice: httpx.Client) -> None:
        first = ask(alice, "alpha")
        session = state(first)[0]
        with running_turn(server, cookie=session, contents=["alpha", text(first), "beta"]):
            reply = ask(alice, "alpha", text(first), "gamma", cookie=session)
        assert state(reply) == (session, "continued")
        assert text(reply) == text(ask(alice, "alpha", text(first), "gamma", ark_stateful=False))

    def test_a_turn_that_was_cut_off_leaves_nothing(self, server: Running, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        first = ask(alice, "alpha", ark_stateful=name)
        with running_turn(server, ark_stateful=name):
            pass
        server.settle()
        wait_for(lambda: alice.get(f"/sessions/{name}").json()["running"] == 0)
        assert alice.get(f"/sessions/{name}").json()["messages"] == 2
        again = ask(alice, "beta", ark_stateful=name)
        assert state(again) == (name, "continued")
        assert text(again) == text(ask(alice, "alpha", text(first), "beta", ark_stateful=False))

    def test_delete_in_a_turn_keeps_nothing_of_it(self, server: Running, alice: httpx.Client) -> None:
        name = str(uuid.uuid4())
        text(ask(alice, "alpha", ark_stateful=name))
        with running_turn(server, ark_stateful=name, max_tokens=300) as stream:
            assert alice.delete(f"/sessions/{name}").status_code == 200
            assert code(alice.get(f"/sessions/{name}")) == (404, "session_not_found")
            # The turn itself is not disturbed.
            assert stream.read().endswith(b"data: [DONE]\n\n")
        assert code(alice.get(f"/sessions/{name}")) == (404, "session_not_found")
        assert state(ask(alice, "anew", ark_stateful=name)) == (name, "created")

    def test_a_running_session_is_not_evicted(self, tiny: str) -> None:
        with serve(create_app(make_config(tiny, max_sessions=2))) as server, client_of(server, "alice") as client:
            name = str(uuid.uuid4())
            text(ask(client, "alpha", ark_stateful=name))
            with running_turn(server, ark_stateful=name, max_tokens=600) as stream:
                for _ in range(4):
                    text(ask(client, "other", ark_stateful=str(uuid.uuid4()), max_tokens=1))
                assert stream.read().endswith(b"data: [DONE]\n\n")
            assert client.get(f"/sessions/{name}").json()["messages"] == 4

    def test_expiry_in_a_turn_and_between_turns(self, tiny: str) -> None:
        with serve(create_app(make_config(tiny, idle_timeout=1.5))) as server, client_of(server, "alice") as client:
            name = str(uuid.uuid4())
            text(ask(client, "alpha", ark_stateful=name))
            with running_turn(server, ark_stateful=name, max_tokens=1500) as stream:
                time.sleep(1.6)
                stream.read()
            assert client.get(f"/sessions/{name}").json()["messages"] == 4
            time.sleep(1.6)
            assert code(ask(client, "beta", ark_stateful=name)) == (404, "session_expired")
            assert code(client.get(f"/sessions/{name}")) == (404, "session_expired")


def test_metrics_tell_of_sessions_and_their_state(tiny: str) -> None:
    with serve(create_app(make_config(tiny, max_sessions=2))) as server, client_of(server, "alice") as client:
        names = [str(uuid.uuid4()) for _ in range(3)]
        for name in names:
            text(ask(client, "alpha " * 20, ark_stateful=name))
        forget_all(server)
        reply = ask(client, "beta", ark_stateful=names[-1])
        assert state(reply)[1] == "rebuilt"
        used = server.settle().kv_bytes
        full = client.get("/metrics").text
        assert client.delete(f"/sessions/{names[-1]}").status_code == 200
        told = client.get("/metrics")
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        status = server.settle()
    assert told.headers["content-type"].startswith("text/plain")
    values = dict(line.rsplit(" ", 1) for line in told.text.splitlines() if not line.startswith("#"))
    assert values["ark:sessions"] == "1.0"
    assert values['ark:sessions_evicted_total{cause="count"}'] == "1.0"
    assert values['ark:sessions_evicted_total{cause="deleted"}'] == "1.0"
    assert values["ark:session_rebuilds_total"] == "1.0"
    model = '{model_name="tiny"}'
    assert float(values[f"ark:prefix_cache_hits_total{model}"]) == status.prompt_tokens_cached > 0
    assert float(values[f"ark:prompt_tokens_computed_total{model}"]) == status.prompt_tokens_computed
    assert used > 0
    assert f"ark:kv_cache_bytes{model} {float(used)}" in full


def test_sessions_can_be_switched_off(tiny: str) -> None:
    with serve(create_app(make_config(tiny, enabled=False))) as server, client_of(server, "alice") as client:
        reply = ask(client, "alpha")
        assert reply.headers["x-ark-session"] == "none; stateless"
        assert "set-cookie" not in reply.headers
        assert code(ask(client, "alpha", ark_stateful=True)) == (400, "sessions_disabled")
        assert code(ask(client, "alpha", ark_stateful=str(uuid.uuid4()))) == (400, "sessions_disabled")
        text(ask(client, "alpha", ark_stateful=False))


def test_clients_without_a_jar_do_not_push_out_the_others(tiny: str) -> None:
    with serve(create_app(make_config(tiny, max_sessions=3))) as server, client_of(server, "alice") as client:
        first = ask(client, "alpha")
        session = state(first)[0]
        second = ask(client, "alpha", text(first), "beta", cookie=session)
        for _ in range(6):
            text(ask(client, "somebody without a jar", max_tokens=1))
        third = ask(client, "alpha", text(first), "beta", text(second), "gamma", cookie=session)
        assert state(third) == (session, "continued")
