"""What the series of `tallygate serve` and of `tallygate worker` have in common."""

LEDGER_LAG = (
    "tallygate_usage_ledger_lag_seconds",
    "Age of the newest instant before which all usage is in the ledger; 70 or so is as usual.",
)
