"""What is read of the kernel says what happened."""

import os
import socket
import subprocess
from contextlib import contextmanager

import pytest

from tests import services
from tests.chaos import procfs
from tests.chaos.procfs import Sample


@contextmanager
def echoing(**options):
    """A program that is at its work, so no longer at reading its libraries."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with services.spawn(["cat"], **pipes, bufsize=0, **options) as process:
        process.stdin.write(b"here\n")
        assert process.stdout.readline() == b"here\n"
        yield process
        process.stdin.close()


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
    with open(os.devnull) as more, echoing() as few, echoing(pass_fds=[more.fileno()]) as many:
        assert procfs.look(many.pid).fds == procfs.look(few.pid).fds + 1
        assert procfs.look(many.pid).rss > 0
