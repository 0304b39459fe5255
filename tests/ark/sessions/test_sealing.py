"""What clients keep for the server: each property that the module's docstring claims."""

from __future__ import annotations

import base64
import hashlib
import hmac
import stat
from pathlib import Path

import pytest
from asgi_client import running

from ark.sessions.sealing import Seal

SECRET = b"a secret of thirty-two bytes....."
TEXT = b"what was thought " * 10
HEAD = 1 + 24 + 32


def raw(text: str) -> bytes:
    return base64.urlsafe_b64decode(text)


def text_of(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


@pytest.mark.parametrize("data", [b"", b"\0", b"x", TEXT, bytes(100_000)])
@pytest.mark.parametrize("owner", ["", "ann", "\ud800"])
def test_what_is_sealed_is_opened_by_the_same_secret(data: bytes, owner: str) -> None:
    assert Seal(SECRET).open(Seal(SECRET).close(data, owner), owner) == data


def test_nothing_of_it_can_be_read() -> None:
    sealed = raw(Seal(SECRET).close(bytes(4096), "ann"))[HEAD:]
    # Zeros give the stream itself.
    assert len(sealed) == 4096
    assert max(sealed.count(value) for value in range(256)) < 50


def test_nonces_and_streams_differ_each_time() -> None:
    sealed = [raw(Seal(SECRET).close(bytes(64), "ann")) for _ in range(200)]
    assert len({one[1:25] for one in sealed}) == len({one[HEAD:] for one in sealed}) == 200


def test_every_bit_of_it_counts() -> None:
    seal = Seal(SECRET)
    data = raw(seal.close(b"thought", "ann"))
    for place in range(8 * len(data)):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match="not sealed here"):
            seal.open(text_of(bytes(changed)), "ann")


def test_it_can_be_neither_cut_nor_prolonged() -> None:
    seal = Seal(SECRET)
    data = raw(seal.close(b"thought", "ann"))
    for changed in (*(data[:end] for end in range(len(data))), data + b"\0", data[1:], data + data):
        with pytest.raises(ValueError, match="not sealed here"):
            seal.open(text_of(changed), "ann")


@pytest.mark.parametrize(("secret", "owner"), [(SECRET, "bob"), (SECRET, ""), (SECRET, "annx"), (b"x" * 32, "ann")])
def test_it_is_the_owners_and_the_secrets(secret: bytes, owner: str) -> None:
    sealed = Seal(SECRET).close(TEXT, "ann")
    with pytest.raises(ValueError, match="not sealed here"):
        Seal(secret).open(sealed, owner)


def test_no_owner_runs_into_the_text_behind_it() -> None:
    """Without the length of its name, an owner `ann` and a nonce that begins with `x` would be `annx`."""
    seal = Seal(SECRET)
    data = raw(seal.close(TEXT, "ann"))
    moved = data[:1] + data[2:25] + data[25:26] + data[25:]
    with pytest.raises(ValueError, match="not sealed here"):
        seal.open(text_of(moved), "ann" + data[1:2].decode("latin-1"))


def test_the_keys_of_stream_and_tag_differ_from_each_other_and_the_secret() -> None:
    seal = Seal(SECRET)
    assert len({seal._encryption, seal._authentication, hashlib.blake2b(SECRET, digest_size=32).digest()}) == 3
    data = raw(seal.close(bytes(64), "ann"))
    nonce, tag, stream = data[1:25], data[25:HEAD], data[HEAD:]
    assert hashlib.shake_256(seal._encryption + nonce).digest(64) == stream
    message = data[:1] + (3).to_bytes(8, "big") + b"ann" + nonce + stream
    assert hashlib.blake2b(message, key=seal._authentication, digest_size=32).digest() == tag


def test_one_text_only_says_it() -> None:
    """Python's decoder passes over what is no base64, and over the last bits."""
    seal = Seal(SECRET)
    sealed = seal.close(b"1234", "ann")
    assert sealed.endswith("==")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    same_bits = sealed[:-3] + letters[letters.index(sealed[-3]) + 1] + "=="
    assert raw(same_bits) == raw(sealed)
    for text in (same_bits, f"{sealed}\n", f" {sealed}", sealed[:-1], sealed[:9] + "!" + sealed[9:]):
        with pytest.raises(ValueError, match=r"not sealed here|base64|padding"):
            seal.open(text, "ann")


def test_the_tag_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: compared.append(len(other)) or real(one, other))
    seal = Seal(SECRET)
    seal.open(seal.close(TEXT, "ann"), "ann")
    assert compared == [32]


@pytest.mark.anyio
async def test_the_secret_is_kept_where_only_the_server_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "sessions.db"

    def modes() -> set[int]:
        return {stat.S_IMODE(one.stat().st_mode) for one in tmp_path.iterdir()}

    async with running(sessions={"path": str(path)}) as client:
        sealed = client.app.services.seal.close(TEXT, "ann")
        assert modes() == {0o600}
    async with running(sessions={"path": str(path)}) as client:
        assert client.app.services.seal.open(sealed, "ann") == TEXT
    async with running() as client:
        with pytest.raises(ValueError, match="not sealed here"):
            client.app.services.seal.open(sealed, "ann")
