"""URLs of the reference site."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("", include("project.chat.urls")),
    path("", include("realtime.urls")),
    path("admin/", admin.site.urls),
]
