-- What a team that polls by timestamp sets up: every table has the time of its row's last change, kept by a trigger, and an
-- index on it, without which each look would read whole tables.
CREATE FUNCTION changeproof_harness.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changeproof_updated_at := now();
    RETURN NEW;
END $$;

CREATE FUNCTION changeproof_harness.give_time() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
BEGIN
    -- A table that has the column `updated_at` of its own is left as it is; a partition has what its parent has.
    FOR relation IN
        SELECT c.oid FROM pg_event_trigger_ddl_commands() d JOIN pg_class c ON c.oid = d.objid
        WHERE d.classid = 'pg_class'::regclass
            AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
            AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = c.oid AND attname IN ('updated_at', 'changeproof_updated_at'))
    LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN changeproof_updated_at timestamptz NOT NULL DEFAULT now()', relation);
        EXECUTE format(
            'CREATE TRIGGER changeproof_touch BEFORE UPDATE ON %s FOR EACH ROW EXECUTE FUNCTION changeproof_harness.touch()',
            relation);
        EXECUTE format('CREATE INDEX ON %s (changeproof_updated_at)', relation);
    END LOOP;
END $$;

-- A new column of the table's own must not stand behind the time, or statements that name no columns would miss.
CREATE FUNCTION changeproof_harness.move_time() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE
    relation regclass;
BEGIN
    -- The statements below come here again.
    IF current_setting('changeproof.is_moving', true) = 'yes' THEN
        RETURN;
    END IF;
    PERFORM set_config('changeproof.is_moving', 'yes', true);
    FOR relation IN
        SELECT DISTINCT a.attrelid FROM pg_event_trigger_ddl_commands() d JOIN pg_attribute a ON a.attrelid = d.objid
        WHERE d.classid = 'pg_class'::regclass AND a.attname = 'changeproof_updated_at' AND EXISTS (
            SELECT FROM pg_attribute o WHERE o.attrelid = a.attrelid AND o.attnum > a.attnum AND NOT o.attisdropped)
    LOOP
        EXECUTE format('ALTER TABLE %s ADD COLUMN changeproof_moved timestamptz', relation);
        EXECUTE format(
            'ALTER TABLE %s ALTER changeproof_moved TYPE timestamptz USING changeproof_updated_at', relation);
        EXECUTE format('ALTER TABLE %s DROP COLUMN changeproof_updated_at', relation);
        EXECUTE format('ALTER TABLE %s RENAME COLUMN changeproof_moved TO changeproof_updated_at', relation);
        EXECUTE format(
            'ALTER TABLE %s ALTER changeproof_updated_at SET DEFAULT now(), ALTER changeproof_updated_at SET NOT NULL', relation);
        EXECUTE format('CREATE INDEX ON %s (changeproof_updated_at)', relation);
    END LOOP;
    PERFORM set_config('changeproof.is_moving', 'no', true);
END $$;

CREATE EVENT TRIGGER changeproof_move ON ddl_command_end WHEN TAG IN ('ALTER TABLE')
    EXECUTE FUNCTION changeproof_harness.move_time();
CREATE EVENT TRIGGER changeproof_time ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO')
    EXECUTE FUNCTION changeproof_harness.give_time();
