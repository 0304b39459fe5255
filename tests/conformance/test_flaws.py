"""The suite can fail: the calls that were written for a flaw find a server that has it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flawed_server import BODY_TIMEOUT, KEY, LIMITED, app, serve_plain

from ark_conformance import SHIPPED
from ark_conformance.calls import CallSet
from ark_conformance.clients import Server
from ark_conformance.expectations import Profile
from ark_conformance.replay import Result
from ark_conformance.suite import choose, run_all
from ark_conformance.target import Target

FLAWS = {
    "usage-that-does-not-add-up": ["chat/a-completion", "streaming/usage-comes-last", "embeddings/one-text"],
    "no-usage": ["chat/a-completion", "streaming/usage-comes-last"],
    "another-object": ["chat/a-completion"],
    "no-role": ["chat/a-completion", "streaming/the-role-comes-once", "streaming/the-order-of-events"],
    "the-role-in-each-chunk": ["streaming/the-role-comes-once"],
    "one-id-for-all": ["chat/two-replies-have-two-ids"],
    "no-request-id": ["chat/a-request-id"],
    "any-length": ["chat/max-tokens", "streaming/the-usage-counts-the-text"],
    "any-stop": ["sampling/no-stop-string-is-in-the-reply"],
    "created-in-milliseconds": ["chat/a-completion"],
    "one-choice": ["sampling/several-replies", "streaming/several-choices"],
    "every-index-0": ["sampling/several-replies"],
    "no-done": ["streaming/done-is-the-end", "streaming/the-order-of-events"],
    "done-twice": ["streaming/done-is-the-end"],
    "more-behind-done": ["streaming/done-is-the-end"],
    "finish-too-early": ["streaming/one-finish-reason", "streaming/the-order-of-events"],
    "no-finish": ["streaming/one-finish-reason"],
    "text-behind-the-end": ["streaming/one-finish-reason", "streaming/the-order-of-events"],
    "it-breaks-off": ["streaming/one-finish-reason"],
    "a-broken-chunk": ["streaming/the-order-of-events"],
    "a-chunk-of-no-form": ["streaming/the-order-of-events"],
    "a-chunk-of-another-id": ["streaming/the-order-of-events"],
    "a-stream-of-another-type": ["streaming/the-order-of-events"],
    "named-events": ["streaming/events-are-plain-data"],
    "half-a-character": ["streaming/whole-characters"],
    "usage-first": ["streaming/usage-comes-last"],
    "usage-with-choices": ["streaming/usage-comes-last"],
    "usage-unasked": ["streaming/usage-is-not-there-unasked", "streaming/include-usage-false"],
    "usage-is-left-out": ["streaming/usage-is-null-until-it-comes"],
    "an-error-without-code": ["errors/an-unknown-model"],
    "an-error-without-param": ["errors/an-unknown-path"],
    "another-error-object": ["errors/no-model"],
    "a-server-error": ["errors/a-bad-value", "bad-values/temperature-over-2"],
    "an-error-of-no-parameter": ["bad-values/temperature-over-2"],
    "any-temperature": ["bad-values/temperature-over-2"],
    "any-model": ["errors/an-unknown-model"],
    "any-key": ["errors/a-wrong-key", "errors/no-key"],
    "a-traceback": ["errors/nothing-of-the-servers-inside"],
    "html": ["errors/an-unknown-path"],
    "a-model-without-created": ["models/the-list"],
    "vectors-in-another-order": ["embeddings/many-texts"],
    "vectors-of-any-length": ["embeddings/of-length-1"],
    "another-vector-each-time": ["embeddings/the-same-text-again"],
    "big-endian": ["embeddings/the-clients-own-encoding"],
    "no-base64": ["embeddings/base64-as-the-client-asks"],
    "usage-of-one": ["embeddings/usage-grows"],
}
"""Each flaw with the calls of the profile openai that find it."""

ARK_FLAWS = {
    "a-rate-of-words": ["limits/the-rates-are-told"],
    "one-rate-for-all-keys": ["limits/a-rate-that-is-used-up"],
    "a-limit-is-a-fault": [
        "limits/a-rate-that-is-used-up",
        "limits/when-to-come-again",
        "limits/a-rate-is-for-all-work",
    ],
    "no-word-of-when": [
        "limits/when-to-come-again",
        "limits/a-rate-is-for-all-work",
        "limits/so-many-streams-of-a-key",
        "limits/a-full-queue",
    ],
    "a-queue-like-a-rate": ["limits/a-full-queue"],
    "patience-without-end": ["limits/a-slow-body"],
    "one-time-for-all-of-a-body": ["limits/a-body-that-is-slow-enough"],
    "a-large-body-is-a-fault": ["limits/a-body-over-the-limit", "limits/a-body-of-no-declared-length-over-the-limit"],
    "an-error-of-no-parameter": ["limits/too-many-messages"],
}
"""The same in the profile ark."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serve_plain(app) as url:
        yield url


@pytest.fixture(scope="module")
def calls() -> CallSet:
    return CallSet.read([SHIPPED])


def results(url: str, flaw: str, calls: CallSet, only: list[str], profile: Profile) -> list[Result]:
    server = Server(base_url=f"{url}/{flaw}/v1", api_key=KEY, limited_key=LIMITED, timeout=10)
    target = Target.ask(server, body_timeout=BODY_TIMEOUT)
    return list(run_all(choose(calls, profile, only), calls, target, profile))


@pytest.mark.parametrize(("profile", "flaws"), [("openai", FLAWS), ("ark", ARK_FLAWS)], ids=["openai", "ark"])
def test_the_right_server_passes(url: str, calls: CallSet, profile: Profile, flaws: dict[str, list[str]]) -> None:
    """The calls that find flaws pass on a server without any: a call that always fails would find every flaw."""
    only = sorted({name for names in flaws.values() for name in names})
    found = results(url, "none", calls, only, profile)
    assert {result.id for result in found} == set(only)
    assert [f"{result.reason} {result.explanation}" for result in found if result.status != "passed"] == []


@pytest.mark.parametrize(("flaw", "names"), FLAWS.items(), ids=FLAWS)
def test_a_flaw_is_found(url: str, calls: CallSet, flaw: str, names: list[str]) -> None:
    found = results(url, flaw, calls, names, "openai")
    assert {result.id for result in found if result.status == "failed"} == set(names)


@pytest.mark.parametrize(("flaw", "names"), ARK_FLAWS.items(), ids=ARK_FLAWS)
def test_a_flaw_of_what_ark_promises_is_found(url: str, calls: CallSet, flaw: str, names: list[str]) -> None:
    found = results(url, flaw, calls, names, "ark")
    assert {result.id for result in found if result.status == "failed"} == set(names)
