-- From version 1 to version 2 of the schema of tccsaga for SQLite.
-- Every statement may run again; one that adds columns may then say that they are there.

UPDATE saga_schema SET version = 2, complete = 0 WHERE id = 1;

ALTER TABLE saga_schema ADD COLUMN log_id TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_transactions ADD COLUMN reason_code TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_transactions ADD COLUMN reason_branch TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_attempts ADD COLUMN code TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_acts ADD COLUMN branch_id TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_acts ADD COLUMN believed TEXT NOT NULL DEFAULT '';

ALTER TABLE saga_barrier ADD COLUMN caller TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN kind TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN input TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN call_op TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN call_by TEXT NOT NULL DEFAULT '';
ALTER TABLE saga_barrier ADD COLUMN call_since TEXT;
ALTER TABLE saga_barrier ADD COLUMN call_until TEXT;

UPDATE saga_schema SET log_id = lower(hex(randomblob(16))) WHERE id = 1 AND log_id = '';

UPDATE saga_schema SET complete = 1 WHERE id = 1 AND version = 2;
