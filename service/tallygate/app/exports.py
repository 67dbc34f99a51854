"""Exports as the worker and `tallygate exports run` do them: which there are, how often, and what is measured.

Owns neither what is sent nor how far each has come (`billing.exports`).
"""

import asyncio
import os
from collections.abc import Mapping, Sequence

import structlog

from tallygate import __version__
from tallygate.app.secret_settings import plain
from tallygate.billing.exports.config import Export, read
from tallygate.billing.exports.postgres import PostgresExports
from tallygate.billing.exports.receivers import Exporter, exporters
from tallygate.billing.exports.round import Round
from tallygate.core.clock import Clock, SystemClock
from tallygate.core.errors import InputError
from tallygate.lifecycle import Work, every, stop_on_signals
from tallygate.metrics import WorkerMetrics
from tallygate.settings import Settings, require

_ROUND_S = 5.0
_log = structlog.get_logger("tallygate.exports")


def configured_exports(values: Settings) -> tuple[Export, ...]:
    """Return the exports of the settings' file, none without one; raise InputError naming what is wrong in it."""
    return () if values.exports_file is None else read(values.exports_file, os.environ)


def exports(values: Settings, metrics: WorkerMetrics, clock: Clock) -> Mapping[str, tuple[float, Work]]:
    """Return what a leader does for exports, and how often, in seconds: each at its own pace."""
    made = exporters(configured_exports(values), PostgresExports(plain(values.postgres_dsn)), clock)
    return {f"export {each.name}": (_ROUND_S, Exporting(each, metrics, clock).round) for each in made}


async def run_exports(values: Settings, names: Sequence[str], *, is_once: bool) -> dict[str, Round]:
    """Run these exports, or all: a round of each, or until a signal. Return what the last round of each came to."""
    require(values, "postgres_dsn")
    clock, metrics = SystemClock(), WorkerMetrics(__version__)
    configured = configured_exports(values)
    unknown = sorted(set(names) - {each.name for each in configured})
    if unknown:
        raise InputError("export", f"there is no export {unknown[0]!r} in TALLYGATE_EXPORTS_FILE", "see `exports list`")
    chosen = [each for each in configured if not names or each.name in names]
    made = [
        Exporting(each, metrics, clock)
        for each in exporters(chosen, PostgresExports(plain(values.postgres_dsn)), clock)
    ]
    if not is_once:
        stop = stop_on_signals()
        tasks = [asyncio.create_task(every(_ROUND_S, each.round)) for each in made]
        await stop.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return {each.name: each.last for each in made}
    return {each.name: await each.run(is_forced=True) for each in made}


class Exporting:
    """Rounds of an export, measured; what goes wrong is logged once, not each round."""

    def __init__(self, exporter: Exporter, metrics: WorkerMetrics, clock: Clock) -> None:
        """Measure an exporter's rounds."""
        self.name = exporter.name
        self._exporter = exporter
        self._metrics = metrics
        self._clock = clock
        self.last = Round()

    async def round(self) -> None:
        """Send what there is."""
        await self.run()

    async def run(self, *, is_forced: bool = False) -> Round:
        """Send what there is, now if forced; return what it came to."""
        try:
            done = await self._exporter.round(is_forced=is_forced)
            if done is not None:
                self._tell(done)
                self.last = done
        finally:
            oldest_at = self.last.oldest_at
            lag_s = 0.0 if oldest_at is None else (self._clock.now() - oldest_at).total_seconds()
            self._metrics.export_lag.labels(self.name).set(max(0.0, lag_s))
        return self.last

    def _tell(self, done: Round) -> None:
        for result in ("sent", "repeated", "aside", "skipped"):
            self._metrics.exported_rows.add(getattr(done, result), self.name, result)
        self._metrics.export_aside.labels(self.name).set(done.asides)
        if done.problem != self.last.problem:
            if done.problem:
                _log.warning("an export does not go on", export=self.name, problem=done.problem)
            else:
                _log.info("an export goes on again", export=self.name)
        if done.aside:
            _log.error("entries were put aside: see `tallygate exports show`", export=self.name, entries=done.aside)
