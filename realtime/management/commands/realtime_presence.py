"""``manage.py realtime_presence``: do the rows say what the processes really hold?"""

import json
import sys
import time
import uuid
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from realtime import conf
from realtime.models import Server
from realtime.presence import audit

ANSWER_SECONDS: Final = 5.0
"""Ours: how long a process may take to compare, once it has seen that it is asked."""

POLL_SECONDS: Final = 0.1

CLEAN, DIFFERENT, UNANSWERED = range(3)
"""Exit codes."""

Report = dict[str, Any]


class Command(BaseCommand):
    """Asks every server process, waits for the answers, and looks at what none of them sees."""

    help = (
        "Compare presence and occupancy in the database with what the server processes hold."
        " Exit code: 0 no difference, 1 differences, 2 a process did not answer."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--verify", action="store_true", help="only compare (the default)")
        what.add_argument("--repair", action="store_true", help="also mend what differs")
        parser.add_argument("--json", action="store_true", help="print one JSON document")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run; exits by itself where the code is not 0."""
        report = examine(repair=options["repair"])
        rounds = [report]
        if options["repair"] and exit_code(report) == DIFFERENT:
            if not report["processes"]:
                audit.mend_alone(conf.get().lease_seconds)
            rounds.append(examine(repair=False))
        if options["json"]:
            keys = ("found", "left")
            self.stdout.write(json.dumps(dict(zip(keys, rounds, strict=False)), indent=2))
        else:
            for heading, found in zip(("Found", "Left after the repair"), rounds, strict=False):
                self.stdout.write("\n".join([f"{heading}:", *lines(found), ""]))
        code = exit_code(rounds[-1])
        if code:
            sys.exit(code)


def examine(*, repair: bool) -> Report:
    """What differs: ``processes`` by name, ``unanswered`` names, and ``strays``."""
    strays = audit.strays(conf.get().lease_seconds)
    answered, silent = _question(repair=repair)
    return {"processes": answered, "unanswered": silent, "strays": strays}


def exit_code(report: Report) -> int:
    """The exit code that says what *report* says."""
    if report["unanswered"]:
        return UNANSWERED
    found = any(any(answer["totals"].values()) for answer in report["processes"].values())
    return DIFFERENT if found or any(report["strays"].values()) else CLEAN


def lines(report: Report) -> list[str]:
    """*report* for people."""
    text = [f"  {'process':<40} missing surplus counts mended"]
    for name, answer in report["processes"].items():
        totals = answer["totals"]
        text.append(
            f"  {name:<40} {totals['missing']:>7} {totals['surplus']:>7}"
            f" {totals['counts']:>6} {answer['mended']:>6}"
        )
        for kind in ("missing", "surplus", "counts"):
            text += [f"    {kind}: {_joined(item)}" for item in answer[kind]]
            if totals[kind] > len(answer[kind]):
                text.append(f"    {kind}: and {totals[kind] - len(answer[kind])} more")
    text += [f"  {name:<40} did not answer" for name in report["unanswered"]]
    for kind, items in report["strays"].items():
        text += [f"  {kind}: {_joined(item)}" for item in items]
    text.append(f"  {('no difference', 'differences', 'incomplete')[exit_code(report)]}")
    return text


def _joined(item: list[Any]) -> str:
    # Names may hold what a terminal would obey.
    return " ".join(ascii(part) for part in item)


def _question(*, repair: bool) -> tuple[dict[str, Report], list[str]]:
    """The answers by process, and who gave none; who starts meanwhile is asked as well."""
    request = uuid.uuid4().hex
    answered: dict[str, Report] = {}
    patience = conf.get().lease_seconds * 2 / 3 + ANSWER_SECONDS
    give_up_at = time.monotonic() + patience
    while True:
        waiting, unasked = {}, []
        for server in Server.objects.alive():
            given = server.audit or {}
            if given.get("request") != request:
                unasked.append(server.pk)
            elif server.audited_at is not None:
                answered[f"{server.name} {server.pk.hex[:8]}"] = given
                continue
            waiting[server.pk] = f"{server.name} {server.pk.hex[:8]}"
        missing = sorted(name for name in waiting.values() if name not in answered)
        if not missing or time.monotonic() > give_up_at:
            return answered, missing
        audit.ask((pk for pk in unasked if waiting[pk] not in answered), request, repair=repair)
        time.sleep(POLL_SECONDS)
