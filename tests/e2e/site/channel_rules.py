"""Who may join the channels of the end-to-end tests: every user who is logged in."""

from realtime import channel_rule


@channel_rule("private-{name}")
def may_join_private(user, name):
    return True


@channel_rule("presence-signed-in-{name}")
def may_join_as_signed_in(user, name):
    return True


@channel_rule("presence-own-data-{name}")
def may_join_with_own_data(user, name):
    return {"user_id": str(user.pk), "user_info": {"name": user.username, "desk": name}}
