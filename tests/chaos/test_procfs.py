"""What is read of the kernel says what happened."""

import os
import socket
from contextlib import contextmanager

import pytest

from tests import services
from tests.chaos import procfs
from tests.chaos.procfs import Sample


@contextmanager
def asleep(**options):
    process = services.spawn(["sleep", "60"], **options)
    try:
        yield process
    finally:
        services.stop(process)


def growing(*rss):
    return [Sample(at=second, rss=size, cpu=0, fds=0, threads=1) for second, size in enumerate(rss)]


@pytest.mark.parametrize(
    ("rss", "slope"),
    [((0, 100, 200, 300), 100), ((300, 200, 100), -100), ((0, 0, 90, 0, 0), 0), ((7, 7, 7), 0)],
    ids=["grows", "shrinks", "one peak", "flat"],
)
def test_the_slope_is_growth_per_second(rss, slope):
    assert procfs.slope(growing(*rss)) == pytest.approx(slope)


def test_one_sample_is_no_growth_and_says_so():
    assert procfs.slope(growing(7)) == float("inf")


def test_connections_count_until_they_are_closed():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listener.accept()
            ports = {client.getsockname()[1]}

            assert procfs.established(port, ports) == 1
            assert procfs.established(port, {1}) == 0
            assert procfs.established(1, ports) == 0

            accepted.close()
            assert procfs.established(port, ports) == 0


def test_a_look_counts_descriptors():
    # Of programs: in this process, threads of other tests may close theirs meanwhile.
    with open(os.devnull) as more, asleep() as few, asleep(pass_fds=[more.fileno()]) as many:
        assert procfs.look(many.pid).fds == procfs.look(few.pid).fds + 1
        assert procfs.look(many.pid).rss > 0
