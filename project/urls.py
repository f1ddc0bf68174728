"""URLs of the reference site."""

from django.contrib import admin
from django.templatetags.static import static
from django.urls import include, path
from django.views.generic import RedirectView

urlpatterns = [
    path("", include("project.chat.urls")),
    path("", include("realtime.urls")),
    path("admin/", admin.site.urls),
    # Browsers ask for it on pages that name no icon, such as those of the admin.
    path("favicon.ico", RedirectView.as_view(url=static("chat/favicon.svg"))),
]
