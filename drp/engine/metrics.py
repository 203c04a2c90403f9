"""The metrics of a running drp, for Prometheus to fetch over HTTP.

Names are those of LCLS's drp where it has the same thing; their rates and depths are gauges there, and here. What only counts up is a
counter of our own beside them. The main loop hands in `Readings`; a thread of the HTTP server turns the last of them into text when it is asked,
so that no event waits for a scrape.

It needs prometheus_client, and is imported only where `-M` is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from drp.core.ledger import DamageCounts, Fate
from drp.core.quantiles import SUB_BUCKETS, lower_edge, quantile
from drp.core.report import Readings
from drp.link import metrics
from drp.link.metrics import LABELS

FIRST_EDGE = 11 * SUB_BUCKETS  # 2^14 ns: buckets of a histogram are powers of two, from 16 us
LAST_EDGE = 30 * SUB_BUCKETS  # to 2^33 ns, 9 s

# (name, what it is, how it is read)
_Row = tuple[str, str, Callable[[Readings], float]]
_GAUGES: tuple[_Row, ...] = (
    ("drp_event_rate", "Events that got their fate, per second", lambda r: r.now.events_per_s),
    ("drp_pgp_byte_rate", "Bytes of the datagrams that came in, per second", lambda r: r.now.bytes_per_s),
    ("drp_worker_queue_depth", "Datagrams that there are slots for", lambda r: r.now.slots),
    (
        "drp_worker_input_queue",
        "Datagrams that are with a worker, or queued for it",
        lambda r: r.now.in_flight,
    ),
    ("drp_pebble_in_use", "Event slots of the pebble in use", lambda r: r.now.slots_used),
    ("drp_pebble_in_use_max", "Event slots of the pebble", lambda r: r.now.slots),
    (
        "drp_py_app_time",
        "Median time of the script for an event, in ns",
        lambda r: quantile(r.service, 0.5) or 0,
    ),
    ("drp_recording_paused", "1 while a full disk holds events in the pebble", lambda r: r.now.paused),
)
_COUNTERS: tuple[_Row, ...] = (
    ("drp_source_events", "Events that the source gave", lambda r: r.source_events),
    ("drp_bytes_in", "Bytes of the datagrams that came in", lambda r: r.bytes_in),
    ("drp_bytes_recorded", "Bytes of the datagrams recorded", lambda r: r.bytes_recorded),
    ("drp_worker_restarts", "Worker processes replaced, spares included", lambda r: r.now.restarts),
    ("drp_source_stalled_seconds", "Time the source had to wait for a slot", lambda r: r.stalled_s),
)


_MONITORED = (
    ("MCtbO_EvCt", "Events sent to a meb"),
    ("MCtbO_TrCt", "Transitions sent to a meb"),
    ("MCtbO_TxPdg", "Messages sent to a meb"),
)


class RunCollector(Collector):
    """What Prometheus is told, from the Readings taken last; nothing before the first."""

    def __init__(self) -> None:
        self.readings: Readings | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the families of metrics."""
        readings = self.readings
        if readings is None:
            return
        who = readings.who
        for name, text, read in _GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=LABELS)
            gauge.add_metric(who, float(read(readings)))
            yield gauge
        for name, text, read in _COUNTERS:
            counter = CounterMetricFamily(name, text, labels=LABELS)
            counter.add_metric(who, float(read(readings)))
            yield counter
        yield from _by_kind(readings)
        yield _histogram("drp_latency_seconds", "Time of an event in drp", who, readings.latency)
        yield _histogram("drp_script_seconds", "Time of the script for an event", who, readings.service)


def _by_kind(readings: Readings) -> Iterator[Metric]:
    ledger = readings.ledger
    fates = {fate.name: ledger[fate] for fate in Fate}
    yield _family("drp_events", "Events by their fate", "fate", readings.who, fates)
    origins: dict[str, DamageCounts] = {
        "incoming": ledger.incoming,
        "drp": ledger.drp,
        "script": ledger.script,
        "trigger": ledger.trigger,
    }
    damaged = {name: counts.events for name, counts in origins.items()}
    yield _family("drp_damaged_events", "Damaged events by who damaged them", "origin", readings.who, damaged)
    workers = {str(number): count for number, count in enumerate(readings.worker_events)}
    yield _family("drp_worker_events", "Events done, by worker", "worker", readings.who, workers)
    monitored = readings.monitored
    for name, text in _MONITORED:
        gauge = GaugeMetricFamily(name, text, labels=(*LABELS, "meb"))
        for meb, counts in monitored.items():
            gauge.add_metric((*readings.who, meb), counts[name])
        yield gauge
    dropped = {meb: counts["dropped"] + counts["unsent"] for meb, counts in monitored.items()}
    yield _family("drp_monitor_dropped", "Events that a meb did not get", "meb", readings.who, dropped)


def _family(name: str, text: str, label: str, who: Sequence[str], counts: dict[str, int]) -> Metric:
    counter = CounterMetricFamily(name, text, labels=(*LABELS, label))
    for kind, count in counts.items():
        counter.add_metric((*who, kind), count)
    return counter


def _histogram(name: str, text: str, who: Sequence[str], counts: Sequence[int]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=LABELS)
    if counts:
        sums = list(accumulate(counts))
        edges = range(FIRST_EDGE, LAST_EDGE + 1, SUB_BUCKETS)
        buckets = [(f"{lower_edge(edge) / 1e9:.9g}", float(sums[edge - 1])) for edge in edges]
        family.add_metric(who, [*buckets, ("+Inf", float(sums[-1]))], sum_value=None)
    return family


class Exporter(metrics.Exporter):
    """The metrics of one drp: what it was handed in last."""

    def __init__(self, folder: Path, address: str) -> None:
        """Serve, at first nothing. Raises ConfigError as `drp.link.metrics.Exporter` does."""
        self._readings = RunCollector()
        super().__init__(folder, self._readings, address)

    def take(self, readings: Readings) -> None:
        """Tell these from now on."""
        self._readings.readings = readings
