"""URLs to include at the root of a site, or below a prefix."""

import pytest
from django.contrib.auth.middleware import LoginRequiredMiddleware
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory
from django.urls import resolve, reverse

from realtime.api import (
    auth_views,
    deprecated_views,
    health_views,
    metrics_views,
    moderation_views,
    openapi_views,
    stats_views,
    views,
)
from realtime.urls import urlpatterns

PATHS = [
    ("events", {"app_id": "3"}, "/apps/3/events", views.EventsView),
    ("batch-events", {"app_id": "3"}, "/apps/3/batch_events", views.BatchEventsView),
    ("channels", {"app_id": "3"}, "/apps/3/channels", views.ChannelsView),
    ("channel", {"app_id": "3", "channel": "a"}, "/apps/3/channels/a", views.ChannelView),
    ("users", {"app_id": "3", "channel": "a"}, "/apps/3/channels/a/users", views.UsersView),
    (
        "terminate",
        {"app_id": "3", "user_id": "u"},
        "/apps/3/users/u/terminate_connections",
        views.TerminateView,
    ),
    ("user", {"app_id": "3", "user_id": "u"}, "/apps/3/users/u", views.UserView),
    (
        "terminate-without-app",
        {"user_id": "u"},
        "/users/u/terminate_connections",
        views.TerminateView,
    ),
    ("channel-auth", {}, "/pusher/auth", auth_views.ChannelAuthView),
    ("user-auth", {}, "/pusher/user-auth", auth_views.UserAuthView),
    ("stats-jsonp", {"receiver": 3}, "/timeline/v2/jsonp/3", stats_views.jsonp),
    ("stats-xhr", {}, "/timeline/v2/xhr/2", stats_views.xhr),
    ("up", {}, "/realtime/up", health_views.up),
    ("ready", {}, "/realtime/ready", health_views.ready),
    (
        "channel-events",
        {"app_id": "3", "channel": "a"},
        "/apps/3/channels/a/events",
        deprecated_views.ChannelEventsView,
    ),
    (
        "channel-stats",
        {"app_id": "3", "channel": "a"},
        "/apps/3/channels/a/stats",
        deprecated_views.ChannelStatsView,
    ),
    ("metrics", {}, "/realtime/metrics", metrics_views.metrics),
    ("openapi", {}, "/realtime/openapi.json", openapi_views.document),
    ("docs", {}, "/realtime/docs", openapi_views.page),
    ("moderation-users", {}, "/realtime/users", moderation_views.UsersView),
    ("moderation-kick", {"user_id": "u"}, "/realtime/users/u/kick", moderation_views.KickView),
    ("moderation-ban", {"user_id": "u"}, "/realtime/users/u/ban", moderation_views.BanView),
    ("moderation-lift", {"user_id": "u"}, "/realtime/users/u/lift", moderation_views.LiftView),
]


def _view_at(path):
    function = resolve(path).func
    return getattr(function, "view_class", function)


@pytest.mark.parametrize(("name", "parts", "path", "view"), PATHS, ids=lambda value: str(value))
def test_every_path_has_its_view_and_its_name(name, parts, path, view):
    assert _view_at(path) is view
    assert reverse(f"realtime:{name}", kwargs=parts) == path


@pytest.mark.spec(165)
@pytest.mark.parametrize(("name", "parts", "path", "view"), PATHS, ids=lambda value: str(value))
def test_a_site_may_mount_them_below_a_prefix(name, parts, path, view):
    assert _view_at(f"/mounted{path}") is view
    assert reverse(f"mounted:{name}", kwargs=parts) == f"/mounted{path}"


def test_no_path_is_left_out_here():
    named = {name for name, *_ in PATHS} | {"not-found"}

    assert {pattern.name for pattern in urlpatterns} == named


@pytest.mark.spec(191)
@pytest.mark.parametrize("path", ["/apps/", "/apps/3", "/apps/3/events/", "/apps/3/a/b/c"])
def test_everything_else_below_apps_is_not_found(path):
    assert resolve(path).func.view_class is views.NotFoundView


@pytest.mark.parametrize("path", [*(path for _, _, path, _ in PATHS), "/apps/3"])
def test_a_site_that_wants_a_login_everywhere_redirects_none(path):
    request = RequestFactory().get(path)
    request.user = AnonymousUser()
    middleware = LoginRequiredMiddleware(lambda _: None)

    assert middleware.process_view(request, resolve(path).func, (), {}) is None


def test_a_load_balancer_needs_no_login(client, settings):
    middleware = "django.contrib.auth.middleware.LoginRequiredMiddleware"
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, middleware]

    assert client.get("/realtime/up").json() == {"up": True}
    assert client.get("/favicon.ico").url.endswith("?next=/favicon.ico")
