"""The Pusher HTTP API: what back ends of any language call.

Source: Pusher docs, "HTTP API reference".
"""

import logging
from typing import Any, cast

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.utils.log import log_response
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.exceptions import APIException, NotFound, ParseError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from realtime import metrics, moderation, profiles, queries, triggers
from realtime.api.authentication import AppCaller, PayloadTooLarge, PusherSignature
from realtime.api.events import Asked, attributes_in, read_batch, read_event
from realtime.api.renderers import EscapingJSONRenderer
from realtime.api.throttling import TooManyEvents, spend
from realtime.layer import PublishFailed
from realtime.logs import OncePerSecond
from realtime.profiles import UnknownUser
from realtime.protocol.app import App
from realtime.protocol.errors import BadMessage, DataTooLarge, RealtimeError
from realtime.protocol.messages import load_json

logger = logging.getLogger(__name__)
logger.addFilter(OncePerSecond())


class Unavailable(APIException):
    """The channel layer or the database does not answer; the call may be repeated."""

    status_code = 503
    default_detail = "Service unavailable, try again later"


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class PusherView(APIView):
    """A signed endpoint: JSON objects out, plain text for errors."""

    authentication_classes = (PusherSignature,)
    permission_classes = ()
    throttle_classes = ()
    parser_classes = ()
    renderer_classes = (EscapingJSONRenderer,)
    metadata_class = None

    @property
    def app(self) -> App:
        """The app that signed the request."""
        return self._caller.app

    @property
    def _caller(self) -> AppCaller:
        return cast(AppCaller, self.request.user)  # the only authentication there is

    def perform_content_negotiation(self, request: Request, force: bool = False) -> Any:
        """Answer JSON whatever the caller accepts: libraries disagree in what they send."""
        return EscapingJSONRenderer(), EscapingJSONRenderer.media_type

    @property
    def raw_body(self) -> bytes:
        """What came with the request."""
        return self._caller.body

    def body(self) -> dict[str, Any]:
        """The parameters of a POST: its JSON body or, without one, its query string.

        Raises:
            ParseError: the body is no JSON object.
        """
        if not self.raw_body:
            return _query_parameters(self._caller.query)
        try:
            body = load_json(self.raw_body.decode())
        except (BadMessage, UnicodeDecodeError):
            raise ParseError("The request body is not valid JSON") from None
        if not isinstance(body, dict):
            raise ParseError("The request body is not a JSON object")
        return body

    def parameter(self, name: str) -> str | None:
        """A parameter of a GET."""
        return dict(self._caller.query).get(name)

    def handle_exception(self, exc: Exception) -> HttpResponseBase:  # type: ignore[override]
        """Answer errors as text, in the words of the caller."""
        why: Exception | None = None
        match exc:
            case DataTooLarge():
                exc = PayloadTooLarge(str(exc))
            case PublishFailed() | DatabaseError():
                why = exc
                exc = Unavailable()
            case UnknownUser():
                exc = NotFound(str(exc))
            case RealtimeError():
                exc = ParseError(str(exc))
        if not isinstance(exc, APIException):
            raise exc
        response = text_response(str(exc.detail), exc.status_code)
        if exc.status_code == 401:
            response["WWW-Authenticate"] = self.get_authenticate_header(self.request)
        if isinstance(exc, TooManyEvents):
            response["Retry-After"] = str(exc.wait)
        self._note(response, why)
        return response

    def _note(self, response: HttpResponse, why: Exception | None) -> None:
        """Count and log a refusal; Django logs no response for a second time."""
        status, request = response.status_code, self.request._request
        metrics.count("api_requests_refused", status=str(status))
        if why is not None:
            sentence, word = "a call of the HTTP API failed: %s", str(why)
        else:
            sentence, word = f"a call of the HTTP API was refused with {status}: %s", request.path
        log_response(sentence, word, response=response, request=request, logger=logger)


class EventsView(PusherView):
    """``POST /apps/ID/events``"""

    def post(self, request: Request, **_: str) -> Response:
        """Send one event to up to a hundred channels."""
        asked = read_event(self.app, self.body())
        counts = _send(self.app, asked)
        return Response({"channels": counts} if counts else {})


class BatchEventsView(PusherView):
    """``POST /apps/ID/batch_events``"""

    def post(self, request: Request, **_: str) -> Response:
        """Send up to ten events, in order; all are checked before the first is sent."""
        asked = read_batch(self.app, self.body())
        counts = _send(self.app, asked)
        if not counts:
            return Response({})
        told = [
            {name: n for name, n in counts[channel].items() if name in names}
            for channel, names in asked.items
        ]
        return Response({"batch": told})


class ChannelsView(PusherView):
    """``GET /apps/ID/channels``"""

    def get(self, request: Request, **_: str) -> Response:
        """The occupied channels."""
        return Response(
            queries.channels_info(
                self.parameter("filter_by_prefix"),
                attributes_in(self.parameter("info")),
                app_id=self.app.id,
            )
        )


class ChannelView(PusherView):
    """``GET /apps/ID/channels/NAME``"""

    def get(self, request: Request, channel: str, **_: str) -> Response:
        """One channel; an unknown one is merely not occupied."""
        attributes = attributes_in(self.parameter("info"))
        return Response(queries.channel_info(channel, attributes, app_id=self.app.id))


class UsersView(PusherView):
    """``GET /apps/ID/channels/NAME/users``"""

    def get(self, request: Request, channel: str, **_: str) -> Response:
        """The members of a presence channel."""
        return Response(queries.users_info(channel, app_id=self.app.id))


class TerminateView(PusherView):
    """``POST /apps/ID/users/UID/terminate_connections``"""

    def post(self, request: Request, user_id: str, **_: str) -> Response:
        """Close every connection signed in as a user."""
        moderation.terminate_user_connections(user_id, app_id=self.app.id)
        return Response({})


class UserView(PusherView):
    """``GET``, ``PATCH`` and ``DELETE /apps/ID/users/UID``: ours, in the style of the others"""

    def get(self, request: Request, user_id: str, **_: str) -> Response:
        """What is kept about a user."""
        found = profiles.user_data(user_id, app_id=self.app.id)
        if found is None:
            raise UnknownUser("No such user")
        return Response(found)

    def patch(self, request: Request, user_id: str, **_: str) -> Response:
        """Set what a user shows, all of it."""
        user_info = self.body().get("user_info")
        if user_info is None:
            raise ParseError("Missing required parameter: user_info")
        if not isinstance(user_info, dict):
            raise ParseError("Expected user_info parameter to be an object")
        return Response(profiles.update_user_data(user_id, user_info, app_id=self.app.id))

    def delete(self, request: Request, user_id: str, **_: str) -> Response:
        """Keep nothing of what a user shows."""
        profiles.delete_user_data(user_id, app_id=self.app.id)
        return Response({})


@method_decorator([login_not_required, csrf_exempt], name="dispatch")
class NotFoundView(View):
    """Every other path below ``/apps/``: 404 and never a redirect to one with a slash."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Answer 404 to any method."""
        return text_response("404 NOT FOUND", 404)


def text_response(message: str, status: int) -> HttpResponse:
    """An answer as server libraries show it to people."""
    return HttpResponse(f"{message}\n", status=status, content_type="text/plain; charset=utf-8")


def _query_parameters(query: list[tuple[str, str]]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in query:
        if name.endswith("[]"):
            parameters.setdefault(name[:-2], []).append(value)
        else:
            parameters[name] = value
    return parameters


def _send(app: App, asked: Asked) -> dict[str, dict[str, Any]]:
    """Send events; return what is to be told of their channels."""
    spend(app, len(asked.envelopes))
    # Counted before sending: a failure after it would ask the caller to send once more.
    counts = queries.attributes_of(app, asked.wanted) if asked.wanted else {}
    triggers.send_now(asked.envelopes, source="api")
    return counts
