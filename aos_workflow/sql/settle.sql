-- An attempt ended without a checkpoint and its step will be tried again at a time.
WITH moment AS MATERIALIZED (
    SELECT extract(epoch FROM clock_timestamp())::float8 AS now
),
fence AS (
    UPDATE attempts SET state = %(state)s, finished_at = moment.now, due_at = moment.now + %(delay_s)s, error = %(error)s
    FROM moment
    WHERE run_id = %(run_id)s AND address = %(address)s AND attempt = %(attempt)s AND state = 'running'
    RETURNING due_at
),
moved AS (
    UPDATE runs SET wake_at = least(wake_at, fence.due_at), nudges = 0, updated_at = moment.now
    FROM moment, fence
    WHERE id = %(run_id)s
)
SELECT due_at FROM fence
