"""The virtual WebSockets of a process, and the way to those of others."""

from realtime.fallback import registry
from realtime.fallback.registry import Registry
from tests.conftest import until


async def test_it_forgets_whoever_is_gone(new_browser, monkeypatch):
    browser = new_browser()
    stream = await browser.open()
    assert len(registry.current()) == 1

    monkeypatch.setattr("realtime.fallback.virtual.RETURN_SECONDS", 0)
    stream.go_away()

    await until(lambda: len(registry.current()) == 0)


async def test_where_the_layer_ends_at_this_process_nobody_else_is_asked(new_browser, layer):
    await new_browser().open()

    assert not [group for group, _ in layer.sent if "virtual" in group or "relay" in group]


async def test_where_it_does_not_others_are(settings):
    settings.CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": ["redis://127.0.0.1:1"]},
        }
    }

    assert isinstance(registry.current(), Registry)
    assert registry.current()._relay is not None
