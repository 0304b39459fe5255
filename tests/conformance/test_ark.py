"""ARK with its embedded models: every call, mounted below a path, and as its founding document has it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from ark_conformance.plugin import ConformanceCall
from ark_conformance.target import Target


def made(call: ConformanceCall, target: Target) -> None:
    """The call, which may not be skipped: the server was set up for it."""
    try:
        call(target)
    except pytest.skip.Exception as skipped:
        pytest.fail(f"{call.name} was skipped: {skipped}")


@pytest.mark.conformance(profile="ark")
def test_ark(conformance_call: ConformanceCall, ark_target: Target) -> None:
    conformance_call(ark_target)


@pytest.mark.conformance(profile="ark", only=["models", "operations", "simplified", "errors/*"])
def test_ark_below_a_path(conformance_call: ConformanceCall, mounted_target: Target) -> None:
    conformance_call(mounted_target)


@pytest.mark.conformance(profile="ark", only=["limits", "audio/*large*", "audio/*slow*"])
def test_ark_with_small_limits(conformance_call: ConformanceCall, limited_target: Target) -> None:
    conformance_call(limited_target)


@pytest.mark.conformance(profile="ark", only=["ignored", "loading", "sessions-lost/*expired"])
def test_ark_that_is_lenient_and_not_all_there(conformance_call: ConformanceCall, lenient_target: Target) -> None:
    made(conformance_call, lenient_target)


@pytest.mark.conformance(profile="ark", only=["sessions-lost/*rebuilt"])
def test_ark_with_little_room_for_state(conformance_call: ConformanceCall, crowded_target: Target) -> None:
    made(conformance_call, crowded_target)


@pytest.mark.conformance(profile="document")
def test_the_founding_document(conformance_call: ConformanceCall, document_target: Target) -> None:
    conformance_call(document_target)
