"""The compliance table says what the markers say."""

import pytest

from tests import compliance

CHECKLIST = {
    "channels": {"title": "Channels", "lines": {"1": "One.", "2": "Two.", "3": "Three."}},
    "open": {"2": "cache channels"},
    "partly": {},
    "argued": {"3": "Nobody can see it."},
}


@pytest.fixture
def markers(tmp_path):
    """Reads the markers of one test file."""

    def read(source):
        (tmp_path / "test_it.py").write_text(f"import pytest\n{source}")
        return compliance.read_markers(tmp_path)

    return read


@pytest.fixture(scope="module")
def written():
    return compliance.load(), compliance.read_markers(compliance.TESTS)


def test_the_page_is_up_to_date(written):
    page = compliance.render(compliance.read_checklist(*written))

    assert compliance.PAGE.read_text() == page, "run python -m tests.compliance --write"


def test_every_line_has_its_tests_or_its_reason(written):
    assert compliance.complaints(*written) == []


def test_the_lines_are_numbered_without_a_gap(written):
    numbers = sorted(line.number for line in compliance.read_checklist(*written))

    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize(
    ("tests", "complaint"),
    [
        ({1: ["a"], 3: ["a"], 4: ["a"]}, "there is no line 4"),
        ({1: ["a"], 2: ["b"], 3: ["a"]}, "line 2 is open, but has b"),
        ({3: ["a"]}, "line 1 is shown, but has no test"),
        ({1: ["a"]}, "line 3 is argued, but has no test"),
    ],
)
def test_a_line_that_gained_or_lost_its_tests_is_noticed(tests, complaint):
    assert compliance.complaints(CHECKLIST, tests) == [complaint]


def test_a_line_has_one_state():
    checklist = {**CHECKLIST, "partly": {"3": "a part"}}

    assert compliance.complaints(checklist, {1: ["a"], 3: ["a"]}) == ["line 3 has two states"]


def test_a_row_shows_the_state_and_the_tests():
    page = compliance.render(compliance.read_checklist(CHECKLIST, {1: ["a", "b"], 3: ["c"]}))

    assert "| 1 | One. | shown | `a`<br>`b` |\n" in page
    assert "| 2 | Two. | open: cache channels |  |\n" in page
    assert "| 3 | Three. | argued: Nobody can see it. | `c` |\n" in page


def test_markers_are_read_from_functions_coroutines_and_classes(markers):
    found = markers(
        "@pytest.mark.spec(1, *(2, 3))\ndef test_a(): ...\n"
        "@pytest.mark.spec(2)\n@pytest.mark.spec(1)\nasync def test_b(): ...\n"
        "@pytest.mark.spec(3)\nclass TestC:\n    @pytest.mark.spec(2)\n    def test_d(self): ...\n"
    )

    assert found == {
        1: ["test_it.py::test_a", "test_it.py::test_b"],
        2: ["test_it.py::test_a", "test_it.py::test_b", "test_it.py::TestC::test_d"],
        3: ["test_it.py::test_a", "test_it.py::TestC::test_d"],
    }


@pytest.mark.parametrize(
    "source",
    [
        "pytestmark = pytest.mark.spec(1)\n",
        "@pytest.mark.spec(1)\ndef helper(): ...\n",
        "@pytest.mark.spec()\ndef test_a(): ...\n",
        "@pytest.mark.spec(number)\ndef test_a(): ...\n",
    ],
    ids=["of a module", "of no test", "of no line", "computed"],
)
def test_a_marker_that_says_nothing_is_refused(markers, source):
    with pytest.raises(compliance.BadMarker):
        markers(source)
