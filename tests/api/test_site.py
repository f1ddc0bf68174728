"""What the endpoints for people of the site have in common."""

import pytest
from django.test import RequestFactory
from rest_framework.authentication import SessionAuthentication, TokenAuthentication
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response

from realtime.api.site import OptionalCsrfSession, SiteView


class AnyView(SiteView):
    def get(self, request):
        return Response({"user": str(request.user)})


def test_sessions_come_first_and_tokens_where_they_are_installed():
    kinds = [type(item) for item in AnyView().get_authenticators()]

    assert kinds == [SessionAuthentication, TokenAuthentication]


def test_without_tokens_there_are_sessions_only(settings):
    settings.INSTALLED_APPS = [
        name for name in settings.INSTALLED_APPS if name != "rest_framework.authtoken"
    ]

    assert [type(item) for item in AnyView().get_authenticators()] == [SessionAuthentication]


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
def test_the_answer_is_json(accept):
    response = AnyView.as_view()(RequestFactory().get("/", headers={"accept": accept}))

    assert response.render()["Content-Type"] == "application/json"


@pytest.mark.parametrize("wanted", [True, False])
def test_the_csrf_check_can_be_switched_off(configure, wanted):
    configure(AUTH_CSRF=wanted)
    request = RequestFactory(enforce_csrf_checks=True).post("/")

    if wanted:
        with pytest.raises(PermissionDenied, match="CSRF"):
            OptionalCsrfSession().enforce_csrf(request)
    else:
        OptionalCsrfSession().enforce_csrf(request)
