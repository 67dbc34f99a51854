-- What exports read of the ledger, and how far each has come. The ledger's numbers follow the order of commits: whoever
-- has read up to one has missed nothing before it.

-- name: take_turn
-- Inputs: export. Output: whether this connection may send; no other does, for as long as it is open.
SELECT pg_try_advisory_lock(hashtextextended('tallygate export ' || $1, 0)) AS is_ours;

-- name: add_export
-- Inputs: export, now. Adds one that has not begun, unless it is there.
INSERT INTO exports (name, updated_at) VALUES ($1, $2) ON CONFLICT DO NOTHING;

-- name: export
-- Inputs: export. Output: how far it has come, or nothing.
SELECT name, last_id, tried_id, tried_at, is_paused, last_error, updated_at FROM exports WHERE name = $1;

-- name: all_exports
-- Output: every export that ever ran, by name.
SELECT name, last_id, tried_id, tried_at, is_paused, last_error, updated_at FROM exports ORDER BY name;

-- name: newest_id
-- Output: the number of the ledger's newest entry, and up to when everything is in it, or null.
SELECT last_id, moved_to FROM usage_ledger;

-- name: id_from
-- Inputs: instant. Output: the least number of what was recorded from then on, or null.
SELECT id FROM usage_entries WHERE recorded_at >= $1 ORDER BY id LIMIT 1;

-- name: entries_after
-- Inputs: number to start after, last number, rows at most, system of references. Output: entries in the order of numbers.
SELECT id, recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome, entry, minute_at,
    quantity,
    (SELECT key FROM customers WHERE customers.id = e.customer_id COLLATE "default") AS customer_key,
    (SELECT environment FROM subscriptions s WHERE s.id = e.subscription_id COLLATE "default") AS environment,
    (SELECT reference FROM customer_references r
     WHERE r.customer_id = e.customer_id COLLATE "default" AND r.system = $4) AS reference
FROM usage_entries e WHERE e.id > $1 AND e.id <= $2 ORDER BY e.id LIMIT $3;

-- name: due_entries
-- Inputs: export, rows at most, system of references. Output: entries put aside that are to be sent again, in order.
SELECT e.id, recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome, entry, minute_at,
    quantity,
    (SELECT key FROM customers WHERE customers.id = e.customer_id COLLATE "default") AS customer_key,
    (SELECT environment FROM subscriptions s WHERE s.id = e.subscription_id COLLATE "default") AS environment,
    (SELECT reference FROM customer_references r
     WHERE r.customer_id = e.customer_id COLLATE "default" AND r.system = $3) AS reference
FROM (SELECT entry_id FROM export_asides WHERE export = $1 AND is_due ORDER BY entry_id LIMIT $2) AS aside
JOIN LATERAL (SELECT * FROM usage_entries WHERE id = aside.entry_id LIMIT 1) AS e ON true;

-- name: oldest_after
-- Inputs: number. Output: when the first entry after it was recorded, or nothing.
SELECT recorded_at FROM usage_entries WHERE id > $1 ORDER BY id LIMIT 1;

-- name: day_entries
-- Inputs: the instant before a day's first, the day's last, last number. Output: what was recorded on that day, in the
-- order of the ledger's own key.
SELECT id, recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome, entry, minute_at,
    quantity,
    (SELECT key FROM customers WHERE customers.id = e.customer_id COLLATE "default") AS customer_key,
    (SELECT environment FROM subscriptions s WHERE s.id = e.subscription_id COLLATE "default") AS environment,
    NULL AS reference
FROM usage_entries e WHERE recorded_at > $1 AND recorded_at <= $2 AND id <= $3
ORDER BY recorded_at, customer_id, bucket, subscription_id, family_id, plan, meter, outcome, entry, minute_at, route;

-- name: late_entries
-- Inputs: the instant before a day's first, number to start after, last number. Output: what came between these of the
-- days before, in the order of numbers.
SELECT id, recorded_at, bucket, customer_id, subscription_id, family_id, plan, meter, route, outcome, entry, minute_at,
    quantity,
    (SELECT key FROM customers WHERE customers.id = e.customer_id COLLATE "default") AS customer_key,
    (SELECT environment FROM subscriptions s WHERE s.id = e.subscription_id COLLATE "default") AS environment,
    NULL AS reference
FROM usage_entries e WHERE recorded_at <= $1 AND id > $2 AND id <= $3 ORDER BY id;

-- name: oldest_entry
-- Inputs: instant. Output: when the oldest entry from then on was recorded, or nothing.
SELECT recorded_at FROM usage_entries WHERE recorded_at >= $1 ORDER BY recorded_at LIMIT 1;

-- name: note_tried
-- Inputs: export, number, now. Up to that number entries may be sent from now on.
UPDATE exports SET tried_id = $2, tried_at = $3 WHERE name = $1;

-- name: move_on
-- Inputs: export, number it stands at, number, now. Output: the name, or nothing where somebody has moved it meanwhile.
UPDATE exports SET last_id = $3, last_error = '', updated_at = $4
WHERE name = $1 AND last_id IS NOT DISTINCT FROM $2 RETURNING name;

-- name: note_failure
-- Inputs: export, what went wrong, now.
UPDATE exports SET last_error = $2, updated_at = $3 WHERE name = $1;

-- name: set_paused
-- Inputs: export, whether it is paused, now.
UPDATE exports SET is_paused = $2, updated_at = $3 WHERE name = $1;

-- name: rewind
-- Inputs: export, number, now. Everything after that number is sent again.
UPDATE exports SET last_id = $2, tried_id = 0, tried_at = NULL, last_error = '', updated_at = $3 WHERE name = $1;

-- name: put_aside
-- Inputs: export, number of an entry, reason, whether it is uncertain, now.
INSERT INTO export_asides (export, entry_id, reason, is_uncertain, put_at) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (export, entry_id) DO UPDATE SET reason = excluded.reason, is_due = false,
    is_uncertain = export_asides.is_uncertain OR excluded.is_uncertain, put_at = excluded.put_at;

-- name: take_back
-- Inputs: export, numbers of entries. They are put aside no more.
DELETE FROM export_asides WHERE export = $1 AND entry_id = ANY ($2::bigint[]);

-- name: take_back_after
-- Inputs: export, number. What is put aside after it is so no more, for it is sent again.
DELETE FROM export_asides WHERE export = $1 AND entry_id > $2;

-- name: make_due
-- Inputs: export, whether uncertain ones too, now. Output: number of each that is to be sent again.
UPDATE export_asides SET is_due = true, put_at = $3 WHERE export = $1 AND (NOT is_uncertain OR $2) RETURNING entry_id;

-- name: give_up_due
-- Inputs: export, instant, reason. What was to be sent again before then, and was not answered for, is uncertain.
UPDATE export_asides SET is_due = false, is_uncertain = true, reason = $3
WHERE export = $1 AND is_due AND put_at < $2;

-- name: asides
-- Inputs: export, rows at most. Output: what is put aside, in the order of numbers.
SELECT entry_id, reason, is_uncertain, is_due, put_at FROM export_asides WHERE export = $1 ORDER BY entry_id LIMIT $2;

-- name: count_asides
-- Inputs: export, most. Output: how many are put aside, counted up to that many.
SELECT count(*) FROM (SELECT FROM export_asides WHERE export = $1 LIMIT $2) AS found;

-- name: newest_file
-- Inputs: export. Output: the newest day a file was planned for, and what it holds, or nothing.
SELECT day, after_id, to_id, rows, sha256, written_at FROM export_files WHERE export = $1 ORDER BY day DESC LIMIT 1;

-- name: plan_file
-- Inputs: export, day, numbers after and up to which late entries are in it.
INSERT INTO export_files (export, day, after_id, to_id) VALUES ($1, $2, $3, $4);

-- name: unwritten_files
-- Inputs: export. Output: days whose files are planned, and not written.
SELECT day, after_id, to_id, rows, sha256, written_at FROM export_files
WHERE export = $1 AND written_at IS NULL ORDER BY day;

-- name: note_written
-- Inputs: export, day, rows, SHA-256, now.
UPDATE export_files SET rows = $3, sha256 = $4, written_at = $5 WHERE export = $1 AND day = $2;

-- name: unwrite
-- Inputs: export, first day. Output: each day from then on, whose file is written again.
UPDATE export_files SET written_at = NULL WHERE export = $1 AND day >= $2 RETURNING day;
