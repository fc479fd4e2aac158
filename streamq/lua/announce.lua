#!lua flags=allow-oom
-- announce: make an app known on this server, for daemons and commands.
--
-- `allow-oom`: a worker that starts on a full server is what drains it.
-- KEYS apps
-- ARGV app details
-- Returns 1 where the app was not known before
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
