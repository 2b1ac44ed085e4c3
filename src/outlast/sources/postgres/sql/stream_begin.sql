-- name: stream_begin
-- purpose: what a stream has to know of the server before it begins: how long it bears silence (ms), and the next
--          transaction's number, by which those of the stream are widened to 64 bits.
SELECT (SELECT s.setting FROM pg_catalog.pg_settings AS s WHERE s.name = 'wal_sender_timeout'),
       pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text
