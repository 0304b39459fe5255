"""Token ids of OpenAI's tokenizer, turned into the text that they were made from.

Clients that count tokens themselves send ids of the tokenizer that belongs to the name they ask for (LangChain does
by default). They mean nothing to the model that serves the name here. The table of that tokenizer, cl100k_base, is
read from where tiktoken keeps it, and never fetched.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ark.api.inputs import Inputs
from ark.errors import BadRequest
from ark.models.default_models import DEFAULT_ALIASES

NAMES = frozenset(DEFAULT_ALIASES["embedding"])
"""OpenAI's embedding models, all of which read cl100k_base."""

URL = "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken"
"""Names the table in tiktoken's cache."""
SHA256 = "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"
"""Of the table, as tiktoken checks it: the cache may be a folder that everybody can write to."""
SPECIAL = {
    100257: b"<|endoftext|>",
    100258: b"<|fim_prefix|>",
    100259: b"<|fim_middle|>",
    100260: b"<|fim_suffix|>",
    100276: b"<|endofprompt|>",
}

_loaded: dict[Path, Mapping[int, bytes]] = {}


def table_path(environ: Mapping[str, str] | None = None) -> Path:
    """Where tiktoken keeps the table, by the rules of its `load` module; it need not be there."""
    environ = os.environ if environ is None else environ
    default = os.path.join(tempfile.gettempdir(), "data-gym-cache")
    folder = environ.get("TIKTOKEN_CACHE_DIR", environ.get("DATA_GYM_CACHE_DIR", default))
    return Path(folder) / hashlib.sha1(URL.encode(), usedforsecurity=False).hexdigest()


def load_table() -> Mapping[int, bytes] | None:
    """Id to bytes; None where the table is not there, or is another file. It is kept once it has been read."""
    path = table_path()
    if path not in _loaded:
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if hashlib.sha256(data).hexdigest() != SHA256:
            return None
        pairs = (line.split() for line in data.splitlines() if line)
        _loaded[path] = {int(rank): base64.b64decode(token) for token, rank in pairs} | SPECIAL
    return _loaded[path]


def decode(inputs: Inputs, name: str, served: str) -> Inputs:
    """The texts of `inputs`, which are ids of OpenAI's tokenizer; half a character at a border becomes U+FFFD.

    `name` is what was asked for, `served` the model's own name. Reads a file at its first call. Raises BadRequest for
    an id that the tokenizer does not have, and where its table is not there.
    """
    table = load_table()
    if table is None:
        raise BadRequest(
            f"Token ids under the name '{name}' are those of OpenAI's tokenizer, whose table is not on this server. "
            "Send texts instead (LangChain: check_embedding_ctx_length=False), or ask for "
            f"'{served}' with ids of its own tokenizer, or have the server's operator fetch the table into tiktoken's "
            "cache: tiktoken.get_encoding('cl100k_base').",
            param="input",
            code="token_ids_not_supported",
        )
    texts = [
        item if isinstance(item, str) else _text(item, table, inputs, index) for index, item in enumerate(inputs.items)
    ]
    return Inputs(texts, single=inputs.single)


def _text(ids: Sequence[int], table: Mapping[int, bytes], inputs: Inputs, index: int) -> str:
    pieces = []
    for number, token in enumerate(ids):
        piece = table.get(token)
        if piece is None:
            place = inputs.place(index, number)
            reason = f"Invalid '{place}': OpenAI's tokenizer cl100k_base has no token {token}."
            raise BadRequest(reason, param=place, code="invalid_value")
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8", "replace")
