"""Apps in Django's admin."""

import pytest
from django.contrib.admin.models import LogEntry

from realtime.models import Application
from tests.admin.conftest import texts

pytestmark = pytest.mark.django_db(transaction=True)


APPS = "/admin/realtime/application/"
NEW = {"name": "Shop", "app_id": "9", "key": "key-9", "enabled": "on", "allowed_origins": "[]"}


def test_the_secret_of_an_app_is_shown_once(as_root):
    response = as_root.post(f"{APPS}add/", NEW, follow=True)

    app = Application.objects.get()
    assert any(app.secret in text for text in texts(response))
    changed = as_root.post(f"{APPS}{app.pk}/change/", {**NEW, "name": "Store"}, follow=True)
    pages = [as_root.get(path).content.decode() for path in (APPS, f"{APPS}{app.pk}/change/")]
    assert app.secret not in "".join([*texts(changed), *pages])


def test_the_credentials_of_an_app_stay(as_root):
    app = Application.objects.create(name="Shop", app_id="9", key="key-9")

    as_root.post(f"{APPS}{app.pk}/change/", {**NEW, "app_id": "10", "key": "k", "name": "Store"})

    app.refresh_from_db()
    assert (app.name, app.app_id, app.key) == ("Store", "9", "key-9")


def test_an_app_that_no_library_accepts_is_refused(as_root):
    response = as_root.post(f"{APPS}add/", {**NEW, "app_id": "shop", "allowed_origins": "{}"})

    errors = response.context["adminform"].form.errors
    assert set(errors) == {"app_id", "allowed_origins"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"app_id": "3"},
        {"key": "278d425bdf160c739803"},
        {"key": "a b:/"},
        {"app_id": "x1"},
        {"allowed_origins": '["example.com"]'},
        {"allowed_origins": '["https://"]'},
        {"allowed_origins": '["http://[x"]'},
        {"allowed_origins": "7"},
    ],
    ids=str,
)
def test_an_app_that_could_never_work_is_not_saved(as_root, wrong):
    form = {"name": "Shop", "app_id": "7", "key": "k7", "enabled": "on", "allowed_origins": "[]"}

    response = as_root.post("/admin/realtime/application/add/", form | wrong)

    assert response.status_code == 200
    assert not Application.objects.exists()


def test_a_row_whose_id_the_settings_took_later_can_still_be_opened(as_root):
    row = Application.objects.create(name="Shop", app_id="3", key="k7")
    form = {"name": "Shop", "enabled": "on", "allowed_origins": "[]"}

    response = as_root.post(f"/admin/realtime/application/{row.pk}/change/", form)

    assert response.status_code == 200
    assert "The settings have an app with this id or key." in response.content.decode()


# ---- keys -------------------------------------------------------------------------------

MASTER = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="


@pytest.fixture
def shop(db):
    return Application.objects.create(
        name="Shop", app_id="9", key="key-9", secret="secret-9", encryption_master_key=MASTER
    )


def act(client, action, app, **more):
    data = {"action": f"{action}_selected", "_selected_action": [app.pk], **more}
    return client.post(APPS, data, follow=True)


@pytest.mark.parametrize("action", ["rotate", "retire"])
def test_a_key_is_not_touched_before_that_is_confirmed(as_root, shop, action):
    page = act(as_root, action, shop).content.decode()

    assert "Shop (9)" in page
    shop.refresh_from_db()
    assert (shop.key, shop.old_key) == ("key-9", "")


def test_the_secret_of_a_rotated_key_is_shown_once(as_root, shop):
    response = act(as_root, "rotate", shop, confirmed="yes")

    shop.refresh_from_db()
    assert (shop.old_key, shop.old_secret) == ("key-9", "secret-9")
    [text] = texts(response)
    assert shop.key in text
    assert shop.secret in text
    pages = [as_root.get(path).content.decode() for path in (APPS, f"{APPS}{shop.pk}/change/")]
    assert not any(secret in page for page in pages for secret in (shop.secret, "secret-9"))
    assert shop.old_key in pages[1]
    assert LogEntry.objects.get().change_message == "Key rotated."


def test_an_old_key_is_retired(as_root, shop):
    act(as_root, "rotate", shop, confirmed="yes")

    assert texts(act(as_root, "retire", shop, confirmed="yes")) == ["1 old key retired."]
    assert texts(act(as_root, "retire", shop, confirmed="yes")) == ["0 old keys retired."]

    shop.refresh_from_db()
    assert (shop.old_key, shop.old_secret) == ("", "")
    assert shop.key != "key-9"


def test_keys_need_the_permission_to_change_apps(as_staff, shop):
    client = as_staff("add_application")

    act(client, "rotate", shop, confirmed="yes")

    shop.refresh_from_db()
    assert shop.key == "key-9"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, MASTER),
        ({"encryption_master_key": "A" * 43 + "="}, "A" * 43 + "="),
        ({"forget_master_key": "on"}, ""),
    ],
    ids=["nothing", "another", "none"],
)
def test_the_master_key_goes_in_and_never_comes_out(as_root, shop, given, kept):
    path = f"{APPS}{shop.pk}/change/"

    response = as_root.post(path, {**NEW, "limits": "{}", **given}, follow=True)

    shop.refresh_from_db()
    assert shop.encryption_master_key == kept
    pages = response.content.decode() + as_root.get(path).content.decode()
    assert not kept or kept not in pages


def test_a_master_key_that_is_none_is_refused_and_not_shown(as_root, shop):
    form = {**NEW, "limits": "{}", "encryption_master_key": "too-short-to-be-one"}

    page = as_root.post(f"{APPS}{shop.pk}/change/", form).content.decode()

    assert "errorlist" in page
    assert "too-short-to-be-one" not in page
    shop.refresh_from_db()
    assert shop.encryption_master_key == MASTER
