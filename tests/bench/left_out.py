"""Why a contestant is missing."""


class LeftOut(Exception):
    """Something that a contestant needs is not on this machine; the others run without it."""
