"""One endpoint of the OpenAPI document."""

from drf_spectacular.generators import SchemaGenerator
from rest_framework.schemas.openapi import AutoSchema

from realtime.api.openapi_route import TEXT, as_json, in_several_types, object_of, route


def described(pattern, **more):
    """The one operation in a document of this route."""
    options = {"auth": (), "answers": as_json(object_of()), "errors": {}, **more}
    patterns = [route(pattern, "post", "Do it", **options)]
    document = SchemaGenerator(patterns=patterns).get_schema(public=True)
    [(path, item)] = document["paths"].items()
    return path, item["post"]


def test_the_path_and_its_parameters_come_from_the_pattern():
    path, operation = described("apps/<str:app_id>/channels/<str:channel>/x")

    assert path == "/apps/{app_id}/channels/{channel}/x"
    assert operation["operationId"] == "apps_app_id_channels_channel_x_post"
    assert [item["name"] for item in operation["parameters"]] == ["app_id", "channel"]


def test_errors_of_signed_endpoints_are_text_and_others_are_objects():
    errors = {400: "Wrong.", 404: "No such path."}

    def types(auth):
        responses = described("x", auth=auth, errors=errors)[1]["responses"]
        return [list(responses[status]["content"]) for status in ("400", "404")]

    assert types(("signature",)) == [["text/plain"], ["text/plain"]]
    assert types(("session", "token")) == [["application/json"], ["text/html"]]


def test_required_parameters_are_marked():
    parameters = described("x", query={"a": TEXT, "b": TEXT}, required="b")[1]["parameters"]

    assert {item["name"]: item.get("required", False) for item in parameters} == {
        "a": False,
        "b": True,
    }


def test_a_body_may_be_of_several_types():
    body = described("x", body=in_several_types(object_of("a", a=TEXT), "multipart/form-data"))[1]

    assert set(body["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    }


def test_the_site_may_describe_its_own_views_with_another_package(settings):
    settings.REST_FRAMEWORK = {
        "DEFAULT_SCHEMA_CLASS": f"{AutoSchema.__module__}.{AutoSchema.__qualname__}"
    }

    assert described("x")[1]["summary"] == "Do it"
