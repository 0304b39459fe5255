"""Keep web pages from using an open server through the browser of somebody who can reach it.

A page whose own name resolves to the server's address (DNS rebinding) is of the same origin as the server: only
``Host`` tells it apart. Every other page is told apart by ``Origin``, which browsers send with each request that can
change something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import ip_address

from ark.http.cors import CORSConfig
from ark.http.errors import ClientError, shorten

ANY = "*"
"""Among the allowed hosts, allows all."""


def check_host(headers: Mapping[bytes, bytes], allowed: Collection[str]) -> None:
    """Raise a 403 unless ``Host`` is a loopback name or one of the `allowed`. No browser leaves ``Host`` out, so a
    request without one passes."""
    host = host_name(headers.get(b"host", b"localhost").decode("latin-1"))
    if ANY not in allowed and host not in allowed and not is_loopback(host):
        reason = f"This server does not answer to the host '{shorten(host)}': it is not in [server] allowed_hosts."
        raise ClientError(reason, code="host_not_allowed", status=403)


def check_origin(headers: Mapping[bytes, bytes], cors: CORSConfig | None) -> None:
    """Raise a 403 for a request of a page that is neither the server's own nor one that `cors` allows. The request has
    an ``Origin``."""
    origin = headers[b"origin"]
    if origin.partition(b"://")[2] == headers.get(b"host"):
        return
    text = origin.decode("latin-1")
    if cors is None or not cors.allows(text):
        raise ClientError(f"Pages of {shorten(text)} may not use this server.", code="origin_not_allowed", status=403)


def host_name(text: str) -> str:
    """The name or the address in a ``Host``, without the port."""
    text = text.strip().lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0].rstrip(".")


@lru_cache
def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever a name server says."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
