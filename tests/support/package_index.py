"""A package index on loopback, as pip reads it, with wheels that carry a few files and downloads that break off."""

from __future__ import annotations

import hashlib
import io
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

CHUNK = 1 << 16


class Index:
    """Wheels by their file names, and the requests for them."""

    def __init__(self, url: str, wheels: dict[str, bytes]) -> None:
        self.url = url
        self.wheels = wheels
        self.sent: list[tuple[str, int]] = []
        """Each wheel that was sent, with its first byte."""
        self.break_off: list[int] = []
        """The numbers of bytes after which the next transfers break off."""
        self.pause = 0.0
        """Seconds before each 64 KiB of a wheel."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment that points pip to this index alone."""
        return {
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_INDEX_URL": f"{self.url}/simple",
            "PIP_FIND_LINKS": "",
            "PIP_RETRIES": "0",
            "PIP_DEFAULT_TIMEOUT": "15",
        }


def make_wheel(project: str, files: Mapping[str, bytes]) -> bytes:
    """A wheel of version 1.0, as `build` would make it."""
    name = project.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: 1.0\nRequires-Dist: gone\n"
        )
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return made.getvalue()


@contextmanager
def package_index(wheels: Mapping[str, bytes]) -> Iterator[Index]:
    """Serve wheels: project to content."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        files = {f"{project.replace('-', '_')}-1.0-py3-none-any.whl": data for project, data in wheels.items()}
        Handler.index = Index(f"http://127.0.0.1:{server.server_port}", files)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Handler.index
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    index: ClassVar[Index]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        kind, _, name = self.path.strip("/").partition("/")
        if kind == "simple":
            prefix = name.replace("-", "_") + "-"
            links = "".join(f'<a href="/wheels/{f}">{f}</a>' for f in self.index.wheels if f.startswith(prefix))
            self._answer(200 if links else 404, {"content-type": "text/html"}, links.encode())
        else:
            self._wheel(name)

    def _wheel(self, name: str) -> None:
        data = self.index.wheels[name]
        wanted = self.headers.get("range")
        begin = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
        headers = {"etag": f'"{hashlib.sha256(data).hexdigest()}"', "accept-ranges": "bytes"}
        if wanted:
            headers["content-range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        self.index.sent.append((name, begin))
        cuts = self.index.break_off
        self._answer(206 if wanted else 200, headers, data[begin:], cuts.pop(0) if cuts else None)

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, break_off: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for start in range(0, len(body[:break_off]), CHUNK):
                time.sleep(self.index.pause)
                self.wfile.write(body[:break_off][start : start + CHUNK])
        except (BrokenPipeError, ConnectionResetError):
            # Whoever asked has broken the download off.
            pass
        self.close_connection = break_off is not None

    def log_message(self, *_: object) -> None:
        pass
