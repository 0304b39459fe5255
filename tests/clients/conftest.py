"""ARK with small models and a key, for clients in processes of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from client_programs import KEY
from fixture_models import with_tiny_chat
from running import Running, serve

from ark.app import create_app
from ark.config import Config, KeyConfig


@pytest.fixture(scope="session")
def server() -> Iterator[Running]:
    key = KeyConfig(name="own", sha256=hashlib.sha256(KEY.encode()).hexdigest())
    with serve(create_app(Config(models=with_tiny_chat(), keys=(key,))), 120) as running:
        yield running
