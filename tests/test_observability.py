"""The documentation of metrics, the dashboard and the alerts speak of what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from asgi_client import ECHO, Client, running
from prometheus_client import Metric
from scraped import families

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "docs" / "observability.md").read_text()
DASHBOARD = json.loads((ROOT / "examples" / "grafana.json").read_text())
WORDS: dict[str, Any] = {"name": "words", "task": "embedding", "backend": "hash_embeddings:HashEmbeddings"}

NAME = re.compile(r"\b(?:ark:|process_)[a-z0-9_:]+")
SELECTOR = re.compile(r"\b((?:ark:|process_)[a-z0-9_:]+)\{([^}]*)\}")
GROUPING = re.compile(r"\bby \(([^)]*)\)")
OF_PROMETHEUS = {"job", "instance", "le"}
"""Labels that a scraper or a histogram adds."""

SAMPLES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


async def live(client: Client) -> dict[str, Metric]:
    """The metrics of a server that has seen some requests, by the names of their samples."""
    await client.chat("hello")
    await client.chat("hello", temperature=9)
    await client.request("POST", "/v1/embeddings", json={"model": "words", "input": "hello"})
    # Two sessions, of which one has room.
    await client.chat("again")
    told = families((await client.get("/metrics")).text)
    return {name + suffix: family for name, family in told.items() for suffix in SAMPLES[family.type]}


@pytest.fixture
async def metrics() -> dict[str, Metric]:
    async with running(models=[ECHO, WORDS], sessions={"max_sessions": 1}) as client:
        return await live(client)


ELSEWHERE = {
    "ark:upstream_up": {"model_name", "url"},
    "ark:upstream_jobs_running": {"model_name", "url"},
    "ark:upstream_jobs": {"model_name", "url", "outcome"},
}
"""No engine is elsewhere here; tests/server/test_remote.py has some."""


def labels(family: Metric) -> set[str]:
    found = {label for sample in family.samples for label in sample.labels} - {"le"}
    # No test opens a speech model or a reranker, and one that is not there has no series.
    return (
        found
        or ELSEWHERE.get(family.name)
        or ({"model_name"} if family.name.startswith(("ark:audio", "ark:transcriptions", "ark:rerank")) else set())
    )


def rows() -> list[tuple[str, str, set[str]]]:
    """The tables of the documentation: name, type, labels."""
    found = re.findall(r"^\| `(ark:[a-z0-9_]+)` \| (\w+) \| ([a-z_, ]*) ?\| ", DOCS, re.MULTILINE)
    return [(name, kind, set(text.strip().split(", ")) - {""}) for name, kind, text in found]


def expressions() -> list[str]:
    """Every query of the dashboard and of the alerts."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    variables = [one["definition"] for one in DASHBOARD["templating"]["list"] if "definition" in one]
    alerts = re.findall(r"^ *expr: (.*)$", DOCS, re.MULTILINE)
    assert (len(panels) > 40, len(variables), len(alerts) > 5) == (True, 2, True)
    return panels + variables + alerts


async def test_every_metric_is_documented_and_every_documented_one_is_there(metrics: dict[str, Metric]) -> None:
    told = {
        (name if family.type != "histogram" else family.name, family.type, frozenset(labels(family)))
        for name, family in metrics.items()
        if name.startswith("ark:")
    }
    documented = [(name, kind, frozenset(wanted)) for name, kind, wanted in rows()]
    assert len(documented) == len(set(documented))
    assert set(documented) == told


async def test_queries_ask_for_metrics_that_there_are(metrics: dict[str, Metric]) -> None:
    for expression in expressions():
        names = NAME.findall(expression)
        assert names, expression
        assert not [name for name in names if name not in metrics], expression


async def test_queries_choose_and_group_by_labels_that_there_are(metrics: dict[str, Metric]) -> None:
    for expression in expressions():
        for name, selector in SELECTOR.findall(expression):
            asked = set(re.findall(r"(\w+) ?[=!]~?", selector))
            assert asked <= labels(metrics[name]) | OF_PROMETHEUS, expression
        for group in GROUPING.findall(expression):
            known = set.union(*(labels(metrics[name]) for name in NAME.findall(expression)))
            assert set(group.split(", ")) <= known | OF_PROMETHEUS, expression


def test_queries_are_balanced_and_use_known_variables() -> None:
    for expression in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), expression
        assert set(re.findall(r"\$\w+", expression)) <= {"$__rate_interval", "$job", "$model"}, expression


def test_the_dashboard_can_be_imported() -> None:
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert "id" not in DASHBOARD
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        if panel["type"] != "row":
            # No data source of the machine it was made on.
            used = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert {one["uid"] for one in used} == {"${datasource}"}
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
