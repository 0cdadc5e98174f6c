-- A step failed for good, and with it its run: the first failure decides.
WITH moment AS MATERIALIZED (
    SELECT extract(epoch FROM clock_timestamp())::float8 AS now
),
fence AS (
    UPDATE attempts SET state = 'failed', finished_at = coalesce(finished_at, moment.now), error = %(error)s
    FROM moment
    WHERE run_id = %(run_id)s AND address = %(address)s AND attempt = %(attempt)s
      AND (state = 'running' OR %(poisoned)s AND state IN ('lost', 'retry', 'deferred'))
    RETURNING attempt
)
UPDATE runs SET status = %(status)s, error = %(error)s, updated_at = moment.now, wake_at = moment.now, nudges = 0,
                finished_at = CASE WHEN %(status)s = 'failed' THEN moment.now END
FROM moment, fence
WHERE id = %(run_id)s AND status IN ('enqueued', 'running')
RETURNING status, done, size, splices, epoch, watched
