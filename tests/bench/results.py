"""Figures of a run: rounds, medians, and ratios between what was measured in the same round."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Rounds = list[float]


@dataclass
class Results:
    """What was measured, by scenario, contestant and figure; one value per round."""

    about: dict[str, str] = field(default_factory=dict)
    """The machine and the method."""
    figures: dict[str, dict[str, dict[str, Rounds]]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    """Contestants and scenarios that did not run, and why."""
    warnings: list[str] = field(default_factory=list)

    def add(self, scenario: str, contestant: str, figures: Mapping[str, float]) -> None:
        """Record the figures of one round."""
        kept = self.figures.setdefault(scenario, {}).setdefault(contestant, {})
        for name, value in figures.items():
            kept.setdefault(name, []).append(value)

    def warn(self, text: str) -> None:
        """Note something that makes a figure doubtful, once."""
        if text not in self.warnings:
            self.warnings.append(text)
            print(f"  ! {text}", flush=True)

    def rounds(self, scenario: str, contestant: str, figure: str) -> Rounds:
        """The values of all rounds; none where it was not measured."""
        return self.figures.get(scenario, {}).get(contestant, {}).get(figure, [])

    def median(self, scenario: str, contestant: str, figure: str) -> float | None:
        """The median over the rounds."""
        return median(self.rounds(scenario, contestant, figure))

    def ratio(self, scenario: str, one: str, other: str, figure: str) -> float | None:
        """How *one* stands to the *other*: the median of the ratios of each round."""
        return ratio(self.rounds(scenario, one, figure), self.rounds(scenario, other, figure))

    def between(self, scenario: str, contestant: str, one: str, other: str) -> float | None:
        """How two figures of one contestant stand to each other; as ``ratio``."""
        return ratio(
            self.rounds(scenario, contestant, one), self.rounds(scenario, contestant, other)
        )

    def as_json(self) -> dict[str, Any]:
        """Everything, with the medians beside the rounds."""
        return {
            "about": self.about,
            "left_out": self.left_out,
            "warnings": self.warnings,
            "scenarios": {
                scenario: {
                    contestant: {
                        name: {"median": median(rounds), "rounds": rounds}
                        for name, rounds in figures.items()
                    }
                    for contestant, figures in contestants.items()
                }
                for scenario, contestants in self.figures.items()
            },
        }


def median(rounds: Iterable[float]) -> float | None:
    """The median; None of nothing."""
    values = list(rounds)
    return statistics.median(values) if values else None


def ratio(ones: Rounds, others: Rounds) -> float | None:
    """The median of the ratios of pairs; None without a pair.

    What disturbs the machine for a while disturbs both of a pair.
    """
    return median(one / other for one, other in zip(ones, others, strict=False) if other)
