"""A pytest plugin that turns each call into a test, for a server in a fixture.

::

    from ark_conformance.clients import Server
    from ark_conformance.target import Target


    @pytest.fixture(scope="module")
    def target():
        with my_server() as url:
            yield Target.ask(Server(base_url=f"{url}/v1"))


    @pytest.mark.conformance(profile="openai", only=["chat", "streaming"])
    def test_conformance(conformance_call, target):
        conformance_call(target)

The mark makes one test of each call in each variant. A failure shows the request, the reply and the expectation. A call
that cannot be made is skipped with the reason. ``only`` and ``exclude`` are patterns for areas and calls. ``files`` are
call files of your own, beside the test file. A mark that selects nothing is an error.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import pytest

# Importing the client is slow, and most runs of pytest that load this plugin do not use it.
if TYPE_CHECKING:
    from ark_conformance.calls import CallSet
    from ark_conformance.expectations import Profile
    from ark_conformance.replay import Result
    from ark_conformance.suite import Run
    from ark_conformance.target import Target


class ConformanceCall:
    """One call in one variant."""

    def __init__(self, run: Run, calls: CallSet, profile: Profile) -> None:
        self._run = run
        self._calls = calls
        self._profile = profile

    @property
    def name(self) -> str:
        call, variant = self._run
        return f"{call.id}-{variant}"

    def __call__(self, target: Target) -> Result:
        """Replay the call. Fails or skips the test, or returns the result."""
        from ark_conformance.replay import replay  # noqa: PLC0415

        call, variant = self._run
        with warnings.catch_warnings():
            # The client deprecates methods, such as translations, whose routes servers still have.
            warnings.simplefilter("ignore", DeprecationWarning)
            result = replay(call, variant, self._calls, target, self._profile)
        if result.status == "skipped":
            pytest.skip(result.reason)
        if result.status == "failed":
            pytest.fail(result.explanation, pytrace=False)
        return result


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "conformance(profile, only=(), exclude=(), files=()): one test for each call, see ark_conformance.plugin",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("conformance")
    if marker is None or "conformance_call" not in metafunc.fixturenames:
        return
    from ark_conformance import SHIPPED  # noqa: PLC0415
    from ark_conformance.calls import CallFileError, CallSet  # noqa: PLC0415
    from ark_conformance.expectations import PROFILES  # noqa: PLC0415
    from ark_conformance.suite import choose  # noqa: PLC0415

    profile: Profile | None = marker.kwargs.get("profile")
    if profile not in PROFILES:
        pytest.fail(f"the mark conformance has the profile {profile!r}, none of {', '.join(PROFILES)}", pytrace=False)
    directory = metafunc.definition.path.parent
    try:
        calls = CallSet.read([directory / file for file in marker.kwargs.get("files", ())] or [SHIPPED])
    except CallFileError as error:
        pytest.fail(str(error), pytrace=False)
    only = marker.kwargs.get("only", ())
    runs = choose(calls, profile, only, marker.kwargs.get("exclude", ()))
    if not runs:
        # pytest would merely skip the test.
        pytest.fail(f"no call of the profile {profile} is chosen by {', '.join(only) or 'the mark'}", pytrace=False)
    made = [ConformanceCall(run, calls, profile) for run in runs]
    metafunc.parametrize("conformance_call", made, ids=[call.name for call in made])
