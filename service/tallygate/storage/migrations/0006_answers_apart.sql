-- An idempotency key may be held by an act that has transactions of its own and no answer yet. While there is no
-- status, free_at is when whoever repeats the request may take over; null where answer and act commit together.

ALTER TABLE idempotency_keys ADD COLUMN free_at timestamptz;
