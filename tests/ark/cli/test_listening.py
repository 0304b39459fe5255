"""The arguments of ``ark serve``."""

from __future__ import annotations

import pytest

from ark.cli.listening import address, is_local


def test_addresses() -> None:
    assert (address("127.0.0.1", 80), address("::1", 80)) == ("127.0.0.1:80", "[::1]:80")


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "127.1.2.3:1", "[::1]:8000", "localhost:80", "localhost", "unix:a"])
def test_only_this_machine_can_reach_it(bind: str) -> None:
    assert is_local(bind)


@pytest.mark.parametrize("bind", ["0.0.0.0:8000", "[::]:8000", "192.0.2.1:80", "example.com:80", "fd://3", ":8000"])
def test_others_may_reach_it(bind: str) -> None:
    assert not is_local(bind)
