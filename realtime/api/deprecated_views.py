"""Two endpoints of the HTTP API that Pusher replaced long ago, for libraries of that time.

Source: Pusher docs, "HTTP API reference", the sections marked as deprecated.
"""

from django.http import HttpResponse
from rest_framework.exceptions import ParseError
from rest_framework.request import Request
from rest_framework.response import Response

from realtime import queries, triggers
from realtime.api.throttling import spend
from realtime.api.views import PusherView, text_response
from realtime.protocol.names import Kind, kind_of


class ChannelEventsView(PusherView):
    """``POST /apps/ID/channels/NAME/events?name=EVENT&socket_id=S``"""

    def post(self, request: Request, channel: str, **_: str) -> HttpResponse:
        """Send one event to one channel; the body is its data, as it is."""
        name = self.parameter("name")
        if name is None:
            raise ParseError("Missing required parameter: name")
        try:
            data = self.raw_body.decode()
        except UnicodeDecodeError:
            raise ParseError("The request body is not valid UTF-8") from None
        envelopes = triggers.encode(self.app, channel, name, data, self.parameter("socket_id"))
        spend(self.app, len(envelopes))
        triggers.send_now(envelopes, source="api")
        return text_response("202 ACCEPTED", 202)


class ChannelStatsView(PusherView):
    """``GET /apps/ID/channels/NAME/stats``"""

    def get(self, request: Request, channel: str, **_: str) -> Response:
        """Whether the channel is occupied, and its numbers under their former names."""
        wanted = {queries.SUBSCRIPTION_COUNT}
        if kind_of(channel) is Kind.PRESENCE:
            wanted.add(queries.USER_COUNT)
        stats = queries.channel_info(channel, wanted, app_id=self.app.id)
        stats["connection_count"] = stats.pop(queries.SUBSCRIPTION_COUNT)
        return Response(stats)
