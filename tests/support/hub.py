"""A model hub on loopback with the part of the API that huggingface_hub uses: a repository's listing, and its files."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]


class Hub:
    """Repositories, by ``org/name`` and revision, and the requests for them."""

    def __init__(self, url: str, repositories: Mapping[str, Mapping[str, Files]]) -> None:
        self.url = url
        self.repositories = repositories
        self.sent: list[tuple[str, int]] = []
        """Each file that was sent, with its first byte."""
        self.break_off: dict[str, list[int]] = {}
        """File to the number of bytes after which each of its transfers breaks off."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment that points huggingface_hub to this hub."""
        return {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


@contextmanager
def hub(repositories: Mapping[str, Mapping[str, Files]]) -> Iterator[Hub]:
    """Serve repositories: name to revision to file to content."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.hub = Hub(f"http://127.0.0.1:{server.server_port}", repositories)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Handler.hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            repo, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            self._list(repo, revision, tree=parts[4:5] == ["tree"])
        elif parts[2:3] == ["resolve"]:
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._fail("EntryNotFound")

    def _list(self, repo: str, revision: str, tree: bool) -> None:
        found = self._find(repo, revision)
        if found is None:
            return
        sha, files = found
        answer: object
        if tree:
            answer = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in files.items()
            ]
        else:
            siblings = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
            answer = {"id": repo, "sha": sha, "siblings": siblings}
        self._answer(200, {"content-type": "application/json"}, json.dumps(answer).encode())

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._find(repo, revision)
        if found is None:
            return
        sha, files = found
        if name not in files:
            self._fail("EntryNotFound")
            return
        data = files[name]
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()}"', "x-repo-commit": sha}
        begin = 0
        if wanted := self.headers.get("range"):
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["content-range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        if self.command == "GET":
            self.hub.sent.append((name, begin))
            cuts = self.hub.break_off.get(name)
            self._answer(206 if wanted else 200, headers, data[begin:], cuts.pop(0) if cuts else None)
        else:
            self._answer(200, headers, data)

    def _find(self, repo: str, revision: str) -> tuple[str, Files] | None:
        """The commit and the files of a revision or a commit; None after an error was sent."""
        revisions = self.hub.repositories.get(repo)
        if revisions is None:
            self._fail("RepoNotFound")
            return None
        for name, files in revisions.items():
            if revision in (name, commit(repo, name)):
                return commit(repo, name), files
        self._fail("RevisionNotFound")
        return None

    def _fail(self, code: str) -> None:
        self._answer(404, {"x-error-code": code}, b"")

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, break_off: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:break_off])
            self.close_connection = break_off is not None

    def log_message(self, *_: object) -> None:
        pass


def commit(repo: str, revision: str) -> str:
    """The commit that a revision stands for."""
    return hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()
