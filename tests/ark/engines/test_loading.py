"""Finding a backend by its name."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from echo_backend import EchoBackend

from ark.engines.loading import ENTRY_POINT_GROUP, load_backend


def test_a_name_with_a_colon_is_imported_as_it_stands() -> None:
    assert load_backend("echo_backend:EchoBackend", "chat") is EchoBackend


def test_the_installed_ones_are_entry_points() -> None:
    assert "torch_chat" in {point.name for point in entry_points(group=ENTRY_POINT_GROUP)}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nothing", "no backend is called 'nothing'; installed: .*torch_chat"),
        ("no_such_module:Backend", "no_such_module"),
        ("echo_backend:Nothing", "Nothing"),
        ("echo_backend:", "echo_backend:"),
        (":EchoBackend", ":EchoBackend"),
        ("::", "::"),
        ("a b:c", "a b:c"),
    ],
)
def test_what_cannot_be_loaded_is_said(name: str, says: str) -> None:
    with pytest.raises(LookupError, match=says):
        load_backend(name, "chat")


def test_a_backend_of_another_task_is_refused() -> None:
    with pytest.raises(LookupError, match="'echo_backend:EchoBackend' does not do the task 'embedding'"):
        load_backend("echo_backend:EchoBackend", "embedding")
