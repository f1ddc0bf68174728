"""URLs to include at the root of a site, or below a prefix.

None ends with a slash and none redirects, to a login page neither: server libraries follow no
redirect, and one would spoil the signature.  Every view decides by itself who may call it.
"""

from django.urls import path, re_path

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

app_name = "realtime"

urlpatterns = [
    path("apps/<str:app_id>/events", views.EventsView.as_view(), name="events"),
    path("apps/<str:app_id>/batch_events", views.BatchEventsView.as_view(), name="batch-events"),
    path("apps/<str:app_id>/channels", views.ChannelsView.as_view(), name="channels"),
    path("apps/<str:app_id>/channels/<str:channel>", views.ChannelView.as_view(), name="channel"),
    path("apps/<str:app_id>/channels/<str:channel>/users", views.UsersView.as_view(), name="users"),
    path(
        "apps/<str:app_id>/channels/<str:channel>/events",
        deprecated_views.ChannelEventsView.as_view(),
        name="channel-events",
    ),
    path(
        "apps/<str:app_id>/channels/<str:channel>/stats",
        deprecated_views.ChannelStatsView.as_view(),
        name="channel-stats",
    ),
    path(
        "apps/<str:app_id>/users/<str:user_id>/terminate_connections",
        views.TerminateView.as_view(),
        name="terminate",
    ),
    path("apps/<str:app_id>/users/<path:user_id>", views.UserView.as_view(), name="user"),
    # The official Python library, up to 3.3.4, leaves the app out of this one path.
    path(
        "users/<str:user_id>/terminate_connections",
        views.TerminateView.as_view(),
        name="terminate-without-app",
    ),
    re_path(r"^apps/.*\Z", views.NotFoundView.as_view(), name="not-found"),
    path("pusher/auth", auth_views.ChannelAuthView.as_view(), name="channel-auth"),
    path("pusher/user-auth", auth_views.UserAuthView.as_view(), name="user-auth"),
    path("timeline/v2/jsonp/<int:receiver>", stats_views.jsonp, name="stats-jsonp"),
    path("timeline/v2/xhr/2", stats_views.xhr, name="stats-xhr"),
    path("realtime/up", health_views.up, name="up"),
    path("realtime/ready", health_views.ready, name="ready"),
    path("realtime/metrics", metrics_views.metrics, name="metrics"),
    path("realtime/openapi.json", openapi_views.document, name="openapi"),
    path("realtime/docs", openapi_views.page, name="docs"),
    path("realtime/users", moderation_views.UsersView.as_view(), name="moderation-users"),
    path(
        "realtime/users/<path:user_id>/kick",
        moderation_views.KickView.as_view(),
        name="moderation-kick",
    ),
    path(
        "realtime/users/<path:user_id>/ban",
        moderation_views.BanView.as_view(),
        name="moderation-ban",
    ),
    path(
        "realtime/users/<path:user_id>/lift",
        moderation_views.LiftView.as_view(),
        name="moderation-lift",
    ),
]
