"""Reads GET /metrics as Prometheus does."""

from __future__ import annotations

from collections.abc import Mapping

from asgi_client import Client
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

Values = Mapping[tuple[str, frozenset[tuple[str, str]]], float]


def families(text: str) -> dict[str, Metric]:
    """The metrics of a reply, by name; counters without their ``_total``."""
    return {family.name: family for family in text_string_to_metric_families(text)}


def values(text: str) -> Values:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


class Scrape:
    """The samples of one reply."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.values = values(text)

    def __call__(self, name: str, **labels: str) -> float:
        """The value of a series. Raises KeyError if there is none."""
        return self.values[f"ark:{name}", frozenset(labels.items())]


async def scrape(client: Client) -> Scrape:
    return Scrape((await client.get("/metrics")).text)
