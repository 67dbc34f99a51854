-- What the data plane asks Postgres. Its role may call these functions and nothing else (see
-- storage/migrations), so a stolen data-plane password lists no customer and no token.

-- name: find_license
-- Guarantee: one snapshot; `as_of` is the newest change that snapshot has seen.
-- In:  $1 bytea[], the digests one token may be stored under.
-- Out: one row. as_of bigint; license json text, null when no such token is known.
SELECT as_of, license::text FROM find_license_v1($1)

-- name: find_holder
-- In:  $1 text, a token family's id; $2 text, its subscription's id: who knows both may report usage.
-- Out: one row. license json text, null when there is no such family of that subscription.
SELECT find_holder_v1($1, $2)::text AS license

-- name: current_routes
-- Guarantee: one snapshot, as above.
-- Out: one row. as_of bigint; document json text (the `routes` list of a plan file), null when there is none.
SELECT as_of, document::text FROM current_routes_v1()

-- name: changes_since
-- Guarantee: one snapshot, so the changes are exactly those from $1 (excluded) to `newest`, unless
--            `pruned_to` > $1 (the log has forgotten some) or `newest` < $1 (another history: a restore).
-- In:  $1 bigint, the newest change already known; $2 bigint, the most rows wanted.
-- Out: at least one row, oldest change first. newest, pruned_to bigint; generation bigint and subject text,
--      both null in the single row that means nothing has changed.
SELECT g.newest, g.pruned_to, c.generation, c.subject
FROM current_generation_v1() g LEFT JOIN changes_since_v1($1) c ON true
ORDER BY c.generation LIMIT $2

-- name: note_used
-- In:  $1 text[], ids of tokens used about now. Moves each forward at most once an hour.
SELECT note_tokens_used_v1($1, now())

-- name: note_first_uses
-- Guarantee: the least instant ever told of a subscription stands; nobody who changes it just then is waited for.
-- In:  $1 text[], ids of subscriptions; $2 timestamptz[], when each was first used.
-- Out: id text, those that have to be told again.
SELECT id FROM note_first_uses_v1($1, $2) AS id

-- name: current_generation
-- Out: one row. newest bigint, 0 when nothing has ever changed.
SELECT newest FROM current_generation_v1()
