"""What any process can tell Prometheus, and what the dashboards ask for."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from drp.cli.partition import exported, parser, partition_of
from drp.core.metric_names import METRICS
from drp.engine.metrics import RunCollector
from drp.link.metrics import Labelled, ReadCollector
from tests.support.dashboards import everything, expressions, names_in, readings

WHO = ("tst", "3", "teb0", "0", "teb0")


def test_a_count_of_lcls_keeps_its_name_and_one_of_ours_is_a_counter() -> None:
    found = {
        sample.name: (family.type, family.documentation, sample.value, sample.labels)
        for family in ReadCollector(
            WHO,
            lambda: {"TEB_EvtCt": 7, "x_total": 2, "control_state": Labelled("state", {"running": 1})},
            METRICS,
        ).collect()
        for sample in family.samples
    }
    labels = dict(zip(("instrument", "partition", "detname", "detseg", "alias"), WHO, strict=True))
    assert found["TEB_EvtCt"] == ("unknown", METRICS["TEB_EvtCt"], 7, labels)
    assert found["x_total"] == ("counter", "x_total", 2, labels)
    assert found["control_state"][3] == {**labels, "state": "running"}


def test_a_process_with_m_says_where_it_is_asked_and_without_it_does_nothing(tmp_path: Path) -> None:
    options = parser("teb", "").parse_args(["-p", "3", "-M", str(tmp_path)])
    partition = partition_of(options, default_alias="teb0")
    count = [0]
    with exported(options, partition, lambda: {"TEB_EvtCt": count[0]}):
        (target,) = tmp_path.iterdir()
        (address,) = json.loads(target.read_text())[0]["targets"]
        for count[0] in (1, 2):
            with urllib.request.urlopen(f"http://{address}/metrics", timeout=10) as answer:
                families = list(text_string_to_metric_families(answer.read().decode()))
            assert [one.samples[0].value for one in families if one.name == "TEB_EvtCt"] == [count[0]]
    assert list(tmp_path.iterdir()) == []
    silent = parser("teb", "").parse_args([])
    with exported(silent, partition, dict):
        assert list(tmp_path.iterdir()) == []


def test_every_query_of_the_dashboards_asks_for_metrics_that_there_are() -> None:
    collector = RunCollector()
    collector.readings = readings()
    known = {sample.name for family in collector.collect() for sample in family.samples} | set(METRICS)
    asked = {name for _, expression in expressions() for name in names_in(expression)}
    assert len(asked) > 20
    assert asked - known == set()


def test_everything_can_be_told_at_once(tmp_path: Path) -> None:
    with everything(tmp_path):
        assert len(list(tmp_path.iterdir())) == 5
