"""What a connection decides."""

from realtime.protocol.effects import Send


def test_what_is_sent_is_compared_by_its_text():
    assert Send("x", "malformed") == Send("x")
    assert Send("x") != Send("y")
