-- Commit one step: one round trip, one fsync.
--
-- fence    the attempt must still be running; its row lock orders this against a take-over
-- saved    the checkpoint; its primary key lets one attempt win
-- moved    the run's row, whose lock makes the history of a run serial: ``done`` as returned is the
--          set of committed steps in that order, so exactly one commit sees a join's last sibling
WITH moment AS MATERIALIZED (
    SELECT extract(epoch FROM clock_timestamp())::float8 AS now
),
fence AS (
    UPDATE attempts SET state = 'committed', finished_at = moment.now
    FROM moment
    WHERE run_id = %(run_id)s AND address = %(address)s AND attempt = %(attempt)s AND state = 'running'
    RETURNING attempt
),
saved AS (
    INSERT INTO checkpoints (run_id, address, position, attempt, output, digest, stable_digest, effects, worker_id,
                             started_at, committed_at)
    SELECT %(run_id)s, %(address)s, %(position)s, fence.attempt, %(output)s, %(digest)s, %(stable_digest)s,
           %(effects)s, %(worker_id)s, %(started_at)s, moment.now
    FROM fence, moment
    ON CONFLICT DO NOTHING
    RETURNING attempt
),
moved AS (
    UPDATE runs SET
        done = CASE WHEN %(position)s < 0 THEN done ELSE set_bit(
            done || decode(repeat('00', greatest(0, (size + %(sub_size)s + 7) / 8 - octet_length(done))), 'hex'),
            %(position)s, 1) END,
        size = size + %(sub_size)s,
        splices = splices + (%(sub_digest)s IS NOT NULL)::int,
        nudges = 0,
        updated_at = moment.now,
        status = CASE WHEN %(workflow_hash)s IS NOT NULL AND status = 'running' THEN 'succeeded' ELSE status END,
        finished_at = CASE WHEN %(workflow_hash)s IS NOT NULL AND status = 'running' THEN moment.now ELSE finished_at END,
        workflow_hash = CASE WHEN status = 'running' THEN %(workflow_hash)s ELSE workflow_hash END
    FROM moment, saved
    WHERE id = %(run_id)s
    RETURNING status, done, size, splices, epoch, watched
),
sub_plan AS (
    INSERT INTO plans (digest, body)
    SELECT %(sub_digest)s, %(sub_text)s FROM moved WHERE %(sub_digest)s IS NOT NULL
    ON CONFLICT DO NOTHING
),
sub_place AS (
    INSERT INTO splices (run_id, address, ordinal, plan_digest)
    SELECT %(run_id)s, %(address)s, moved.splices, %(sub_digest)s
    FROM moved WHERE %(sub_digest)s IS NOT NULL
)
SELECT status, done, size, splices, epoch, watched FROM moved
