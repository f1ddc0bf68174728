"""Who may read the description of the HTTP endpoints."""

import builtins
import os
import re
import subprocess
import sys

import pytest
from django.contrib.staticfiles import finders
from django.test import Client

DOCUMENT, PAGE = "/realtime/openapi.json", "/realtime/docs"
BOTH = pytest.mark.parametrize("url", [DOCUMENT, PAGE])


@pytest.fixture
def visit(db):
    """The status of an address for somebody who is not logged in, or for a browser."""
    return lambda url, client=None: (client or Client()).get(url).status_code


@BOTH
def test_it_is_there_with_debug_alone(visit, settings, url):
    assert visit(url) == 404

    settings.DEBUG = True

    assert visit(url) == 200


@BOTH
@pytest.mark.parametrize(("readers", "status"), [("", 404), ("staff", 403), ("public", 200)])
def test_the_setting_says_who_may(visit, settings, configure, url, readers, status):
    settings.DEBUG = True
    configure(API_DOCS=readers)

    assert visit(url) == status


@BOTH
def test_staff_may_where_the_setting_says_so(visit, configure, as_staff, as_ann, url):
    configure(API_DOCS="staff")

    assert visit(url, as_staff()) == 200
    assert visit(url, as_ann) == 403


@BOTH
def test_without_the_package_it_is_not_there(visit, configure, monkeypatch, url):
    configure(API_DOCS="public")
    real_import = builtins.__import__

    def without(name, globals=None, locals=None, fromlist=(), level=0):
        if "openapi" in (fromlist or ()):
            raise ModuleNotFoundError("No module named 'drf_spectacular'")
        return real_import(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without)

    assert visit(url) == 404


def test_nothing_is_imported_before_somebody_reads_it(modules):
    assert not modules & {"drf_spectacular", "prometheus_client", "websockets"}


@pytest.fixture
def modules():
    """What is loaded once the site has its URLs."""
    script = (
        "import django, sys; django.setup(); import realtime.urls, realtime.asgi, realtime.checks;"
        " print(*{name.partition('.')[0] for name in sys.modules})"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    loaded = subprocess.check_output([sys.executable, "-c", script], text=True, env=environment)
    return set(loaded.split())


def test_the_page_lists_every_operation_of_the_document(db, configure):
    configure(API_DOCS="public")

    document = Client().get(DOCUMENT).json()
    page = Client().get(PAGE).content.decode()

    listed = re.findall(r"<span>(GET|POST|PATCH|DELETE)</span> (\S+)</h2>", page)
    assert sorted(listed) == sorted(
        (method.upper(), path) for path, item in document["paths"].items() for method in item
    )
    assert "auth_signature" in page


def test_the_page_needs_no_script_and_nothing_from_elsewhere(db, configure):
    configure(API_DOCS="public")

    page = Client().get(PAGE).content.decode()

    assert not re.search(r"<script|<style|style=|https?://", page)


def test_below_a_prefix_the_document_names_it(db, configure):
    configure(API_DOCS="public")

    document = Client().get("/mounted/realtime/openapi.json").json()

    assert document["servers"] == [{"url": "/mounted"}]


def test_the_page_shows_code_as_code_and_has_its_style(client, db, configure):
    configure(API_DOCS="public")

    page = client.get(PAGE).content.decode()

    assert "<code>auth_signature</code>" in page
    assert "`" not in page[page.index("<h2>Authentication") : page.index("<nav>")]
    assert finders.find("realtime/docs.css")
    assert "realtime/docs.css" in page
    anchors, targets = re.findall(r'href="#(\w+)"', page), re.findall(r'<h2 id="(\w+)"', page)
    assert anchors == targets
    assert len(set(targets)) == len(targets) > 15
