-- The best hand-written queries for the cases of `make bench-query`, on the collector's own table and the B-trees of
-- indexes.sql. Where it is not clear which is best, a case stands here several times, and the fastest counts.
-- {columns} are those that an event is answered from. The last parameter is the end of the log. Oldest first is the same with
-- ASC, unless it stands here on its own. Parameters come as text.

-- case: everything
SELECT {columns} FROM event WHERE sequence < $1 ORDER BY sequence DESC LIMIT 100

-- case: type
SELECT {columns} FROM event WHERE type = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: area
SELECT {columns} FROM event WHERE type = ANY(string_to_array($1, '|')) AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: area
SELECT {columns} FROM (
    SELECT of_type.sequence FROM unnest(string_to_array($1, '|')) AS asked (type), LATERAL (
        SELECT sequence FROM event WHERE event.type = asked.type AND sequence < $2 ORDER BY sequence DESC LIMIT 100
    ) AS of_type ORDER BY sequence DESC LIMIT 100
) AS page JOIN event USING (sequence) ORDER BY sequence DESC

-- case: actor
SELECT {columns} FROM event WHERE actor_id = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: actorType
SELECT {columns} FROM event WHERE actor_type = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: resource
SELECT {columns} FROM event WHERE resource_id = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: resourceType
SELECT {columns} FROM event WHERE resource_type = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: outcome
SELECT {columns} FROM event WHERE outcome = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- case: submittedBy
SELECT {columns} FROM event WHERE submitted_by_name = $1 AND sequence < $2 ORDER BY sequence DESC LIMIT 100

-- Segments bound the sequences, whatever the order in which events came.
-- case: time
SELECT {columns} FROM event
WHERE "timestamp" >= $1::text::timestamptz AND "timestamp" < $2::text::timestamptz
  AND sequence >= (SELECT min(first_sequence) FROM segment WHERE last_timestamp >= $1::text::timestamptz)
  AND sequence < (SELECT max(end_sequence) FROM segment WHERE first_timestamp < $2::text::timestamptz)
  AND sequence < $3
ORDER BY sequence DESC LIMIT 100

-- Whoever knows that no event comes more than 4,000 events late, or early, as in this load, can do with less.
-- case: time, desc
SELECT {columns} FROM event
WHERE "timestamp" >= $1::text::timestamptz AND "timestamp" < $2::text::timestamptz AND sequence < $3
  AND sequence <= (SELECT max(sequence) FROM (
      SELECT sequence FROM event WHERE "timestamp" < $2::text::timestamptz ORDER BY "timestamp" DESC LIMIT 4000) AS latest)
ORDER BY sequence DESC LIMIT 100

-- case: time, asc
SELECT {columns} FROM event
WHERE "timestamp" >= $1::text::timestamptz AND "timestamp" < $2::text::timestamptz AND sequence < $3
  AND sequence >= (SELECT min(sequence) FROM (
      SELECT sequence FROM event WHERE "timestamp" >= $1::text::timestamptz ORDER BY "timestamp" LIMIT 4000) AS earliest)
ORDER BY sequence ASC LIMIT 100

-- case: event + actor
SELECT {columns} FROM event WHERE type = $1 AND actor_id = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT 100

-- case: actor + time
SELECT {columns} FROM event
WHERE actor_id = $1 AND "timestamp" >= $2::text::timestamptz AND "timestamp" < $3::text::timestamptz AND sequence < $4
ORDER BY sequence DESC LIMIT 100

-- case: actor + time
SELECT {columns} FROM (
    SELECT sequence FROM event
    WHERE actor_id = $1 AND "timestamp" >= $2::text::timestamptz AND "timestamp" < $3::text::timestamptz AND sequence < $4
    ORDER BY sequence + 0 DESC LIMIT 100
) AS page JOIN event USING (sequence) ORDER BY sequence DESC

-- case: resource + time
SELECT {columns} FROM event
WHERE resource_id = $1 AND "timestamp" >= $2::text::timestamptz AND "timestamp" < $3::text::timestamptz AND sequence < $4
ORDER BY sequence DESC LIMIT 100

-- case: resource + time
SELECT {columns} FROM (
    SELECT sequence FROM event
    WHERE resource_id = $1 AND "timestamp" >= $2::text::timestamptz AND "timestamp" < $3::text::timestamptz AND sequence < $4
    ORDER BY sequence + 0 DESC LIMIT 100
) AS page JOIN event USING (sequence) ORDER BY sequence DESC

-- case: event + resource
SELECT {columns} FROM event WHERE type = $1 AND resource_id = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT 100

-- case: area + outcome
SELECT {columns} FROM event WHERE type = ANY(string_to_array($1, '|')) AND outcome = $2 AND sequence < $3
ORDER BY sequence DESC LIMIT 100

-- case: area + outcome
SELECT {columns} FROM (
    SELECT of_type.sequence FROM unnest(string_to_array($1, '|')) AS asked (type), LATERAL (
        SELECT sequence FROM event WHERE event.type = asked.type AND outcome = $2 AND sequence < $3
        ORDER BY sequence DESC LIMIT 100
    ) AS of_type ORDER BY sequence DESC LIMIT 100
) AS page JOIN event USING (sequence) ORDER BY sequence DESC

-- case: event + outcome, which hardly ever meet
SELECT {columns} FROM event WHERE type = $1 AND outcome = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT 100

-- case: event + resourceType, which hardly ever meet
SELECT {columns} FROM event WHERE type = $1 AND resource_type = $2 AND sequence < $3 ORDER BY sequence DESC LIMIT 100

-- Without an index of trigrams, which would be larger than the log's texts and has to be kept while events arrive.
-- case: q over a month
SELECT {columns} FROM event
WHERE "timestamp" >= $2::text::timestamptz AND "timestamp" < $3::text::timestamptz
  AND sequence >= (SELECT min(first_sequence) FROM segment WHERE last_timestamp >= $2::text::timestamptz)
  AND sequence < (SELECT max(end_sequence) FROM segment WHERE first_timestamp < $3::text::timestamptz)
  AND sequence < $4
  AND strpos(lower(concat_ws(E'\n', id, type, actor_id, actor_name, actor_email, resource_id, resource_name,
                             submitted_by_name, changes, details) COLLATE "C"), lower($1)) > 0
ORDER BY sequence DESC LIMIT 100

-- case: q over a month
SELECT {columns} FROM event
WHERE "timestamp" >= $2::text::timestamptz AND "timestamp" < $3::text::timestamptz
  AND sequence >= (SELECT min(first_sequence) FROM segment WHERE last_timestamp >= $2::text::timestamptz)
  AND sequence < (SELECT max(end_sequence) FROM segment WHERE first_timestamp < $3::text::timestamptz)
  AND sequence < $4
  AND (details::text ILIKE '%' || $1 || '%' OR id ILIKE '%' || $1 || '%' OR type ILIKE '%' || $1 || '%'
       OR actor_id ILIKE '%' || $1 || '%' OR actor_name ILIKE '%' || $1 || '%' OR actor_email ILIKE '%' || $1 || '%'
       OR resource_id ILIKE '%' || $1 || '%' OR resource_name ILIKE '%' || $1 || '%'
       OR submitted_by_name ILIKE '%' || $1 || '%' OR changes::text ILIKE '%' || $1 || '%')
ORDER BY sequence DESC LIMIT 100
