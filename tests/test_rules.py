"""Who may join which private or presence channel."""

import uuid

import pytest
from django.core.exceptions import ImproperlyConfigured

from realtime.rules import channel_rule, decide, registered


@channel_rule("private-rules-number-{pk:int}")
def number(user, pk):
    return {"is": pk}


@channel_rule("private-rules-word-{word}")
def word(user, word):
    return {"is": word}


@channel_rule("presence-rules-{kind:slug}.{key:uuid}")
def two_parts(user, kind, key):
    return {"is": [kind, key]}


@channel_rule("private-rules-dots.{part}")
def dots(user, part):
    return True


@channel_rule("private-rules-first-{part}")
def first(user, part):
    return part == "yes"


@channel_rule("private-rules-first-no")
def second(user):
    raise AssertionError("only the first rule that matches decides")


@channel_rule("private-rules-async-{part}")
async def asynchronous(user, part):
    return {"user": user, "is": part}


ANSWERS = {"true": True, "false": False, "none": None, "dict": {"user_id": "x"}, "odd": "yes"}


@channel_rule("private-rules-answer-{name}")
def answer(user, name):
    return ANSWERS[name]


UUID = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("channel", "decision"),
    [
        ("private-rules-number-12", {"is": 12}),
        ("private-rules-number-x", False),
        ("private-rules-number-12x", False),
        ("private-rules-word-a-b", {"is": "a-b"}),
        ("private-rules-word-", False),
        ("private-rules-word-a\n", {"is": "a\n"}),
        (f"presence-rules-a-b.{UUID}", {"is": ["a-b", UUID]}),
        ("presence-rules-a-b.x", False),
        ("private-rules-dots.a", True),
        ("private-rules-dotsxa", False),
        ("private-rules-unknown", False),
        ("private-rules-first-yes", True),
        ("private-rules-first-no", False),
        ("private-rules-async-a", {"user": "ann", "is": "a"}),
        ("private-rules-answer-true", True),
        ("private-rules-answer-false", False),
        ("private-rules-answer-none", None),
        ("private-rules-answer-dict", {"user_id": "x"}),
    ],
)
def test_the_first_rule_that_matches_decides(channel, decision):
    assert decide("ann", channel) == decision


def test_an_answer_that_is_none_is_an_error():
    with pytest.raises(TypeError, match=r"-answer-\{name\}' must answer True"):
        decide("ann", "private-rules-answer-odd")


def test_a_part_the_converter_refuses_does_not_match():
    from django.urls.converters import get_converters, register_converter

    class Even:
        regex = "[0-9]+"

        def to_python(self, value):
            if int(value) % 2:
                raise ValueError
            return int(value)

        def to_url(self, value):
            return str(value)

    if "even" not in get_converters():
        register_converter(Even, "even")
    channel_rule("private-rules-even-{n:even}")(lambda user, n: True)

    assert decide("ann", "private-rules-even-4") is True
    assert decide("ann", "private-rules-even-5") is False


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("room", "must start with 'private-' or 'presence-'"),
        ("#server-to-user-{id}", "must start with"),
        ("private-{a:what}", "unknown converter 'what'"),
        ("private-{a}-{a}", "uses 'a' twice"),
        ("private-{a", "unreadable part"),
        ("private-{A}", "unreadable part"),
        ("private-a}", "unreadable part"),
        ("private-{}-{a}", "unreadable part"),
        ("private-{A}-{a}", "unreadable part"),
        ("private-a}-{a}", "unreadable part"),
    ],
)
def test_a_pattern_that_cannot_work_is_refused(pattern, complaint):
    with pytest.raises(ImproperlyConfigured, match=complaint):
        channel_rule(pattern)


def test_a_rule_stays_an_ordinary_function():
    assert number(None, 5) == {"is": 5}


def test_the_rules_of_the_site_are_found():
    assert "presence-room-business" in {rule.pattern for rule in registered()}


def test_the_list_of_rules_is_a_copy():
    registered().clear()

    assert registered()
