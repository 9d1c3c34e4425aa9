-- What a team that audits by triggers sets up: a table of entries, a generic trigger, and its attachment to each new table.
CREATE TABLE changeproof_harness.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    txid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    op "char" NOT NULL,
    relation oid NOT NULL,
    schema_name text NOT NULL,
    table_name text NOT NULL,
    before jsonb,
    after jsonb
);

CREATE INDEX ON changeproof_harness.audit (txid);

CREATE FUNCTION changeproof_harness.audit_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO changeproof_harness.audit (op, relation, schema_name, table_name, before, after)
    VALUES (
        left(TG_OP, 1)::"char", TG_RELID, TG_TABLE_SCHEMA, TG_TABLE_NAME,
        CASE WHEN TG_OP IN ('UPDATE', 'DELETE') THEN to_jsonb(OLD) END,
        CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN to_jsonb(NEW) END
    );
    NOTIFY changeproof_audit;
    RETURN NULL;
END $$;

-- The plain pattern has neither: TRUNCATE needs a trigger of its own, and ALTER TABLE an event trigger.
CREATE TABLE changeproof_harness.audit_options (truncate boolean NOT NULL, schema_changes boolean NOT NULL);
INSERT INTO changeproof_harness.audit_options VALUES (false, false);

CREATE FUNCTION changeproof_harness.audit_table(relation regclass) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    -- Triggers fire in the order of their names: after this one come those of foreign keys (RI_…), whose cascades would
    -- otherwise be written down before the change that caused them.
    EXECUTE format(
        'CREATE OR REPLACE TRIGGER "0_changeproof_audit" AFTER INSERT OR UPDATE OR DELETE ON %s '
        'FOR EACH ROW EXECUTE FUNCTION changeproof_harness.audit_change()', relation);
    IF (SELECT truncate FROM changeproof_harness.audit_options) THEN
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER "0_changeproof_audit_truncate" AFTER TRUNCATE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION changeproof_harness.audit_change()', relation);
    END IF;
END $$;

-- The shape that a table has when it is created (`s`), and each later one (`S`).
CREATE FUNCTION changeproof_harness.audit_shape(op "char", relation oid) RETURNS void LANGUAGE sql SECURITY DEFINER AS $$
    INSERT INTO changeproof_harness.audit (op, relation, schema_name, table_name, after)
    SELECT op, c.oid, n.nspname, c.relname, (
        SELECT json_object_agg(a.attname, format_type(
            CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE a.atttypid END,
            CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END) ORDER BY a.attnum)
        FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation AND c.relkind IN ('r', 'p');
$$;

CREATE FUNCTION changeproof_harness.audit_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    command record;
BEGIN
    FOR command IN SELECT DISTINCT classid, objid, command_tag FROM pg_event_trigger_ddl_commands() LOOP
        CONTINUE WHEN command.classid <> 'pg_class'::regclass;
        IF command.command_tag IN ('CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO') THEN
            -- A partition gets the triggers of the table it is a part of.
            PERFORM changeproof_harness.audit_table(c.oid::regclass) FROM pg_class c
            WHERE c.oid = command.objid AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition;
            PERFORM changeproof_harness.audit_shape('s', command.objid)
            WHERE (SELECT schema_changes FROM changeproof_harness.audit_options);
        ELSIF command.command_tag = 'ALTER TABLE' AND (SELECT schema_changes FROM changeproof_harness.audit_options) THEN
            PERFORM changeproof_harness.audit_shape('S', command.objid);
            NOTIFY changeproof_audit;
        END IF;
    END LOOP;
END $$;

SELECT changeproof_harness.audit_table('changeproof_harness.fence');
CREATE EVENT TRIGGER changeproof_audit ON ddl_command_end EXECUTE FUNCTION changeproof_harness.audit_ddl();
