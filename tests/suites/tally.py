"""What a suite came to, in one line that is seen whether it passed or not."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tally:
    """excluded: tests of the suite that were not run, each with its reason in the suite's file."""

    suite: str
    passed: int
    failed: int
    excluded: int = 0

    @property
    def share(self) -> float:
        """The share of the tests that were run and passed; 0 if none ran."""
        return self.passed / (self.passed + self.failed) if self.passed else 0.0

    def __str__(self) -> str:
        """The line."""
        counts = f"{self.passed} passed, {self.failed} failed, {self.excluded} excluded"
        return f"{self.suite}: {counts}"
