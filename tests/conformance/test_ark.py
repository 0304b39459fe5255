"""Every shipped call against ARK, each on a server that is set up for it. No call may be skipped."""

from __future__ import annotations

import re
import sys

import pytest

pytest.importorskip("torch")

from ark_conformance import SHIPPED
from ark_conformance.calls import CallSet
from ark_conformance.plugin import ConformanceCall
from ark_conformance.suite import choose
from ark_conformance.target import Target

RATES = ["limits/*rate*", "limits/when-to-come-again", "limits/so-many-streams-of-a-key"]
LIMITS = [*RATES, "limits/a-full-queue", "*/*slow*", "audio*/*too-large*"]
"""Calls for a server with small limits."""
OTHERS = ["embeddings/sparse", "embeddings/colbert", "audio/*translation", "rerank"]
"""Calls for a model with three kinds of vectors, for one that translates, and for a reranker."""

RESTARTS = ["state/*restart*"]
"""Calls for a server that can be restarted."""


def make(call: ConformanceCall, target: Target) -> None:
    """Make a call. It may not be skipped: the server is set up for it."""
    try:
        call(target)
    except pytest.skip.Exception as skipped:
        pytest.fail(f"{call.name} was skipped: {skipped}")


@pytest.mark.conformance(
    profile="ark",
    exclude=[*LIMITS, *OTHERS, *RESTARTS, "ignored", "loading", "sessions-lost", "embeddings/ids-of-openais-tokenizer"],
)
def test_ark(conformance_call: ConformanceCall, ark_target: Target) -> None:
    make(conformance_call, ark_target)


@pytest.mark.conformance(profile="ark", only=["chat", "sessions-named"])
def test_the_default_chat_model(conformance_call: ConformanceCall, default_chat_target: Target) -> None:
    """Its template has neither tools nor reasoning, and what it answers only the other model is known to."""
    reason = ""
    try:
        conformance_call(default_chat_target)
    except pytest.skip.Exception as skipped:
        reason = str(skipped)
    assert not reason or re.search("does not honour|is known to answer this|not known to reason", reason), reason


@pytest.mark.usefixtures("openai_tokenizer")
@pytest.mark.conformance(profile="ark", only=["embeddings/ids-of-openais-tokenizer"])
def test_ark_with_openais_tokenizer(conformance_call: ConformanceCall, ark_target: Target) -> None:
    make(conformance_call, ark_target)


@pytest.mark.conformance(profile="ark", only=["models", "operations", "simplified", "errors/*"])
def test_ark_below_a_path(conformance_call: ConformanceCall, mounted_target: Target) -> None:
    make(conformance_call, mounted_target)


@pytest.mark.conformance(profile="ark", only=LIMITS)
def test_ark_with_small_limits(conformance_call: ConformanceCall, limited_target: Target) -> None:
    make(conformance_call, limited_target)


@pytest.mark.conformance(profile="ark", only=["ignored", "loading", "sessions-lost/*expired"])
def test_ark_that_is_lenient_and_not_all_there(conformance_call: ConformanceCall, lenient_target: Target) -> None:
    make(conformance_call, lenient_target)


@pytest.mark.conformance(profile="ark", only=["sessions-lost/*rebuilt"])
def test_ark_with_little_room_for_state(conformance_call: ConformanceCall, crowded_target: Target) -> None:
    make(conformance_call, crowded_target)


@pytest.mark.conformance(profile="ark", only=RESTARTS)
def test_ark_that_is_restarted(conformance_call: ConformanceCall, restarted_target: Target) -> None:
    make(conformance_call, restarted_target)


@pytest.mark.conformance(profile="ark", only=OTHERS)
def test_ark_with_models_of_other_kinds(conformance_call: ConformanceCall, other_models_target: Target) -> None:
    make(conformance_call, other_models_target)


@pytest.mark.conformance(profile="document", exclude=LIMITS)
def test_the_founding_document(conformance_call: ConformanceCall, document_target: Target) -> None:
    make(conformance_call, document_target)


def test_every_call_is_made() -> None:
    calls = CallSet.read([SHIPPED])
    made = {
        (call.id, variant)
        for name, test in vars(sys.modules[__name__]).items()
        if name.startswith("test_")
        for mark in getattr(test, "pytestmark", ())
        if mark.name == "conformance"
        for call, variant in choose(calls, **mark.kwargs)
    }
    wanted = {(call.id, variant) for profile in ("ark", "document") for call, variant in choose(calls, profile)}
    assert wanted - made == set()
