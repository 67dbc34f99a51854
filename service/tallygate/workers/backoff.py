"""How long to wait before a worker that ended is started again: longer each time, and short again after a calm run.

Pure.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses in seconds: `first_s`, doubling up to `most_s`; a run of `calm_s` begins anew."""

    first_s: float = 0.1
    most_s: float = 10.0
    calm_s: float = 30.0
    _next_s: float = 0.0

    def after(self, ran_s: float) -> float:
        """Return the pause after a run of `ran_s` seconds."""
        pause_s = self.first_s if ran_s >= self.calm_s or not self._next_s else self._next_s
        self._next_s = min(2 * pause_s, self.most_s)
        return pause_s
