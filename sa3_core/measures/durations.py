"""Classes of durations: short, medium and long, the columns of the papers' tables."""

from bisect import bisect_right
from dataclasses import dataclass

from ..errors import InputError

CLASSES = ("short", "medium", "long")
_DIGITS = 3  # a file is a whole number of samples: 30 s may be a little less


@dataclass(frozen=True)
class DurationClasses:
    """Where classes begin.

    Attributes:
        medium: seconds from which a clip is not short any more.
        long: seconds from which it is long.
    """

    medium: float = 30.0
    long: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what is no order.

        Raises:
            InputError: always then.
        """
        if not 0 < self.medium < self.long:
            raise InputError(
                f"{self.medium:g} and {self.long:g} s are no bounds of short, medium and long: "
                "the first must be more than 0, the second more than the first."
            )

    def of(self, seconds: float) -> str:
        """One of CLASSES."""
        return CLASSES[bisect_right((self.medium, self.long), round(seconds, _DIGITS))]
