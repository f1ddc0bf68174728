"""The OpenAPI document says what the endpoints do: every call that it allows is tried."""

import hashlib
import io
import re
import time
from urllib.parse import parse_qsl, urlencode

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.urls import resolve
from hypothesis import HealthCheck, given, settings
from rest_framework.authtoken.models import Token
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from realtime import urls
from realtime.api import openapi
from tests.conftest import ID, KEY, hmac_hex

NOT_DESCRIBED = {
    "realtime/metrics",
    "realtime/openapi.json",
    "realtime/docs",
    r"^apps/.*\Z",
    # Where pusher-js reports how it connected; nobody else calls them.
    "timeline/v2/jsonp/<int:receiver>",
    "timeline/v2/xhr/2",
}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
EXAMPLES = 20
"""Calls of one endpoint; all of them together take a few seconds."""


class Signing:
    """WSGI: signs what passes on its way to the HTTP API, as the official libraries do."""

    def __init__(self, application):
        self._application = application

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith(("/apps/", "/users/")):
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read(length)
            environ["wsgi.input"] = io.BytesIO(body)
            pairs = [
                (name, value)
                for name, value in parse_qsl(environ["QUERY_STRING"], keep_blank_values=True)
                if not name.lower().startswith(("auth_", "body_md5"))
            ]
            pairs += [("auth_key", KEY), ("auth_timestamp", str(int(time.time())))]
            pairs += [("auth_version", "1.0"), ("body_md5", hashlib.md5(body).hexdigest())]
            path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
            query = "&".join(f"{name.lower()}={value}" for name, value in _sorted(pairs))
            signature = hmac_hex(f"{environ['REQUEST_METHOD']}\n{path}\n{query}")
            environ["QUERY_STRING"] = urlencode([*pairs, ("auth_signature", signature)])
        return self._application(environ, start_response)


def _sorted(pairs):
    return sorted(pairs, key=lambda pair: pair[0].lower())


SCHEMA = schemathesis.openapi.from_dict(openapi.document(""))
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def takes_something(operation):
    """Whether there is anything that could be sent wrongly."""
    return bool(operation.definition.raw.keys() & {"parameters", "requestBody"})


CALLS = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or takes_something(operation)
]


@pytest.fixture
def site(db):
    """The site as a WSGI server sees it, within the transaction of the test."""
    ends = (request_started, request_finished)
    for end in ends:  # as Django's own test client does
        end.disconnect(close_old_connections)
    yield Signing(get_wsgi_application())
    for end in ends:
        end.connect(close_old_connections)


@pytest.fixture
def staff_token(admin_user):
    """Authenticates somebody who may do everything."""
    return Token.objects.create(user=admin_user).key


@pytest.mark.parametrize(("operation", "mode"), CALLS)
def test_an_endpoint_does_what_the_document_says(operation, mode, layer, site, staff_token):
    statuses = set()

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case):
        if "app_id" in case.path_parameters:
            case.path_parameters["app_id"] = ID  # any other is refused before it gets interesting
        response = case.call(app=site, headers={"Authorization": f"Token {staff_token}"})
        case.validate_response(response, checks=CHECKS)
        statuses.add(response.status_code)

    call()
    # What is asked for as described is not always a mistake of the caller.
    assert mode is GenerationMode.NEGATIVE or statuses - {400}


def described():
    """Route and method of every operation of the document."""
    document = openapi.document("")
    return {(path, method.upper()) for path, item in document["paths"].items() for method in item}


def routes():
    return {
        "/" + re.sub(r"<(?:str|path):(\w+)>", r"{\1}", str(pattern.pattern))
        for pattern in urls.urlpatterns
        if str(pattern.pattern) not in NOT_DESCRIBED
    }


def test_every_url_is_described_and_no_other():
    assert {path for path, _ in described()} == routes()


@pytest.mark.parametrize(("path", "method"), sorted(described()))
def test_a_url_takes_the_method_that_is_described(path, method):
    view = resolve(re.sub(r"{\w+}", "1", path)).func
    actions = getattr(view, "view_class", None)

    assert actions is None or hasattr(actions, method.lower())


def test_every_operation_of_a_back_end_names_its_signature_and_its_errors():
    for path, item in openapi.document("")["paths"].items():
        for operation in item.values():
            if path.startswith(("/apps/", "/users/")):
                assert operation["security"] == [{"signature": []}]
                errors = {"400", "401", "403", "404", "413", "429", "503"}
                assert errors <= set(operation["responses"])
                for status in errors:
                    assert list(operation["responses"][status]["content"]) == ["text/plain"]


def test_the_document_names_where_the_site_includes_the_urls():
    assert openapi.document("/below")["servers"] == [{"url": "/below"}]
    assert openapi.document("")["servers"] == [{"url": "/"}]


def test_the_document_names_every_operation_differently(capsys):
    openapi.document.cache_clear()
    document = openapi.document("")

    items = document["paths"].values()
    names = [operation["operationId"] for item in items for operation in item.values()]
    assert len(names) == len(set(names))
    assert capsys.readouterr().err == ""
