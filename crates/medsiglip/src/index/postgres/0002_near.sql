-- What was measured of the index items_near, as JSON; absent where search is exact.
ALTER TABLE store ADD COLUMN tuned text;
-- Whether the index has it: not while it is measured with it.
ALTER TABLE items ADD COLUMN is_linked boolean NOT NULL DEFAULT true;
