"""What this process counts and holds, in the text formats of Prometheus.

Read when somebody asks; between two scrapes nothing is gathered.  Every sample names the
process, so those of several processes can be told apart and added up.

Needs the extra ``prometheus``: nothing imports this module where no metrics are asked for.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from realtime import conf, hub, metrics
from realtime.hub import Hub
from realtime.presence import lease, ledger

APP: Final = "app_id"


@dataclass(frozen=True, slots=True)
class Described:
    """What a value means, and whether there is one for each app."""

    meaning: str
    per_app: bool = False


GAUGES: Final = {
    "realtime_connections": Described("Open connections.", per_app=True),
    "realtime_subscriptions": Described("Subscriptions of these connections.", per_app=True),
    "realtime_channels": Described("Channels with a subscription here.", per_app=True),
    "realtime_layer_listening": Described("1 while the channel layer is heard, else 0."),
    "realtime_layer_round_trip_seconds": Described(
        "How long the channel layer last took to bring back a marker of this process, or until"
        " something else proved that it is heard."
    ),
    "realtime_ledger_waiting": Described("Presence changes that are not committed yet."),
    "realtime_lease_remaining_seconds": Described(
        "How long the other processes take this one for alive; +Inf as long as it needs no lease."
    ),
    "realtime_outbox_waiting": Described(
        "Durable events that are not sent yet, of all processes; counted up to 10,000."
    ),
    "realtime_outbox_oldest_seconds": Described("For how long the oldest of them has waited."),
}
DELIVERED: Final = "realtime_events_delivered_total"
DELIVERED_MEANING: Final = "Copies of events that were handed to connections here."
FAN_OUT: Final = "realtime_fan_out_seconds"
FAN_OUT_MEANING: Final = (
    "From the publish of an event, in any process, until the last connection here had its turn"
    " to be written to."
)

Values = Mapping[str, float]
"""By app id, or the one value under an empty name."""


def expose(accept: str, backlog: tuple[int, float] | None) -> tuple[bytes, str]:
    """All metrics of this process, and their content type; for the loop of the connections.

    Args:
        accept: the header of the scraper, which chooses between the two text formats.
        backlog: durable events that wait, and the seconds of the oldest; ``None`` where the
            database did not say, and then they are left out.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_Process(backlog)), content_type


class _Process(Collector):
    def __init__(self, backlog: tuple[int, float] | None) -> None:
        self._backlog = backlog

    def collect(self) -> Iterator[Metric]:
        """Every family, each sample with the name of this process."""
        server = lease.server_name()
        for family in self._families():
            family.samples = [
                sample._replace(labels={"server": server, **sample.labels})
                for sample in family.samples
            ]
            yield family

    def _families(self) -> Iterator[Metric]:
        yield from _counters()
        local = hub.peek()
        delivered = _of_every_app(local.delivered if local else {})
        yield _counter(DELIVERED, DELIVERED_MEANING, APP, delivered)
        yield _fan_out()
        for name, values in self._gauges(local).items():
            yield _gauge(name, values)
        yield from ProcessCollector(registry=None).collect()

    def _gauges(self, local: Hub | None) -> dict[str, Values]:
        found: dict[str, Values] = {}
        if local is not None:
            found |= _of_hub(local)
        if (recorded := ledger.peek()) is not None:
            waiting, seconds = recorded.state()
            found["realtime_ledger_waiting"] = {"": waiting}
            found["realtime_lease_remaining_seconds"] = {"": seconds}
        if self._backlog is not None:
            found["realtime_outbox_waiting"] = {"": self._backlog[0]}
            found["realtime_outbox_oldest_seconds"] = {"": self._backlog[1]}
        return found


def _of_hub(local: Hub) -> dict[str, Values]:
    subscriptions: dict[str, float] = {}
    channels: dict[str, float] = {}
    for app_id, _, confirmed, held in local.subscribers():
        number = len(confirmed) + len(held)
        subscriptions[app_id] = subscriptions.get(app_id, 0) + number
        channels[app_id] = channels.get(app_id, 0) + (number > 0)  # an empty one lingers
    return {
        "realtime_connections": _of_every_app(local.connections_by_app()),
        "realtime_subscriptions": _of_every_app(subscriptions),
        "realtime_channels": _of_every_app(channels),
        "realtime_layer_listening": {"": local.listening},
        "realtime_layer_round_trip_seconds": {"": local.round_trip_seconds},
    }


def _of_every_app(values: Mapping[str, float]) -> dict[str, float]:
    """*values* with a nought for each app of the settings that has none."""
    return {**{app.id: 0.0 for app in conf.apps()}, **values}


def _counters() -> Iterator[Metric]:
    counts = metrics.snapshot()
    for name, counter in metrics.COUNTERS.items():
        full_name = f"realtime_{name}_total"
        yield _counter(full_name, counter.meaning, counter.label, counts[full_name])


def _counter(name: str, meaning: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, meaning, labels=_labels(label))
    for value, count in values.items():
        family.add_metric([value] if label else [], count)
    return family


def _gauge(name: str, values: Values) -> Metric:
    described = GAUGES[name]
    family = GaugeMetricFamily(
        name, described.meaning, labels=_labels(APP if described.per_app else "")
    )
    for app_id, value in values.items():
        family.add_metric([app_id] if described.per_app else [], value)
    return family


def _labels(label: str) -> list[str]:
    return [label] if label else []


def _fan_out() -> Metric:
    family = HistogramMetricFamily(FAN_OUT, FAN_OUT_MEANING, labels=[])
    names = [*(str(float(bound)) for bound in metrics.FAN_OUT.bounds), "+Inf"]
    totals = itertools.accumulate(metrics.FAN_OUT.counts)
    family.add_metric([], list(zip(names, totals, strict=True)), metrics.FAN_OUT.total)
    return family
