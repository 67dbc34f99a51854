"""Floors: how new a read must be to be believed, after what has changed.

A change with number n of a subject makes every read of it that has not seen n worthless. So there is no
index from customers to tokens to keep: what is cached carries the number its read had seen, and is
compared with the floors of its token, family, subscription and customer. Pure and bounded.
"""

from tallygate.licenses.license import License


class Floors:
    """The newest change known of each subject.

    Two halves of at most `max_subjects / 2` each. When the recent half is full the older one becomes a
    single floor under everything: that costs a new read of what nobody has read since those changes, and
    never lets anything older through.
    """

    def __init__(self, max_subjects: int = 65_536) -> None:
        """Remember at least half of `max_subjects` changes one by one."""
        self._half = max(1, max_subjects // 2)
        self.version = 0
        """Moves with every change, so that a reader need not compare twice."""
        self.reset(0)

    def __len__(self) -> int:
        return len(self._recent) + len(self._older)

    def reset(self, generation: int) -> None:
        """Forget all subjects and put the one floor `generation` under everything."""
        self.version += 1
        self._everything = generation
        self._absent = generation
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}

    def raise_to(self, generation: int, subject: str) -> None:
        """Believe nothing of `subject` that has not seen change `generation`."""
        if generation <= max(self._recent.get(subject, 0), self._older.get(subject, 0)):
            return
        if len(self._recent) >= self._half and subject not in self._recent:
            self._everything = max(self._everything, *self._older.values(), 0)
            self._recent, self._older = {}, self._recent
        self._recent[subject] = generation
        self.version += 1
        if is_token(subject):
            self._absent = max(self._absent, generation)

    def under(self, entry: License | None) -> int:
        """Return the least number a read must have seen to be believed about `entry`.

        None is "there is no such token", which any newer change of a token may have made untrue.
        """
        if entry is None:
            return max(self._absent, self._everything)
        floor = self._everything
        for subject in (entry.token, entry.family, entry.subscription, entry.customer):
            floor = max(floor, self._recent.get(subject, 0), self._older.get(subject, 0))
        return floor


def is_token(subject: str) -> bool:
    """Say whether a change's subject is a token; only such a change can make an unknown token known."""
    return subject.startswith("tok_")
