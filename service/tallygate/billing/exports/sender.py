"""Goes through the ledger for one receiver: read, note, send, and move on after the answer.

Owns the order of these steps, which makes it safe to be cut off anywhere: what was not answered for is sent again,
under the same keys. Where a receiver remembers keys for a while only (Stripe), it is noted before the first call from
when on entries may have been sent; those that were not answered for within that time are put aside as uncertain, for
nobody can say any more whether they would count twice.

Failure: a receiver without an answer stops the round, and the next ones until a pause is over (`pace`); an entry it
refuses is put aside, and the others go on. Too many put aside stop the export. Postgres away is StoreUnavailableError.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from tallygate.billing.exports.cursor import Aside, Cursor
from tallygate.billing.exports.pace import Pace
from tallygate.billing.exports.parts import Outcome, Part, outcome, parts
from tallygate.billing.exports.postgres import ExportRows, PostgresExports
from tallygate.billing.exports.receiver import Receiver
from tallygate.billing.exports.round import Round
from tallygate.billing.exports.row import LedgerRow
from tallygate.billing.exports.terms import Terms
from tallygate.core.clock import Clock

_ROWS_AT_ONCE = 1000
MOST_ASIDE = 10_000
_ALL = 2**63 - 1
_MARGIN = timedelta(hours=1)


class Sender:
    """Sends for one export."""

    def __init__(
        self,
        name: str,
        terms: Terms,
        receiver: Receiver,
        exports: PostgresExports,
        clock: Clock,
        *,
        pace: Pace | None = None,
        most_aside: int = MOST_ASIDE,
    ) -> None:
        """Tell `receiver` what `terms` say, until `most_aside` entries are put aside."""
        self.name = name
        self._terms = terms
        self._receiver = receiver
        self._exports = exports
        self._clock = clock
        self._pace = pace or Pace()
        self._most_aside = most_aside
        self._not_before_s = float("-inf")

    async def round(self, *, is_forced: bool = False) -> Round | None:
        """Send what there is, until nothing is left or something fails; None in a pause, unless forced."""
        if self._clock.monotonic() < self._not_before_s and not is_forced:
            return None
        done = Round()
        try:
            async with self._exports.turn(self.name) as rows:
                if rows is None:
                    return Round(is_others_turn=True)
                await self._run(rows, done)
        finally:
            await self._receiver.close()
        self._set_pace(done)
        return done

    async def _run(self, rows: ExportRows, done: Round) -> None:
        cursor = await self._begun(rows)
        if not cursor.is_paused:
            await self._send_due(rows, done)
        while not done.problem and await self._go_on(rows, done):
            pass
        cursor = await self._begun(rows)
        done.is_paused = cursor.is_paused
        done.oldest_at = await rows.oldest_after(cursor.last_id or 0)
        done.asides = await rows.count_asides(self.name, self._most_aside)
        if done.problem:
            await rows.note_failure(self.name, done.problem, self._clock.now())

    async def _begun(self, rows: ExportRows) -> Cursor:
        """Return the cursor, which begins where the terms say."""
        cursor = await rows.cursor(self.name)
        if cursor is None:
            await rows.add(self.name, self._clock.now())
            return await self._begun(rows)
        if cursor.last_id is None:
            start = 0 if self._terms.from_at is None else await rows.id_before(self._terms.from_at)
            await rows.move_on(cursor, start, [], self._clock.now())
            return await self._begun(rows)
        return cursor

    async def _go_on(self, rows: ExportRows, done: Round) -> bool:
        """Send some; say whether there may be more."""
        cursor = await self._begun(rows)
        if cursor.is_paused or await self._is_full(rows, done):
            return False
        tried_since = cursor.tried_since
        up_to = _ALL if tried_since is None else cursor.tried_id
        read = await rows.after(cursor.last_id or 0, up_to, _ROWS_AT_ONCE, self._terms.system)
        if not read:
            # What may have been sent is gone from the ledger by now: nothing is left to say about it.
            return tried_since is not None and await rows.move_on(cursor, up_to, [], self._clock.now())
        cut = list(parts(read, self._terms, self._receiver.batch))
        if tried_since is not None and self._is_forgotten(tried_since):
            await self._give_up(rows, cursor, cut, tried_since, done)
            return True
        if tried_since is None:
            await self._note_tried(rows, read, cut)
        return await self._send_parts(rows, cursor, cut, done)

    async def _is_full(self, rows: ExportRows, done: Round) -> bool:
        is_full = await rows.count_asides(self.name, self._most_aside) >= self._most_aside
        if is_full:
            done.problem = f"{self._most_aside} entries are put aside: see `tallygate exports show {self.name}`"
        return is_full

    def _is_forgotten(self, at: datetime) -> bool:
        """Say whether the receiver may not know again what it was sent then."""
        remembers = self._receiver.remembers
        return remembers is not None and self._clock.now() - at > remembers - _MARGIN

    async def _note_tried(self, rows: ExportRows, read: Sequence[LedgerRow], cut: Sequence[Part]) -> None:
        if self._receiver.remembers is not None and any(part.events for part in cut):
            await rows.note_tried(self.name, read[-1].id, self._clock.now())

    async def _send_parts(self, rows: ExportRows, cursor: Cursor, cut: Sequence[Part], done: Round) -> bool:
        is_first_try = cursor.tried_since is None
        for part in cut:
            came = await self._send(part)
            if not await rows.move_on(cursor, came.reached, came.asides, self._clock.now()):
                return True  # somebody has moved it meanwhile: from there, then
            cursor = Cursor(self.name, came.reached)
            done.count(came)
            if came.failure is not None:
                if is_first_try and came.is_unheard:
                    await rows.note_tried(self.name, 0, None)
                return False
        return True

    async def _send(self, part: Part) -> Outcome:
        return outcome(part, await self._receiver.send(part.events) if part.events else [])

    async def _give_up(
        self, rows: ExportRows, cursor: Cursor, cut: Sequence[Part], tried_since: datetime, done: Round
    ) -> None:
        """Put aside what may have been sent so long ago that the receiver would not know it again."""
        reason = f"no answer since {tried_since:%Y-%m-%d %H:%M} UTC: look whether the receiver has it"
        asides = [aside for part in cut for aside in part.asides]
        asides += [Aside(event.row.id, reason, is_uncertain=True) for part in cut for event in part.events]
        if await rows.move_on(cursor, cut[-1].last_id, asides, self._clock.now()):
            done.aside += len(asides)
            done.skipped += sum(part.skipped for part in cut)

    async def _send_due(self, rows: ExportRows, done: Round) -> None:
        """Send again what was put aside, and somebody wants sent."""
        if self._receiver.remembers is not None:
            before = self._clock.now() - self._receiver.remembers + _MARGIN
            await rows.give_up_due(self.name, before, "was to be sent again, and got no answer in time: look for it")
        while read := await rows.due(self.name, self._receiver.batch, self._terms.system):
            for part in parts(read, self._terms, self._receiver.batch):
                came = await self._send(part)
                kept = {aside.entry_id for aside in came.asides}
                await rows.put_aside(self.name, came.asides, self._clock.now())
                await rows.take_back(
                    self.name, [row.id for row in read if row.id <= came.reached and row.id not in kept]
                )  # fmt: skip
                done.count(came)
                if came.failure is not None:
                    return

    def _set_pace(self, done: Round) -> None:
        if done.problem:
            self._not_before_s = self._clock.monotonic() + self._pace.after_failure(done.retry_after_s)
        else:
            self._pace.after_success()
            self._not_before_s = float("-inf")
