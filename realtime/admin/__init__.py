"""Staff's view of the server, by topic."""

from realtime.admin import users, webhooks

__all__ = ["users", "webhooks"]
