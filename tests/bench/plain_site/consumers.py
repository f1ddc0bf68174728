"""Events to browsers."""

from channels.generic.websocket import AsyncWebsocketConsumer


def group_of(channel):
    """The layer group of a channel."""
    return f"events.{channel}"


class EventConsumer(AsyncWebsocketConsumer):
    """One WebSocket, subscribed to the channel in its path."""

    async def connect(self):
        self.group = group_of(self.scope["url_route"]["kwargs"]["channel"])
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()

    async def disconnect(self, code):
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def event_message(self, event):
        await self.send(text_data=event["text"])
