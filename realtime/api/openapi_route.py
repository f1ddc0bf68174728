"""One endpoint in an OpenAPI document, made by drf-spectacular.

Needs the extra ``openapi``, as ``openapi.py`` does.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from django.urls import URLPattern, path
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.views import APIView

Schema = dict[str, Any]
"""A JSON schema."""

TEXT: Final[Schema] = {"type": "string"}
CHANNEL: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z0-9_\-=@,.;]{1,200}$"}
APP_ID: Final[Schema] = {"type": "string", "pattern": r"^[0-9]{1,20}$"}
DETAIL: Final[Schema] = {
    "type": "object",
    "description": "`detail`, or the name of a field, and what is wrong with it.",
    "additionalProperties": {"oneOf": [TEXT, {"type": "array", "items": TEXT}]},
}

FROM_DJANGO: Final = (404,)
"""Statuses that Django answers with a page, outside of the views."""

Answers = Mapping[int, tuple[Schema, str]]
"""Schema and media type by status."""

_WORD: Final = re.compile(r"\w+(?=[/>.]|$)")


def object_of(required: str = "", /, **properties: Schema) -> Schema:
    """The schema of an object.

    Args:
        required: the names of those that must be there, with blanks between.
    """
    schema: Schema = {"type": "object", "properties": properties}
    return {**schema, "required": required.split()} if required else schema


def as_json(schema: Schema, status: int = 200) -> Answers:
    """The usual answer."""
    return {status: (schema, "application/json")}


def in_several_types(schema: Schema, *more: str) -> dict[str, Schema]:
    """A body that may be JSON, a form, or of *more* media types."""
    types = ("application/json", "application/x-www-form-urlencoded", *more)
    return dict.fromkeys(types, schema)


def route(
    pattern: str,
    method: str,
    summary: str,
    *,
    auth: tuple[str, ...],
    answers: Answers,
    errors: Mapping[int, str],
    body: Mapping[str, Schema] | None = None,
    query: Mapping[str, Schema] | None = None,
    required: str = "",
    channel: Schema = CHANNEL,
    deprecated: bool = False,
) -> URLPattern:
    """What is said of one endpoint, as a route to a view that nobody calls.

    Args:
        auth: names of security schemes, any of which will do.
        errors: their meanings by status.
        body: schemas by media type.
        query: schemas of the parameters, of which *required* are.
        channel: what is allowed in the path.
    """
    is_signed = auth == ("signature",)
    responses = {
        (status, media_type): OpenApiResponse(response=schema, description="As asked for.")
        for status, (schema, media_type) in answers.items()
    }
    for status, meaning in errors.items():
        # Below /apps/ every error is text; elsewhere Django answers some by itself.
        media_type = "text/plain" if is_signed else "application/json"
        if not is_signed and status in FROM_DJANGO:
            media_type = "text/html"
        schema = DETAIL if media_type == "application/json" else TEXT
        responses[status, media_type] = OpenApiResponse(response=schema, description=meaning)
    parameters = [
        OpenApiParameter(name, schema, required=name in required.split())
        for name, schema in (query or {}).items()
    ]
    parameters += [
        OpenApiParameter(name, schema, OpenApiParameter.PATH)
        for name, schema in {"app_id": APP_ID, "channel": channel, "user_id": TEXT}.items()
        if f":{name}>" in pattern
    ]
    describe = extend_schema(
        summary=summary,
        operation_id="_".join([*_WORD.findall(pattern.replace("-", "_")), method]),
        auth=[{name: []} for name in auth],  # type: ignore[misc]  # requirements, and not names
        parameters=parameters,
        request=body,
        responses=responses,
        deprecated=deprecated,
        tags=[pattern.partition("/")[0]],
    )
    endpoint: Any = lambda *_, **__: None  # noqa: E731 - it gets attributes
    endpoint.schema = AutoSchema  # not that of the settings, which may be another package's
    members = {method: describe(endpoint), "schema": AutoSchema(), "versioning_class": None}
    view: type[APIView] = type("Endpoint", (APIView,), members)
    return path(pattern, view.as_view())
