"""The documentation names what exists, all of it, and nothing else."""

import ast
import dataclasses
import inspect
import re
import textwrap
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import global_settings

import realtime
from realtime import checks, conf, consumer, layer_checks, metrics, prometheus, signals, urls
from realtime.api import moderation_views
from realtime.protocol import connection, errors
from realtime.protocol.app import Limits
from tests.chaos import scanners

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        *sorted(DOCS.rglob("*.md")),
    ]
    if "_build" not in path.parts
}
MEASURED = "docs/explanation/reliability.md"
"""Written by a run, and full of numbers."""

every_page = pytest.mark.parametrize("name", PAGES)

FENCE = re.compile(r"^( *)```([\w+]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TARGET = re.compile(r"^\(([\w-]+)\)=$", re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
NUMBER = re.compile(r"(?<![\d–-])\b([14][0-4]\d\d)\b(?![–-]\d)")
"""A close code or something like it; not the ends of a range."""

OTHER_NAMES = {
    # Settings and variables of other packages, and keys inside settings.
    *("ASGI_APPLICATION", "BACKEND", "CHANNEL_LAYERS", "CONFIG", "REALTIME", "WEB_CONCURRENCY"),
    *("ID", "KEY", "SECRET"),
    # Methods of HTTP.
    *("DELETE", "GET", "PATCH"),
    # Words that are no setting.
    *("EVAL", "INFO", "SIGINT", "SIGTERM", "SOURCE", "SUBSCRIBE"),
}
"""Upper-case names in code spans that neither Django nor this project defines."""

APP_IDS = {1001, 1002}
"""Of the examples: four digits, but no error codes."""


def reference(name):
    return PAGES[f"docs/reference/{name}.md"]


def prose(text):
    return FENCE.sub("", text)


def fences(text, language):
    return [textwrap.dedent(body) for _, found, body in FENCE.findall(text) if found == language]


def rows(text):
    """The cells of every table row, without header and rule."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in cells if not set(row[0]) <= set("- ")]


def section(text, title):
    """What stands below the heading *title*, up to the next one of the same level."""
    level = re.escape(title.split()[0])
    found = re.search(rf"^{re.escape(title)}\n(.*?)(?=^{level} |\Z)", text, re.M | re.S)
    assert found, f"no section {title}"
    return found[1]


def first_codes(text):
    """The code in the first cell of each row that has one there, with the other cells."""
    found = [(CODE.fullmatch(row[0]), row[1:]) for row in rows(text)]
    return {match[1]: rest for match, rest in found if match}


def heading_codes(text):
    return {match[1] for title in HEADING.findall(text) if (match := CODE.fullmatch(title))}


def subclasses(base):
    for child in base.__subclasses__():
        yield child
        yield from subclasses(child)


def default_of(field):
    return field.default_factory() if field.default is dataclasses.MISSING else field.default


@pytest.mark.parametrize(
    ("title", "described"), [("## `REALTIME`", conf.Settings), ("## `LIMITS`", Limits)]
)
def test_every_setting_is_listed_with_its_default(title, described):
    listed = first_codes(section(reference("settings"), title))

    assert {key: cells[0] for key, cells in listed.items()} == {
        field.name.upper(): f"`{default_of(field)!r}`" for field in dataclasses.fields(described)
    }


def test_every_counter_is_listed_with_its_label_and_meaning():
    described = {
        f"realtime_{name}_total": [
            f"`{counter.label}`: " + ", ".join(f"`{value}`" for value in counter.values)
            if counter.label
            else "",
            counter.meaning,
        ]
        for name, counter in metrics.COUNTERS.items()
    }
    listed = first_codes(reference("metrics").partition("## In the text format")[0])

    assert listed == described


def test_every_metric_that_is_no_plain_counter_is_listed_with_its_meaning():
    listed = first_codes(section(reference("metrics"), "## In the text format of Prometheus"))

    assert listed == {
        **{
            name: ["gauge, per app" if gauge.per_app else "gauge", gauge.meaning]
            for name, gauge in prometheus.GAUGES.items()
        },
        prometheus.DELIVERED: ["counter, per app", prometheus.DELIVERED_MEANING],
        prometheus.FAN_OUT: ["histogram", prometheus.FAN_OUT_MEANING],
    }


def exposed_metrics():
    counters = {*metrics.snapshot(), prometheus.DELIVERED}
    histogram = {f"{prometheus.FAN_OUT}{end}" for end in ("", "_bucket", "_count", "_sum")}
    return counters | histogram | set(prometheus.GAUGES)


def test_every_reason_for_4100_is_listed_with_what_to_do():
    listed = first_codes(section(reference("metrics"), "## Reasons for 4100"))

    assert set(listed) - {"reason"} == set(metrics.COUNTERS["over_capacity"].values)
    assert all(all(cells) for cells in listed.values())


@every_page
def test_no_page_names_a_counter_that_does_not_exist(name):
    named = set(re.findall(r"\brealtime_\w+_(?:total|seconds\w*)\b", PAGES[name]))

    assert named <= exposed_metrics()


def known_upper_case_names():
    environment = re.compile(r"\b[A-Z][A-Z_]{3,}\b")
    sources = ["project/settings.py", "Makefile", "scripts/serve"]
    return {
        *OTHER_NAMES,
        *dir(global_settings),
        *(field.name.upper() for field in dataclasses.fields(conf.Settings)),
        *(field.name.upper() for field in dataclasses.fields(Limits)),
        *(name.upper() for name in ("old_key", "old_secret", "url", "kinds", "channel_prefixes")),
        *(found for name in sources for found in environment.findall((ROOT / name).read_text())),
    }


@every_page
def test_no_page_names_a_setting_that_does_not_exist(name):
    named = {
        word
        for code in CODE.findall(prose(PAGES[name]))
        for word in re.findall(r"(?<![\w{/])[A-Z][A-Z_]+[A-Z](?![\w}])", code)
        if not code.startswith(("GET ", "POST ", "/"))
    }

    assert named <= known_upper_case_names()


def test_every_variable_of_the_reference_site_is_listed():
    listed = first_codes(section(reference("settings"), "## Environment of the reference site"))
    source = (ROOT / "project/settings.py").read_text()
    read = set(re.findall(r"""(?:environ\.get|_switch|_listed)\(\s*"([A-Z_]+)\"""", source))
    required = set(re.findall(r"^    ([A-Z_]+)=", source, re.MULTILINE))

    assert set(listed) == read | required


@every_page
def test_python_examples_can_be_read_and_settings_in_them_are_valid(name):
    for example in fences(PAGES[name], "python"):
        tree = ast.parse(example)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "REALTIME":
                assert conf.read(ast.literal_eval(node.value)).configured_apps()


def error_codes():
    numbers = {error.code for error in subclasses(errors.ProtocolError)}
    numbers |= scanners.produced_codes(map(inspect.getsource, (connection, consumer)))
    return numbers - {None}


def refusals():
    kinds = [errors.SubscriptionRefused, *subclasses(errors.SubscriptionRefused)]
    return {kind.type: str(kind.status) for kind in kinds}


def test_every_error_code_is_listed_with_what_to_do():
    listed = [row for row in rows(reference("error-codes")) if re.fullmatch(r"\d{4}", row[0])]

    assert {int(row[0]) for row in listed if len(row) > 3 and all(row)} == error_codes()


@pytest.mark.parametrize("error", list(subclasses(errors.Fatal)), ids=lambda error: error.__name__)
def test_every_close_code_is_listed_with_its_message(error):
    listed = {row[0]: row[1] for row in rows(reference("error-codes")) if len(row) == 5}

    assert error.text in listed[str(error.code)]


def test_every_kind_of_refused_subscription_is_listed():
    listed = first_codes(section(reference("error-codes"), "## Refused subscriptions"))

    assert {kind: cells[0] for kind, cells in listed.items()} == refusals()


@pytest.mark.parametrize("name", sorted(PAGES.keys() - {MEASURED}))
def test_no_page_names_a_code_that_does_not_exist(name):
    named = {int(number) for number in NUMBER.findall(prose(PAGES[name]))}
    limits = set(dataclasses.asdict(Limits()).values())
    statuses = {int(status) for status in refusals().values()}

    assert named <= error_codes() | statuses | limits | APP_IDS | {1000}


def check_ids(text):
    return set(re.findall(r"\brealtime\.[EWICD]\d{3}\b", text))


def test_every_check_has_a_section():
    source = inspect.getsource(checks) + inspect.getsource(layer_checks)

    assert {id for id in HEADING.findall(reference("checks")) if "." in id} == {
        *re.findall(r'id="(realtime\.[EW]\d{3})"', source)
    }


@every_page
def test_no_page_names_a_check_that_does_not_exist(name):
    assert check_ids(PAGES[name]) <= check_ids(inspect.getsource(checks))


def test_every_public_name_has_a_section():
    assert heading_codes(reference("python-api")) == set(realtime.__all__)


def test_signatures_are_those_of_the_code():
    for example in fences(reference("python-api"), "python"):
        for node in ast.parse(example).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                shown = ast.unparse(node.args)
                actual = inspect.signature(getattr(realtime, node.name))
                plain = actual.replace(
                    parameters=[
                        parameter.replace(annotation=inspect.Parameter.empty)
                        for parameter in actual.parameters.values()
                    ],
                    return_annotation=inspect.Signature.empty,
                )
                assert f"({shown})" == str(plain), node.name


def test_every_signal_is_listed_with_its_arguments():
    listed = first_codes(reference("signals"))
    described = {
        kind: {"app_id", *(set() if kind.startswith("user_") else {"channel"})}
        for kind in signals.BY_KIND
    }
    described["client_event"] |= {"event", "data", "socket_id", "user_id"}
    described["subscription_count"] |= {"subscription_count"}
    for kind in ("member_added", "member_removed", "user_online", "user_offline"):
        described[kind] |= {"user_id"}

    assert {name: set(CODE.findall(cells[0])) for name, cells in listed.items()} == described


def permissions():
    """Those that views ask for and those that the models bring."""
    views = vars(moderation_views).values()
    asked = {getattr(view, "permission", None) for view in views} - {None}
    own = {
        f"realtime.{codename}"
        for model in apps.get_app_config("realtime").get_models()
        for codename, _ in model._meta.permissions
    }
    return asked | own


def test_every_permission_is_listed():
    assert set(first_codes(reference("permissions"))) == permissions()


@every_page
def test_no_page_names_a_permission_that_does_not_exist(name):
    models = apps.get_app_config("realtime").get_models()
    ordinary = {
        f"realtime.{action}_{model._meta.model_name}"
        for model in models
        for action in model._meta.default_permissions
    }
    rows = r"realtimeuser|occupancy|membership|server|webhook\w+"
    named = set(re.findall(rf"\brealtime\.(?:\w+)_(?:{rows})\b", PAGES[name]))

    assert named <= permissions() | ordinary


def test_every_url_is_listed():
    routes = {str(pattern.pattern) for pattern in urls.urlpatterns} - {r"^apps/.*\Z"}
    paths = {"/" + re.sub(r"<(?:str|path|int):(\w+)>", r"{\1}", route) for route in routes}
    named = set(re.findall(r"/[\w{}/.-]+[\w}]", reference("http-api")))

    assert paths <= named


def test_no_heading_names_a_url_that_does_not_exist():
    routes = {
        "/" + re.sub(r"<(?:str|path|int):(\w+)>", r"{\1}", str(p.pattern)) for p in urls.urlpatterns
    }
    named = re.findall(
        r"^### (?:GET|POST|PATCH|DELETE) (\S+)$", reference("http-api"), re.MULTILINE
    )

    assert named
    assert set(named) <= routes


def test_every_model_and_field_is_listed():
    described = {
        title: set(first_codes(section(reference("models"), f"## `{title}`")))
        for title in heading_codes(reference("models"))
    }

    assert described == {
        model.__name__: {field.name for field in model._meta.get_fields() if field.concrete}
        for model in apps.get_app_config("realtime").get_models()
    }


def test_every_make_target_is_listed():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE)
    listed = first_codes(section(reference("commands"), "## make"))

    assert set(listed) == {f"make {target}" for target in targets}


def test_every_management_command_is_listed():
    files = [
        path
        for package in ("realtime", "project")
        for path in (ROOT / package).glob("**/management/commands/[!_]*.py")
    ]
    headings = ("## manage.py, of the app", "## manage.py, in the reference site")
    tables = [section(reference("commands"), heading) for heading in headings]
    listed = {code for table in tables for code in first_codes(table) if " " in code}

    assert listed == {f"manage.py {path.stem}" for path in files}


@every_page
def test_no_page_names_a_make_target_that_does_not_exist(name):
    makefile = (ROOT / "Makefile").read_text()
    named = re.findall(r"`make ([a-z0-9-]+)`", PAGES[name])

    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


def anchors(text):
    """Explicit targets, and the names that headings get."""
    text = FENCE.sub("", text)
    titles = [re.sub(r"[^\w\- ]", "", title.lower()) for title in HEADING.findall(text)]
    explicit = TARGET.findall(text)
    return {*explicit, *(title.strip().replace(" ", "-") for title in titles)}


@every_page
def test_internal_links_lead_somewhere(name):
    for link in LINK.findall(FENCE.sub("", PAGES[name])):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text()), link


def test_every_page_is_reached_from_the_index():
    listed = set()
    for index in (DOCS / "index.md", DOCS / "adr" / "index.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", index.read_text(), re.DOTALL):
            for line in tree.split():
                listed |= set(index.parent.glob(f"{line}.md"))

    assert {DOCS / "index.md", *listed} == {ROOT / name for name in PAGES if "docs/" in name}


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) < 120


@pytest.mark.parametrize("name", [name for name in PAGES if "/adr/0" in name])
def test_a_decision_has_its_four_parts_on_one_page(name):
    parts = ["Context", "Decision", "Consequences", "What would change our mind"]

    assert HEADING.findall(PAGES[name])[1:] == parts
    assert len(PAGES[name].splitlines()) < 60
