"""Ids and cookies."""

from __future__ import annotations

import uuid

import pytest

from ark.config import SessionsConfig
from ark.errors import BadRequest
from ark.sessions.service import read_stateful, session_cookie
from ark.sessions.session import parse_session_id

ID = "3f2b8c1e-5d47-4a90-b6de-0c9a1f7e2d35"


def test_the_cookie_is_exactly_the_documented_one() -> None:
    expected = f"ark_session_id={ID}; Max-Age=86400; Path=/; SameSite=lax"
    assert session_cookie(ID, SessionsConfig()) == expected
    flags = SessionsConfig(cookie_secure=True, cookie_http_only=True, max_age=60.0)
    assert session_cookie(ID, flags) == f"ark_session_id={ID}; Max-Age=60; Path=/; SameSite=lax; Secure; HttpOnly"
    assert session_cookie(None, SessionsConfig()).startswith("ark_session_id=; Max-Age=0; ")


def test_a_cookie_is_cleared_where_it_was_set() -> None:
    """A client keeps a cookie of another path or domain."""
    config = SessionsConfig(
        cookie_path="/ai", cookie_domain="example.com", cookie_same_site="none", cookie_secure=True, max_age=60.0
    )
    ending = "; Path=/ai; Domain=example.com; SameSite=none; Secure"
    assert session_cookie(ID, config) == f"ark_session_id={ID}; Max-Age=60{ending}"
    assert session_cookie(None, config) == f"ark_session_id=; Max-Age=0{ending}"


def test_ids_are_uuids_in_their_usual_form() -> None:
    assert parse_session_id(str(uuid.uuid4())) is not None
    assert parse_session_id(ID.upper()) == ID
    for text in ["", "x", ID[:-1], ID + "\n", ID.replace("-", ""), f"{{{ID}}}", f"urn:uuid:{ID}"]:
        assert parse_session_id(text) is None


def test_what_is_no_uuid_is_refused_with_its_parameter() -> None:
    assert read_stateful(ID) == ID
    with pytest.raises(BadRequest) as error:
        read_stateful("mine")
    assert error.value.param == "ark_stateful"
