"""The requirements of a soak, and its report."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from book import Book
from server import Sample

RSS_BAND = 0.05
"""Share by which resident memory may change after the warm-up."""
SLOWER = 2.0
"""How much longer honest clients may wait beside adversaries."""
MINUTE = 6
"""Smallest number of samples for a minute to count: half of them."""
FILES_OF_ADVERSARY = 40
"""File descriptors that an adversary's connections may take."""
FILES_LEFT = 3
"""File descriptors by which the end may exceed the time before the first client."""


@dataclass(frozen=True)
class Bar:
    """One requirement."""

    name: str
    found: str
    held: bool


@dataclass(frozen=True)
class Run:
    """All observations."""

    seconds: float
    warm_up: float
    clients: int
    book: Book
    samples: Sequence[Sample]
    idle_files: tuple[int, int]
    """Open before the first client and after the last."""
    metrics: Mapping[str, float]
    """At the end, when nothing should be running."""
    log: str
    asked_5xx: int
    """Requests that must get 503."""
    set_aside: int
    """Conversations that the model got wrong without other requests."""
    audio: bool
    """Whether a model that transcribes was served."""
    adversaries: int = 0
    attacked: float | None = None
    """When the adversaries began, by the monotonic clock."""


def bars(run: Run) -> list[Bar]:
    """The requirements, each with the observation."""
    book = run.book
    warm = [sample for sample in run.samples if sample.seconds >= run.warm_up]
    failed = sum(count for status, count in book.statuses.items() if status >= 500)
    busy = [run.metrics[name] for name in ("ark:num_requests_running", "ark:num_requests_waiting")]
    lines = [line for line in run.log.splitlines() if '"level":"error"' in line]
    unexpected = [line for line in lines if "model broken cannot be opened" not in line]
    before, after = run.idle_files
    minutes = by_minute(warm)
    spread, middle = spread_of([sample.rss for sample in warm])
    # Single samples have the bodies and recordings of the moment, and minutes show what stays.
    trend, _ = spread_of(minutes)
    return [
        Bar("nothing went wrong", _counts(book.failures) or "no failure", not book.failures),
        Bar("no 5xx but those asked for", f"{failed} of which {run.asked_5xx} asked for", failed == run.asked_5xx),
        Bar(
            f"resident memory within {RSS_BAND:.0%} after the warm-up",
            f"{_range(warm, minutes)}; {middle / 2**20:.0f} MiB in the middle and {spread:.1%} from it at most",
            len(warm) > 5 and spread <= RSS_BAND,
        ),
        Bar(
            f"resident memory of each minute within {RSS_BAND:.0%} after the warm-up",
            f"{trend:.1%} from their median at most",
            len(minutes) > 1 and trend <= RSS_BAND,
        ),
        Bar("file descriptors are given back", f"{before} before, {after} after", after <= before + FILES_LEFT),
        Bar(
            "file descriptors in the run",
            f"{max((sample.files for sample in warm), default=0)} at most",
            all(sample.files <= before + 3 * run.clients + FILES_OF_ADVERSARY * run.adversaries for sample in warm),
        ),
        Bar(
            "nothing runs or waits at the end",
            f"{busy[0]:.0f} run, {busy[1]:.0f} wait, {run.metrics['ark:requests_in_hand']:.0f} in hand",
            not any(busy) and not run.metrics["ark:requests_in_hand"],
        ),
        Bar("the log has no error", unexpected[0][:200] if unexpected else "none", not unexpected),
        Bar("every turn was written", f"{run.metrics['ark:session_write_failures_total']:.0f} were not",
            not run.metrics["ark:session_write_failures_total"]),
        Bar("every task was done", _missing(run) or "all", not _missing(run)),
        *_waits(run),
    ]  # fmt: skip


def _waits(run: Run) -> list[Bar]:
    """What honest clients wait for beside adversaries, and without them."""
    if run.attacked is None:
        return []
    found = []
    for kind in sorted({kind for kind, _, _ in run.book.waits}):
        waits = [(sent, seconds) for each, sent, seconds in run.book.waits if each == kind]
        # What was on its way when they began counts for neither.
        before = [seconds for sent, seconds in waits if sent + seconds < run.attacked]
        beside = [seconds for sent, seconds in waits if sent >= run.attacked]
        alone, attacked = (statistics.quantiles(one, n=100)[-1] if len(one) > 9 else 0.0 for one in (before, beside))
        figures = f"{alone:.2f} s of {len(before)}, {attacked:.2f} s of {len(beside)} beside adversaries"
        held = bool(alone) and bool(attacked) and attacked <= SLOWER * alone
        found.append(Bar(f"99 of 100 {kind}s: at most {SLOWER:g} times the wait", figures, held))
    return found


def by_minute(samples: Sequence[Sample]) -> list[float]:
    """The median of resident memory in each minute, in bytes, without those that have few samples."""
    if not samples:
        return []
    begun = samples[0].seconds
    minutes: dict[int, list[int]] = {}
    for sample in samples:
        minutes.setdefault(int((sample.seconds - begun) // 60), []).append(sample.rss)
    return [statistics.median(values) for values in minutes.values() if len(values) >= MINUTE]


def _range(samples: Sequence[Sample], minutes: Sequence[float]) -> str:
    if not minutes:
        return "no minute"
    first, last = minutes[0] / 2**20, minutes[-1] / 2**20
    low, high = min(sample.rss for sample in samples) / 2**20, max(sample.rss for sample in samples) / 2**20
    return f"{first:.0f} MiB in the first minute, {last:.0f} in the last, single samples from {low:.0f} to {high:.0f}"


def spread_of(values: Sequence[float]) -> tuple[float, float]:
    """Largest distance from the median as a share of it, and the median."""
    if not values:
        return 0.0, 0.0
    middle = statistics.median(values)
    return max(abs(value - middle) for value in values) / middle, middle


def _missing(run: Run) -> str:
    wanted = ["turns", "embeddings", "bad input", "left", "look around", *(["transcriptions"] if run.audio else [])]
    wanted += [] if run.attacked is None else ["attacks"]
    return ", ".join(name for name in wanted if not any(done.startswith(name) for done in run.book.done))


def _counts(counter: Mapping[Any, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counter.items(), key=str))


def as_json(run: Run, found: Sequence[Bar]) -> dict[str, Any]:
    return {
        "seconds": round(run.seconds, 1),
        "warm_up": run.warm_up,
        "clients": run.clients,
        "held": all(bar.held for bar in found),
        "bars": [asdict(bar) for bar in found],
        "done": dict(sorted(run.book.done.items())),
        "statuses": {str(status): count for status, count in sorted(run.book.statuses.items())},
        "failures": dict(run.book.failures),
        "notes": run.book.notes,
        "set_aside": run.set_aside,
        "audio": run.audio,
        "attacked": run.attacked is not None,
        "metrics": {name: value for name, value in run.metrics.items() if name.startswith("ark:")},
        "samples": [asdict(sample) for sample in run.samples],
    }


def as_markdown(run: Run, found: Sequence[Bar]) -> str:
    groups: dict[str, int] = {}
    for name, count in run.book.done.items():
        group = name.split(",")[0]
        groups[group] = groups.get(group, 0) + count
    lines = [
        f"{run.clients} clients, {run.seconds / 60:.1f} minutes, of which {run.warm_up / 60:.1f} are warm-up; "
        f"{'with' if run.audio else 'without'} audio.",
        "",
        "| asked for | found | |",
        "|---|---|---|",
        *(f"| {bar.name} | {bar.found} | {'held' if bar.held else '**missed**'} |" for bar in found),
        "",
        f"Done: {_counts(groups)}. Replies by status: "
        + ", ".join(f"{count} of {status}" for status, count in sorted(run.book.statuses.items()))
        + ".",
        "",
        *(f"- {note}" for note in run.book.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def plot(run: Run, path: Path) -> None:
    """Resident memory and file descriptors over the run."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), constrained_layout=True)
    minutes = [sample.seconds / 60 for sample in run.samples]
    axes.plot(minutes, [sample.rss / 2**20 for sample in run.samples], color="#1f6f8b", label="resident memory, MiB")
    axes.axvline(run.warm_up / 60, linestyle=":", color="#555555")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("minutes")
    axes.set_ylabel("MiB")
    other = axes.twinx()
    other.plot(minutes, [sample.files for sample in run.samples], color="#e08e2b", label="file descriptors")
    other.set_ylim(bottom=0)
    figure.legend(loc="lower right")
    figure.savefig(path, dpi=130)


def save(run: Run, found: Sequence[Bar], path: Path) -> None:
    path.write_text(json.dumps(as_json(run, found), indent=1) + "\n")
