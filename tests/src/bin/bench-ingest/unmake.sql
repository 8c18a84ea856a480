-- Takes the segments away that were made ahead, so that the keeper makes them again.
DO $$
DECLARE
    ahead bigint;
BEGIN
    FOR ahead IN SELECT segment.first_sequence FROM segment, head WHERE segment.first_sequence > next_sequence LOOP
        EXECUTE format('DROP TABLE event_%s', lpad(ahead::text, 19, '0'));
        DELETE FROM segment WHERE first_sequence = ahead;
    END LOOP;
END
$$;
