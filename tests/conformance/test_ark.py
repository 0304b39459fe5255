"""ARK with its embedded models: every call, mounted below a path, and as its founding document has it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from ark_conformance.plugin import ConformanceCall
from ark_conformance.target import Target


@pytest.mark.conformance(profile="ark")
def test_ark(conformance_call: ConformanceCall, ark_target: Target) -> None:
    conformance_call(ark_target)


@pytest.mark.conformance(profile="ark", only=["models", "operations", "simplified", "errors/*"])
def test_ark_below_a_path(conformance_call: ConformanceCall, mounted_target: Target) -> None:
    conformance_call(mounted_target)


@pytest.mark.conformance(profile="ark", only=["limits", "audio/*large*", "audio/*slow*"])
def test_ark_with_small_limits(conformance_call: ConformanceCall, limited_target: Target) -> None:
    conformance_call(limited_target)


@pytest.mark.conformance(profile="document")
def test_the_founding_document(conformance_call: ConformanceCall, document_target: Target) -> None:
    conformance_call(document_target)
