-- Exports: how far each receiver of usage has come, what was put aside, and what other systems call our customers.
-- Docs: docs/exports.md, docs/decisions/0016.

-- What another system calls a customer, such as `cus_NffrFeUfNV2Hib` of `stripe`.
CREATE TABLE customer_references (
    customer_id  text NOT NULL REFERENCES customers (id),
    system       text NOT NULL CHECK (system ~ '^[a-z][a-z0-9_-]{0,62}$'),
    reference    text NOT NULL CHECK (reference ~ '^[!-~]{1,200}$'),
    updated_at   timestamptz NOT NULL,
    PRIMARY KEY (customer_id, system)
);

-- One row an export that ever ran. Entries of the ledger up to last_id were answered for or put aside; null: it has not
-- begun. Up to tried_id they may have been sent, since tried_at, without an answer.
CREATE TABLE exports (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z][a-z0-9_-]{0,62}$'),
    last_id     bigint,
    tried_id    bigint NOT NULL DEFAULT 0,
    tried_at    timestamptz,
    is_paused   boolean NOT NULL DEFAULT false,
    last_error  text NOT NULL DEFAULT '',
    updated_at  timestamptz NOT NULL
);

-- Entries a receiver will never take as they are, or of which nobody can say whether it has them (is_uncertain).
CREATE TABLE export_asides (
    export        text NOT NULL REFERENCES exports (name),
    entry_id      bigint NOT NULL,
    reason        text NOT NULL,
    is_uncertain  boolean NOT NULL,
    is_due        boolean NOT NULL DEFAULT false,  -- to be sent again
    put_at        timestamptz NOT NULL,
    PRIMARY KEY (export, entry_id)
);
CREATE INDEX export_asides_due ON export_asides (export, entry_id) WHERE is_due;

-- What each day's file holds: entries recorded on that day up to to_id, and what came late, after after_id, of days
-- before. Kept from before the file is written, so that it is the same whenever it is written again.
CREATE TABLE export_files (
    export      text NOT NULL REFERENCES exports (name),
    day         date NOT NULL,
    after_id    bigint NOT NULL,
    to_id       bigint NOT NULL,
    rows        bigint,
    sha256      text,
    written_at  timestamptz,
    PRIMARY KEY (export, day)
);

GRANT SELECT, INSERT, UPDATE, DELETE ON customer_references, export_asides TO tallygate_control;
GRANT SELECT, INSERT, UPDATE ON exports, export_files TO tallygate_control;
