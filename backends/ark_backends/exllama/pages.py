"""Owners and sessions for the pages of a generator's cache.

A page holds the KV of 256 tokens. The generator finds the full pages of a prompt by a hash that is chained over the
token ids, copies a partial page that shares its beginning, and evicts the least recently used. It knows neither owners
nor sessions. ARK adds:

- an owner's chains begin with a hash of the owner's name, and only the owner continues a partial first page, so no
  state crosses owners;
- pages of live sessions are evicted after all others, the last pages of a conversation before its first, and those of
  the session that needs room last of all;
- a released session's pages are emptied, unless something else uses them.

The pages of both generators have the same fields: `phash`, `prev_hash`, `kv_position` (the number of valid tokens),
`ref_count` (jobs that run on it) and `can_revert` (nothing has been written to it since a job got it).
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

Checksum = Callable[[Any, bytes | None], bytes]
Left = tuple[Any, bytes, bool]
"""A page, the hash that it should have when its job has left, and whether the job wrote to it."""

_thread = threading.local()


def rooted(checksum: Checksum) -> Checksum:
    """A generator's hash of a page, with chains that begin at the owner named by `owned` on this thread."""
    if getattr(checksum, "rooted", False):
        return checksum

    def with_root(tensor: Any, previous: bytes | None) -> bytes:
        return checksum(tensor, getattr(_thread, "root", None) if previous is None else previous)

    with_root.rooted = True  # type: ignore[attr-defined]
    return with_root


@contextmanager
def owned(owner: str) -> Iterator[None]:
    """Hash pages for an owner inside the block."""
    _thread.root = hashlib.blake2b(owner.encode(), digest_size=16).digest() if owner else None
    try:
        yield
    finally:
        _thread.root = None


class _Note:
    """What a job left in a page; out of date once the page has another hash."""

    __slots__ = ("cache", "depth", "phash", "sessions", "tick")

    def __init__(self, phash: bytes, depth: int) -> None:
        self.phash = phash
        self.depth = depth
        """The number of pages before it in the conversation."""
        self.sessions: set[str] = set()
        self.cache = False
        """A job without a session left it."""
        self.tick = 0


class Pages:
    """The pages of one generator. Used on its engine's thread."""

    def __init__(self, table: Any, page_bytes: int) -> None:
        """`table` is where the generator keeps its pages: `all_pages`, and by their hashes `unreferenced_pages`."""
        self.page_bytes = page_bytes
        self._table = table
        # By the identity of a page, which stays until the table is reset.
        self._notes: dict[int, _Note] = {}
        self._roots: dict[int, str] = {}
        """The owners of first pages of conversations."""
        self._owners: set[str] = set()
        self._sessions: dict[str, dict[int, Any]] = {}
        self._tick = 0

    @property
    def total(self) -> int:
        """Bytes of all pages."""
        return len(self._table.all_pages) * self.page_bytes

    def used(self) -> int:
        """Bytes of the pages that jobs run on, and of those with valid tokens."""
        return self.page_bytes * sum(1 for page in self._table.all_pages if page.ref_count or page.kv_position)

    def held(self) -> bool:
        """Whether a page is counted as one that jobs run on, or as left by more than there were."""
        return any(page.ref_count for page in self._table.all_pages)

    @contextmanager
    def shown_to(self, owner: str) -> Iterator[None]:
        """Hide the first pages of other owners' conversations inside the block."""
        self._owners.add(owner)
        if len(self._owners) == 1:
            yield
            return
        table, pages = self._table, self._table.all_pages
        table.all_pages = [
            page for page in pages if page.prev_hash is not None or self._roots.get(id(page), owner) == owner
        ]
        try:
            yield
        finally:
            table.all_pages = pages

    def wrote(self, owner: str, first: Any) -> None:
        """Note that an owner's job may have written to its first page."""
        if not first.can_revert:
            self._roots[id(first)] = owner

    def left(self, session: str | None, pages: Sequence[Left], *, released: bool) -> None:
        """Note what a job left in its pages, given in the order of its tokens."""
        self._tick += 1
        held = []
        for depth, (page, phash, written) in enumerate(pages):
            if page.phash != phash:
                # Another page holds the same, and this one would be taken for a first page.
                self.empty([page])
            elif written and page.kv_position:
                if depth and page.prev_hash is None:
                    # Only guessed tokens reached this page, which would be taken for a first page too.
                    self.empty([page])
                else:
                    held.append((depth, page))
        if released:
            self.empty(page for _, page in held if self._note(page) is None)
            return
        if session is not None:
            self._supersede(session, held)
        for depth, page in held:
            note = self._note(page)
            if note is None:
                note = self._notes[id(page)] = _Note(page.phash, depth)
            note.tick = self._tick
            if session is None:
                note.cache = True
            else:
                note.sessions.add(session)
                self._sessions.setdefault(session, {})[id(page)] = page

    def release(self, session: str) -> None:
        """Forget the pages of a session."""
        self.empty(self._forget(session, self._sessions.pop(session, {}).values()))

    def order(self, session: str | None, wanted: Iterable[bytes] = ()) -> list[Any]:
        """The pages that no job runs on, in the order of their eviction when `session` needs room; pages whose hashes
        are `wanted` go last."""
        protected = set(wanted)

        def rank(page: Any) -> tuple[int, int, int, int]:
            note = self._note(page)
            if page.phash in protected:
                return 4, 0, 0, page.access_serial
            if not page.kv_position:
                return 0, 0, 0, page.access_serial
            if note is None:
                return 1, 0, 0, page.access_serial
            if session in note.sessions:
                return 3, 0, -note.depth, page.access_serial
            return (2 if note.sessions else 1), note.tick, -note.depth, page.access_serial

        return sorted(self._table.unreferenced_pages.values(), key=rank)

    def empty(self, pages: Iterable[Any]) -> None:
        """Forget what is in pages."""
        for page in pages:
            if page.ref_count == 0:
                page.clear()
            self._notes.pop(id(page), None)

    def reset(self) -> None:
        """Forget all pages. No job may run."""
        self._table.reset_page_table()
        self._notes.clear()
        self._roots.clear()
        self._sessions.clear()

    def _note(self, page: Any) -> _Note | None:
        note = self._notes.get(id(page))
        return note if note is not None and note.phash == page.phash else None

    def _forget(self, session: str, pages: Iterable[Any]) -> list[Any]:
        """Take a session off pages. Returns those that nothing else uses."""
        left = []
        for page in pages:
            note = self._note(page)
            if note is not None and session in note.sessions:
                note.sessions.discard(session)
                if not note.sessions and not note.cache:
                    left.append(page)
        return left

    def _supersede(self, session: str, held: Sequence[tuple[int, Any]]) -> None:
        """Take a session off its partial pages whose tokens are the beginning of a new page."""
        fresh = {id(page) for _, page in held}
        by_parent = {page.prev_hash: page for _, page in held}
        stale, remaining = [], {}
        for page in self._sessions.get(session, {}).values():
            if self._note(page) is None:
                continue
            heir = by_parent.get(page.prev_hash)
            filled = page.kv_position
            if (
                id(page) not in fresh
                and heir is not None
                and filled <= heir.kv_position
                and torch.equal(page.sequence[:, :filled], heir.sequence[:, :filled])
            ):
                stale.append(page)
            else:
                remaining[id(page)] = page
        self.empty(self._forget(session, stale))
        self._sessions[session] = remaining
