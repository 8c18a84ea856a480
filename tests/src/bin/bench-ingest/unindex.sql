-- Takes the indexes of closed segments away, so that the keeper builds them again.
DO $$
DECLARE
    closed bigint;
BEGIN
    FOR closed IN SELECT segment.first_sequence FROM segment, head WHERE end_sequence <= next_sequence LOOP
        EXECUTE format('DROP INDEX event_%s_terms', lpad(closed::text, 19, '0'));
        UPDATE segment SET indexed_at = NULL WHERE first_sequence = closed;
    END LOOP;
END
$$;
