"""How answers are written as JSON."""

from rest_framework.renderers import JSONRenderer


class EscapingJSONRenderer(JSONRenderer):
    """Escapes whatever is not ASCII: what clients and back ends send may hold half of a
    surrogate pair, which UTF-8 cannot carry and DRF's own renderer fails on with a 500.
    """

    ensure_ascii = True
