"""URLs of the fast tests: the site as it is, and the app a second time below a prefix."""

from django.urls import include, path

from project.urls import urlpatterns as site_urlpatterns

urlpatterns = [
    *site_urlpatterns,
    path("mounted/", include("realtime.urls", namespace="mounted")),
]
