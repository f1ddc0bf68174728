"""A log that a flood cannot fill."""

import logging

import pytest

from realtime import logs


@pytest.fixture
def clock(monkeypatch):
    """The clock of the filter, which the test moves."""
    times = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: times[0])
    return times


@pytest.fixture
def logger(caplog):
    made = logging.getLogger("tests.flood")
    guard = logs.OncePerSecond()
    made.addFilter(guard)
    yield made
    made.removeFilter(guard)


def test_a_sentence_is_logged_once_a_second_whatever_its_arguments(logger, clock, caplog):
    for number in range(50):
        logger.error("peer %d failed", number)

    assert caplog.messages == ["peer 0 failed"]


def test_the_next_line_says_how_many_there_were(logger, clock, caplog):
    for number in range(50):
        logger.error("peer %d failed", number)
    clock[0] += 1

    logger.error("peer %d failed", 50)
    clock[0] += 1
    logger.error("peer %d failed", 51)

    assert caplog.messages == [
        "peer 0 failed",
        "peer 50 failed (and 49 more like it)",
        "peer 51 failed",
    ]


def test_other_sentences_and_levels_do_not_wait(logger, clock, caplog):
    logger.error("one")
    logger.error("two")
    logger.warning("one")

    assert caplog.messages == ["one", "two", "one"]


def test_a_sentence_with_a_percent_sign_can_be_counted(logger, clock, caplog):
    logger.warning("100%% of %s", "it")
    logger.warning("100%% of %s", "it")
    clock[0] += 2

    logger.warning("100%% of %s", "it")

    assert caplog.messages[-1] == "100% of it (and 1 more like it)"
