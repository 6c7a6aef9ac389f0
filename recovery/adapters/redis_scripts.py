"""The Lua scripts of the run store: each is one act, and each may be sent twice.

A script either does all of its work or none, and Redis runs one at a time, so
the checks and the write cannot be torn apart. The client sends a script again
when a connection breaks before the answer came; for that case each script
recognises its own earlier success (the same last line, the same nonce) and
answers as it did before.

A new line is signed together with the MAC of the line before it; the scripts
compare that MAC with the one of the last line (its characters 4 to 67, see
recovery.signing), so that a line never comes behind another history.

What a script answers first is a word: ``ok``, or why nothing was written.
"""

from __future__ import annotations

NO_TEXT = "\0no text"
"""Stands for what a lock holds that is no string at all."""

# KEYS active, run, runs. ARGV run id, event, time of the proposal in seconds.
PROPOSE = """
local active = redis.call('GET', KEYS[1])
if active then return {'ok', active} end
if redis.call('EXISTS', KEYS[2]) == 1 then return {'used'} end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[3], ARGV[3], ARGV[1])
return {'ok', ARGV[1]}
"""

# KEYS lease, epoch. ARGV owner, time to live in ms, an epoch to be above, nonce.
TAKE_LEASE = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch', 'nonce')
if held[3] == ARGV[4] then return {'ok', held[2]} end
if held[1] then return {'held', held[1], held[2]} end
local epoch = math.max(tonumber(redis.call('GET', KEYS[2]) or '0'), tonumber(ARGV[3])) + 1
local text = string.format('%.0f', epoch)
redis.call('SET', KEYS[2], text)
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', text, 'ttl_ms', ARGV[2], 'nonce', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {'ok', text}
"""

# KEYS lease. ARGV owner, epoch, time to live in ms.
RENEW_LEASE = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if held[1] ~= ARGV[1] or held[2] ~= ARGV[2] then return {'lost', held[1] or '', held[2] or ''} end
redis.call('HSET', KEYS[1], 'ttl_ms', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {'ok'}
"""

# KEYS lease. ARGV owner, epoch.
RELEASE_LEASE = """
local held = redis.call('HMGET', KEYS[1], 'owner', 'epoch')
if held[1] == ARGV[1] and held[2] == ARGV[2] then redis.call('DEL', KEYS[1]) end
return {'ok'}
"""

# KEYS run, active, lease. ARGV run id, event, expected length, whether the event ends the run, owner, epoch,
# MAC of the line before.
APPEND = """
local held = redis.call('HMGET', KEYS[3], 'owner', 'epoch', 'ttl_ms')
if held[1] ~= ARGV[5] or held[2] ~= ARGV[6] then return {'lost', held[1] or '', held[2] or ''} end
local length = redis.call('LLEN', KEYS[1])
local expected = tonumber(ARGV[3])
if length == expected + 1 and redis.call('LINDEX', KEYS[1], -1) == ARGV[2] then return {'ok'} end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {'ended'} end
if length ~= expected then return {'length', tostring(length)} end
if string.sub(redis.call('LINDEX', KEYS[1], -1) or '', 4, 67) ~= ARGV[7] then return {'other'} end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[3], held[3])
if ARGV[4] == '1' then redis.call('DEL', KEYS[2]) end
return {'ok'}
"""

# KEYS run, active. ARGV run id, event, expected length, MAC of the line before.
DECIDE = """
local length = redis.call('LLEN', KEYS[1])
local expected = tonumber(ARGV[3])
if length == expected + 1 and redis.call('LINDEX', KEYS[1], -1) == ARGV[2] then return {'ok'} end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return {'ended'} end
if length ~= expected then return {'length', tostring(length)} end
if string.sub(redis.call('LINDEX', KEYS[1], -1) or '', 4, 67) ~= ARGV[4] then return {'other'} end
redis.call('RPUSH', KEYS[1], ARGV[2])
return {'ok'}
"""

# KEYS run, active, lease. ARGV what the lock holds, event, expected length, NO_TEXT. Whatever the three hold: the
# lock can always be taken away.
UNLOCK = """
local active = redis.pcall('GET', KEYS[2])
if type(active) == 'table' then active = ARGV[4] end
local length = redis.pcall('LLEN', KEYS[1])
local no_list = type(length) == 'table'
if no_list then length = 0 end
local expected = tonumber(ARGV[3])
if not no_list and length == expected + 1 and redis.call('LINDEX', KEYS[1], -1) == ARGV[2] then return {'ok'} end
if active ~= ARGV[1] then return {'ended'} end
if length ~= expected then return {'length', tostring(length)} end
if length > 0 then redis.call('RPUSH', KEYS[1], ARGV[2]) end
redis.call('DEL', KEYS[2], KEYS[3])
return {'ok'}
"""

# KEYS the key. ARGV nonce, time to live in ms.
ONCE = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'ok'} end
if redis.call('GET', KEYS[1]) == ARGV[1] then return {'ok'} end
return {'seen'}
"""
