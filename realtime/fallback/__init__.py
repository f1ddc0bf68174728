"""The HTTP transports of pusher-js, streaming and polling, as virtual WebSockets."""
