"""Who may join which private or presence channel: the rules of the site.

A Django app declares them in its module ``channel_rules``, which is found as admin modules
are.  What no rule allows is refused.

    from realtime import channel_rule

    @channel_rule("private-order-{pk:int}")
    def owns_order(user, pk):
        return Order.objects.filter(pk=pk, customer=user).exists()
"""

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from django.urls.converters import get_converters

from realtime.protocol.names import kind_of

Answer = bool | None | Mapping[str, Any]
"""No, yes, or yes with the member's data."""

Rule = TypeVar("Rule", bound=Callable[..., Any])

_PART: Final = re.compile(r"\{(?P<name>[a-z_][a-z0-9_]*)(?::(?P<converter>[a-z_]+))?\}")


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """One pattern and the function that decides."""

    pattern: str
    regex: re.Pattern[str]
    converters: Mapping[str, Any]  # Any: Django's converters share no base class
    decide: Callable[..., Any]

    def match(self, channel: str) -> dict[str, Any] | None:
        """The parsed parts of *channel*, or ``None`` if it is not of this pattern."""
        found = self.regex.fullmatch(channel)
        if found is None:
            return None
        try:
            return {
                name: self.converters[name].to_python(text)
                for name, text in found.groupdict().items()
            }
        except ValueError:
            return None


_rules: list[ChannelRule] = []


def channel_rule(pattern: str) -> Callable[[Rule], Rule]:
    """Register the decorated function for the channels of *pattern*.

    ``{name}`` stands for any text without ``/`` and ``{name:int}`` for what Django's path
    converter of that name takes.  The first pattern that matches decides alone, in the
    order of ``INSTALLED_APPS`` and of the module.

    The function gets the Django user, who is logged in, and the parts by name.  It may be
    a coroutine function, and answers

    * ``True``: yes.  On a presence channel the signed-in user of the connection is shown.
    * a dictionary: yes, and this is the member's data, ``{"user_id": …, "user_info": {…}}``;
      without ``user_id`` that of the user's sign-in is used.
    * ``False`` or ``None``: no.

    Raises:
        ImproperlyConfigured: *pattern* is no pattern of private or presence channels.
    """
    regex, converters = _compile(pattern)

    def register(decide: Rule) -> Rule:
        _rules.append(ChannelRule(pattern, regex, converters, decide))
        return decide

    return register


def decide(user: Any, channel: str) -> Answer:  # Any: the site's own user model
    """What the rules of the site say to *user* about *channel*; without a rule, no."""
    for rule in _rules:
        parts = rule.match(channel)
        if parts is None:
            continue
        call = rule.decide
        if inspect.iscoroutinefunction(call):
            call = async_to_sync(call)
        answer = call(user, **parts)
        if answer is None or isinstance(answer, bool | Mapping):
            return answer
        raise TypeError(
            f"the channel rule {rule.pattern!r} must answer True, False, None or a dictionary,"
            f" not {type(answer).__name__}"
        )
    return False


def registered() -> list[ChannelRule]:
    """All rules, in the order in which they are asked."""
    return list(_rules)


def _compile(pattern: str) -> tuple[re.Pattern[str], dict[str, Any]]:
    if not kind_of(pattern).needs_auth:
        raise ImproperlyConfigured(
            f"the channel rule {pattern!r} must start with 'private-' or 'presence-':"
            " anybody may join other channels"
        )
    known = get_converters()
    parts, converters, at = [], {}, 0
    for found in _PART.finditer(pattern):
        name, converter = found["name"], found["converter"] or "str"
        if converter not in known:
            raise ImproperlyConfigured(
                f"the channel rule {pattern!r} uses an unknown converter {converter!r}"
            )
        if name in converters:
            raise ImproperlyConfigured(f"the channel rule {pattern!r} uses {name!r} twice")
        converters[name] = known[converter]
        parts += [re.escape(pattern[at : found.start()])]
        parts += [f"(?P<{name}>{known[converter].regex})"]
        at = found.end()
    if set("{}") & set(_PART.sub("", pattern)):
        raise ImproperlyConfigured(f"the channel rule {pattern!r} has an unreadable part")
    return re.compile("".join([*parts, re.escape(pattern[at:])])), converters
