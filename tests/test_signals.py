"""Django signals for what happens in the apps."""

from django.dispatch import Signal

from realtime import signals
from realtime.protocol.facts import KINDS


def test_there_is_a_signal_for_every_kind_of_fact():
    assert set(signals.BY_KIND) == set(KINDS)
    for kind, signal in signals.BY_KIND.items():
        assert isinstance(signal, Signal)
        assert getattr(signals, kind) is signal
