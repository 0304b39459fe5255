"""Select calls, and make them against one server."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from ark_conformance.calls import Call, CallSet, Variant
from ark_conformance.expectations import Profile
from ark_conformance.replay import Result, replay
from ark_conformance.target import Target

Run = tuple[Call, Variant]


def choose(calls: CallSet, profile: Profile, only: Sequence[str] = (), exclude: Sequence[str] = ()) -> list[Run]:
    """The calls of a profile in each of their variants.

    `only` and `exclude` are shell patterns for an area, a call (``chat/usage-*``) or a call in a variant. Without
    `only`, all calls but those in `exclude` are selected.
    """
    runs = [(call, variant) for call in calls.calls if profile in call.profiles for variant in call.variants]
    return [run for run in runs if (not only or _matches(run, only)) and not _matches(run, exclude)]


def run_all(
    runs: Iterable[Run], calls: CallSet, target: Target, profile: Profile, *, jobs: int = 1
) -> Generator[Result, None, None]:
    """Replay the calls, `jobs` at a time. The results come in the order of the calls."""

    def one(run: Run) -> Result:
        return replay(*run, calls, target, profile)

    if jobs == 1:
        yield from map(one, runs)
        return
    pool = ThreadPoolExecutor(max_workers=jobs)
    try:
        yield from pool.map(one, runs)
    finally:
        # When the caller stops early, drop the calls that have not started.
        pool.shutdown(cancel_futures=True)


@dataclass
class Tally:
    """Counts of results."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    requests: int = 0
    seconds: float = 0.0
    reasons: dict[str, int] = field(default_factory=dict)
    """Reason for a skip to the number of calls skipped for it."""

    def add(self, result: Result) -> None:
        setattr(self, result.status, getattr(self, result.status) + 1)
        self.requests += result.calls
        self.seconds += result.seconds
        if result.status == "skipped":
            self.reasons[result.reason] = self.reasons.get(result.reason, 0) + 1

    @classmethod
    def of(cls, results: Iterable[Result]) -> Tally:
        tally = cls()
        for result in results:
            tally.add(result)
        return tally


def by_area(results: Iterable[Result]) -> dict[str, Tally]:
    areas: dict[str, Tally] = {}
    for result in results:
        areas.setdefault(result.area, Tally()).add(result)
    return areas


def _matches(run: Run, patterns: Sequence[str]) -> bool:
    call, variant = run
    # To fnmatch, a variant's brackets are a character class.
    names = (call.area, call.id, f"{call.id}[{variant}]")
    return any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns for name in names)
