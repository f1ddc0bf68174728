"""The one view: publishes what is posted."""

from channels.layers import get_channel_layer
from django.http import HttpResponse
from django.urls import path

from tests.bench.plain_site.consumers import group_of


async def publish(request, channel):
    """Send the body to everybody who is subscribed to *channel*."""
    message = {"type": "event.message", "text": request.body.decode()}
    await get_channel_layer().group_send(group_of(channel), message)
    return HttpResponse()


urlpatterns = [path("publish/<slug:channel>/", publish)]
