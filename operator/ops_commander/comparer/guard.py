"""What protects the stable version: a comparison is worth less than a user's request.

Two limits besides queue and concurrency. A budget of pairs a second. And a share of the requests that is asked, which
is halved when stable fails or becomes slow, and grows again step by step while it answers as before (AIMD, as in TCP).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

PAIRS_A_SECOND: Final = 1000.0
BURST: Final = 200.0

SMALLEST_SHARE: Final = 0.05
"""Something must be asked to learn that stable has recovered."""
STEP_UP: Final = 0.05
PACE: Final = 1.0
"""Seconds between two changes of the share: answers that were under way say nothing of the latest."""

KNOWN_AFTER: Final = 20
"""Answers until stable's usual time is believed."""
SLOW: Final = 2.0
SLACK: Final = 0.010
"""Slow is more than SLOW times the usual time and this many seconds."""
_RECENT: Final = 0.1
_USUAL: Final = 0.01


@dataclass
class Guard:
    """Fed with what stable does; times are those of one monotonic clock, in seconds."""

    share: float = 1.0
    """Of the requests, the part that is asked now."""
    _credit: float = 0.0
    _tokens: float = BURST
    _refilled_at: float | None = None
    _changed_at: float = float("-inf")
    _answers: int = 0
    _usual: float = 0.0
    _recent: float = 0.0

    def refusal(self, now: float) -> str | None:
        """Why the next request is not asked: `back_off` or `budget`; None if it is."""
        self._credit += self.share
        if self._credit < 1.0:
            return "back_off"
        self._credit -= 1.0
        elapsed = 0.0 if self._refilled_at is None else now - self._refilled_at
        self._refilled_at = now
        self._tokens = min(BURST, self._tokens + elapsed * PAIRS_A_SECOND)
        if self._tokens < 1.0:
            return "budget"
        self._tokens -= 1.0
        return None

    def answered(self, now: float, seconds: float) -> None:
        """Stable has answered."""
        self._answers += 1
        if self._answers <= KNOWN_AFTER:
            self._usual += (seconds - self._usual) / self._answers
            self._recent = self._usual
            self._grow(now)
            return
        self._recent += _RECENT * (seconds - self._recent)
        # The usual time follows slowly: what stays slow for long is how it is.
        self._usual += _USUAL * (min(seconds, SLOW * self._usual + SLACK) - self._usual)
        if self._recent > SLOW * self._usual + SLACK:
            self._shrink(now)
        else:
            self._grow(now)

    def failed(self, now: float) -> None:
        """Stable has not answered, or with an error of its own."""
        self._shrink(now)

    def _shrink(self, now: float) -> None:
        if now - self._changed_at >= PACE:
            self.share = max(SMALLEST_SHARE, self.share / 2)
            self._changed_at = now

    def _grow(self, now: float) -> None:
        if self.share < 1.0 and now - self._changed_at >= PACE:
            self.share = min(1.0, self.share + STEP_UP)
            self._changed_at = now
