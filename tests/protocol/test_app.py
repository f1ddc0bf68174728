"""What is known of a tenant."""

from realtime.protocol.app import App


def test_the_secret_is_not_shown_where_an_app_is_printed(app: App):
    assert app.key in repr(app)
    assert app.secret not in repr(app)


def test_the_limits_are_those_that_pusher_documents(app: App):
    limits = app.limits

    assert (limits.channel_name_chars, limits.event_name_chars) == (200, 200)
    assert (limits.event_data_bytes, limits.channels_per_trigger) == (10_240, 100)
    assert (limits.events_per_batch, limits.client_events_per_second) == (10, 10)
    assert (limits.presence_members, limits.presence_user_id_chars) == (100, 128)
    assert limits.presence_user_info_bytes == 1_024
