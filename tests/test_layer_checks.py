"""System checks of the channel layer."""

from importlib import metadata

import pytest

from tests.test_checks import IN_MEMORY, PUBSUB, QUEUE, found, layers

__all__ = ["found"]

HOST = {"address": "redis://localhost", "socket_timeout": None}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hosts": [HOST]}, []),
        ({}, ["realtime.E005"]),
        ({"hosts": ["redis://localhost"]}, ["realtime.E005"]),
        ({"hosts": [{"address": "redis://localhost"}]}, ["realtime.E005"]),
        ({"hosts": [{**HOST, "socket_timeout": 5}]}, ["realtime.E005"]),
        ({"hosts": [HOST, ("localhost", 6379)]}, ["realtime.E005"]),
    ],
)
def test_the_queue_layer_must_not_time_out(found, config, expected):
    assert found(CHANNEL_LAYERS=layers(QUEUE, capacity=1_000, **config)) == expected


@pytest.mark.parametrize("backend", [QUEUE, IN_MEMORY])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({}, ["realtime.W002"]),
        ({"capacity": 999}, ["realtime.W002"]),
        ({"capacity": 1_000}, []),
        ({"channel_capacity": {"specific.*": 1_000}}, []),
        ({"capacity": 1_000, "channel_capacity": {"specific.*": 5}}, ["realtime.W002"]),
        ({"capacity": 1_000, "channel_capacity": {"http.*": 5}}, []),
    ],
)
def test_a_layer_needs_room(found, backend, config, expected):
    config = {**config, "hosts": [HOST]} if backend == QUEUE else config

    if backend == IN_MEMORY:  # drops whatever it is told to keep
        expected = ["realtime.W002"]

    assert found(deploy=False, CHANNEL_LAYERS=layers(backend, **config)) == expected


TCP = "redis://localhost:6379/0"
DEAD = ["realtime.W008"]


@pytest.mark.parametrize("backend", [PUBSUB, QUEUE])
@pytest.mark.parametrize(
    ("version", "host", "expected"),
    [
        ("8.1.0", {"address": TCP}, DEAD),
        ("8.1.0", {"host": "localhost", "port": 6379}, DEAD),
        ("8.1.0", {"address": f"{TCP}?protocol=2"}, []),
        ("8.1.0", {"address": TCP, "protocol": 2}, []),
        ("8.1.0", {"address": TCP, "protocol": "2"}, []),
        ("8.1.0", {"address": "redis://:protocol=2@localhost"}, DEAD),
        ("8.1.0", {"master_name": "main", "sentinels": [("localhost", 26379)]}, DEAD),
        ("8.1.0", {"address": "unix:///run/redis"}, []),
        ("8.1.0", {"path": "/run/redis"}, []),
        ("8.0.1", {"address": TCP}, []),
        ("8.1.1", {"address": TCP}, []),
    ],
)
def test_a_client_of_redis_that_sends_into_the_void(
    found, monkeypatch, backend, version, host, expected
):
    monkeypatch.setattr(metadata, "version", lambda name: version)
    config = {"hosts": [{**host, "socket_timeout": None}], "capacity": 1_000}

    assert found(deploy=False, CHANNEL_LAYERS=layers(backend, **config)) == expected


@pytest.mark.parametrize(
    ("hosts", "expected"), [([TCP], DEAD), ([("localhost", 6379)], DEAD), ([], DEAD)]
)
def test_hosts_may_be_written_in_other_ways(found, monkeypatch, hosts, expected):
    monkeypatch.setattr(metadata, "version", lambda name: "8.1.0")

    assert found(deploy=False, CHANNEL_LAYERS=layers(PUBSUB, hosts=hosts)) == expected


@pytest.mark.parametrize("backend", [IN_MEMORY, "channels_postgres.core.PostgresChannelLayer"])
def test_other_layers_have_nothing_to_do_with_redis(found, monkeypatch, backend):
    monkeypatch.setattr(metadata, "version", lambda name: "8.1.0")

    assert "realtime.W008" not in found(deploy=False, CHANNEL_LAYERS=layers(backend))


def test_redis_need_not_be_installed(found, monkeypatch):
    def none(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", none)

    assert found(deploy=False, CHANNEL_LAYERS=layers(PUBSUB, hosts=[TCP])) == []
