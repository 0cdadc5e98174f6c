-- Claim one step: one round trip, no fsync (losing a claim only repeats it).
--
-- The verdict is taken on one snapshot; the two writes defend it:
-- burying the last holder waits for the row lock its own commit would take and finds
-- nobody if that came first; the new attempt's primary key lets one of several claimants in.
WITH quiet AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true) AS setting,
           extract(epoch FROM clock_timestamp())::float8 AS now
),
run AS MATERIALIZED (
    SELECT * FROM runs WHERE id = %(run_id)s
),
tally AS MATERIALIZED (
    SELECT max(attempt) AS latest,
           count(*) FILTER (WHERE state = 'lost') AS losses,
           count(*) FILTER (WHERE state = 'retry') AS retries
    FROM attempts WHERE run_id = %(run_id)s AND address = %(address)s
),
holder AS MATERIALIZED (
    SELECT a.attempt, a.state, a.token, a.due_at, a.worker_id, a.pid, w.host,
           coalesce(w.stopped_at IS NULL AND w.heartbeat_at > quiet.now - %(ttl_s)s, false) AS alive
    FROM quiet, tally
    JOIN attempts a ON a.run_id = %(run_id)s AND a.address = %(address)s AND a.attempt = tally.latest
    LEFT JOIN workers w ON w.id = a.worker_id
),
verdict AS MATERIALIZED (
    SELECT CASE
        WHEN run.status IS NULL OR NOT run.status = ANY (%(live)s) THEN 'not_live'
        WHEN run.format <> %(format)s THEN 'unreadable'
        WHEN EXISTS (SELECT 1 FROM checkpoints WHERE run_id = %(run_id)s AND address = %(address)s) THEN 'committed'
        WHEN holder.state = 'running' AND holder.token = %(token)s THEN 'mine'
        WHEN holder.state = 'running' AND holder.alive THEN 'busy'
        WHEN holder.state IN ('retry', 'deferred') AND holder.due_at > quiet.now THEN 'not_due'
        WHEN tally.losses + (coalesce(holder.state, '') = 'running')::int >= %(most_losses)s THEN 'poisoned'
        ELSE 'granted'
    END AS word
    FROM quiet CROSS JOIN tally LEFT JOIN run ON true LEFT JOIN holder ON true
),
buried AS (
    UPDATE attempts a SET state = 'lost', finished_at = quiet.now
    FROM quiet, verdict, holder
    WHERE verdict.word IN ('granted', 'poisoned') AND holder.state = 'running'
      AND a.run_id = %(run_id)s AND a.address = %(address)s AND a.attempt = holder.attempt AND a.state = 'running'
    RETURNING a.attempt
),
granted AS (
    INSERT INTO attempts (run_id, address, attempt, state, token, worker_id, pid, started_at)
    SELECT %(run_id)s, %(address)s, coalesce(tally.latest, 0) + 1, 'running', %(token)s, %(worker_id)s, %(pid)s, quiet.now
    FROM quiet CROSS JOIN tally CROSS JOIN verdict LEFT JOIN holder ON true
    WHERE verdict.word = 'granted' AND (holder.state IS DISTINCT FROM 'running' OR EXISTS (SELECT FROM buried))
    ON CONFLICT DO NOTHING
    RETURNING attempt
),
begun AS (
    UPDATE runs SET status = 'running', started_at = quiet.now, updated_at = quiet.now
    FROM quiet, granted WHERE id = %(run_id)s AND status = 'enqueued'
)
SELECT verdict.word, quiet.now, tally.latest, tally.retries,
       tally.losses + (coalesce(holder.state, '') = 'running')::int AS losses,
       granted.attempt, holder.worker_id AS holder_id, holder.host AS holder_host, holder.pid AS holder_pid,
       holder.due_at,
       run.id, run.workflow, run.status, run.plan_digest, run.inputs_digest, run.seed, run.logical_time,
       run.idempotency_key, run.epoch, run.size, run.done, run.splices, run.inline, run.created_at, run.updated_at,
       run.started_at, run.finished_at, run.workflow_hash, run.error, run.format,
       CASE WHEN verdict.word IN ('granted', 'mine') THEN
           (SELECT json_object_agg(address, output) FROM checkpoints
            WHERE run_id = %(run_id)s AND address = ANY (%(inputs)s))
       END AS outputs,
       CASE WHEN %(wants_input)s AND verdict.word IN ('granted', 'mine') THEN run.inputs END AS run_inputs,
       CASE WHEN verdict.word IN ('granted', 'mine') AND bit_count(run.done) = run.size - 1 THEN
           coalesce((SELECT json_object_agg(address, stable_digest) FROM checkpoints
                     WHERE run_id = %(run_id)s AND position >= 0), '{}')
       END AS digests
FROM quiet CROSS JOIN tally CROSS JOIN verdict
LEFT JOIN run ON true LEFT JOIN holder ON true LEFT JOIN granted ON true
