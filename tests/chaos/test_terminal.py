"""What a run prints is enough to repeat it."""

from tests.chaos import terminal


def test_the_replay_command_repeats_the_run_as_it_was(monkeypatch, result):
    monkeypatch.delenv("SOAK_MINUTES", raising=False)
    assert terminal.again(result("D1")) == "make faults ROW=D1 SEED=123456"

    monkeypatch.setenv("SOAK_MINUTES", "2")
    small = result("D1", scale=0.2, short=True)
    expected = "make faults ROW=D1 SEED=123456 LANE=short SCALE=0.2 SOAK_MINUTES=2"
    assert terminal.again(small) == expected


def test_a_row_shows_what_it_ran_on_and_what_it_left(capsys, tmp_path, result):
    kept = result(clusters=["2 nodes, bus queue"], kept=[tmp_path / "A1.x"])

    terminal.show(kept)

    printed = capsys.readouterr().out
    assert "on 2 nodes, bus queue" in printed
    assert "A1.x" in printed
    assert "again: make faults ROW=A1 SEED=123456" in printed
