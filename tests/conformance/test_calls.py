"""Call files: what is read, and what is refused with the file, the case and the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from ark_conformance import SHIPPED
from ark_conformance.calls import SOCKET, CallFileError, CallSet
from ark_conformance.expectations import PROFILES
from ark_conformance.methods import find_method
from ark_conformance.suite import choose

HEAD = 'area = "mine"\nabout = "Mine."\n'
STEP = 'step = [{ call = "models.list", expect = [{ at = "status", equals = 200 }] }]\n'
CASE = f'[[case]]\nname = "one"\nabout = "One."\n{STEP}'


def read(tmp_path: Path, text: str) -> CallSet:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return CallSet.read([path])


def test_the_shipped_calls_are_many_and_each_profile_has_its_own() -> None:
    calls = CallSet.read([SHIPPED])
    assert len(calls.calls) >= 150
    counts = {profile: len({call.id for call, _ in choose(calls, profile)}) for profile in PROFILES}
    assert counts["openai"] >= 150
    assert counts["ark"] > counts["openai"]
    assert counts["document"] >= 100


def test_the_profile_openai_sends_nothing_that_openai_does_not_know() -> None:
    """OpenAI's API refuses unknown parameters."""
    unknown: dict[str, set[str]] = {}
    for call, _ in choose(CallSet.read([SHIPPED]), "openai"):
        for step in call.case.step:
            if step.call not in ("http", "close", "restart", SOCKET):
                known = find_method(step.call).parameters
                unknown.setdefault(call.id, set()).update({*step.arguments, *step.stream_with} - known)
    assert len(unknown) > 150
    assert {name: more for name, more in unknown.items() if more} == {}


def test_every_variant_is_used() -> None:
    used = {variant for call in CallSet.read([SHIPPED]).calls for variant in call.variants}
    assert used == {
        "sync",
        "async",
        "raw",
        "async-raw",
        "stream",
        "async-stream",
        "raw-stream",
        "async-raw-stream",
    }


def test_a_file_gives_its_cases_what_they_do_not_say(tmp_path: Path) -> None:
    text = HEAD + 'profiles = ["ark"]\nvariants = ["async"]\n[defaults."models.retrieve"]\nmodel = "x"\n'
    text += '[[case]]\nname = "one"\nabout = "One."\nstep = [{ call = "models.retrieve", error = { status = 404 } }]\n'
    (call,) = read(tmp_path, text).calls
    assert (call.id, call.profiles, call.variants) == ("mine/one", ("ark",), ("async",))
    assert call.case.step[0].arguments == {"model": "x"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CASE, "missing required field `area`"),
        (HEAD + CASE.replace("about", "abuot"), "case one"),
        (HEAD + CASE.replace("equals", "equal"), "unknown field `equal`"),
        (HEAD + CASE.replace("models.list", "models.invent"), "OpenAI's client has no method 'models.invent'"),
        (HEAD + CASE.replace('"status"', '"choices[x]"'), "is not a path"),
        (HEAD + CASE.replace(", equals = 200", ""), "says nothing"),
        (HEAD + CASE.replace("equals = 200", 'matches = "("'), "is no regular expression"),
        (HEAD + CASE + CASE, "the case 'mine/one' stands twice"),
        (HEAD + 'needs = ["magic"]\n' + CASE, "nothing is known of the need 'magic'"),
        (HEAD + CASE.replace("call =", 'holds = ["nothing"], call ='), "there is no shape 'nothing'"),
        (HEAD + CASE.replace("call =", "stream = true, call ="), "models.list has no streams"),
        (HEAD + CASE.replace("call =", 'or_skip = "no", call ='), "or_skip says why until never holds"),
        (HEAD + CASE.replace("call =", 'until = [{ at = "x" }], call ='), "the check of 'x' says nothing"),
        (HEAD + 'profiles = ["other"]\n' + CASE, "Invalid enum value 'other'"),
        (HEAD + "[[case", "cannot be read"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(CallFileError) as caught:
        read(tmp_path, text)
    assert says in str(caught.value)
    assert "mine.toml" in str(caught.value)
