"""Staff's view: who is online, where, through which process; and what may be done about it.

The pages translate and delegate; nothing here changes presence.
"""

from realtime.admin import apps, channels, servers, users, webhooks

__all__ = ["apps", "channels", "servers", "users", "webhooks"]
