"""Apps as rows."""

import pytest
from django.core.exceptions import ValidationError

from realtime.models import Application

pytestmark = pytest.mark.django_db


def test_an_app_gets_credentials_nobody_can_guess():
    first, second = (Application.objects.create(app_id=number, name="App") for number in "12")

    assert len({first.key, second.key, first.secret, second.secret}) == 4
    assert len(first.secret) == 64
    assert str(first) == "App (1)"


@pytest.mark.parametrize("app_id", ["x", "1\n", "", "٣"])
def test_an_app_id_is_a_number(app_id):
    with pytest.raises(ValidationError) as caught:
        Application(app_id=app_id, name="App").full_clean()

    assert set(caught.value.message_dict) == {"app_id"}


@pytest.mark.parametrize("origins", ["https://example.com", [5], {"a": 1}])
def test_origins_are_a_list_of_texts(origins):
    with pytest.raises(ValidationError) as caught:
        Application(app_id="1", name="App", allowed_origins=origins).full_clean()

    assert set(caught.value.message_dict) == {"allowed_origins"}


def test_an_app_that_is_right_can_be_saved():
    Application(app_id="1", name="App", allowed_origins=["https://example.com"]).full_clean()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("limits", {"PRESENCE_MEMBERS": 0}),
        ("limits", {"NOTHING": 1}),
        ("limits", [1]),
        ("encryption_master_key", "c2hvcnQ="),
        ("encryption_master_key", "no base64"),
    ],
)
def test_what_the_settings_would_refuse_is_refused(field, value):
    with pytest.raises(ValidationError) as caught:
        Application(app_id="1", name="App", **{field: value}).full_clean()

    assert set(caught.value.message_dict) == {field}


def test_keys_are_rotated_and_retired():
    app = Application(key="a", secret="b")
    app.rotate()

    assert (app.old_key, app.old_secret) == ("a", "b")
    assert len({"a", "b", app.key, app.secret}) == 4

    app.retire()

    assert (app.old_key, app.old_secret) == ("", "")


@pytest.mark.parametrize(
    "changes",
    [
        {"old_key": "alone"},
        {"old_secret": "alone"},
        {"old_key": "taken", "old_secret": "x"},
        {"old_key": "278d425bdf160c739803", "old_secret": "x"},  # of the settings
        {"key": "taken-before"},
    ],
)
def test_a_key_belongs_to_one_app(changes):
    Application.objects.create(
        app_id="1", name="First", key="taken", old_key="taken-before", old_secret="y"
    )

    with pytest.raises(ValidationError):
        Application(app_id="2", name="Second", **changes).full_clean()


def test_an_app_may_be_saved_again():
    app = Application.objects.create(app_id="1", name="First", old_key="o", old_secret="p")

    app.full_clean()
