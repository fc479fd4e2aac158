-- lane_gate(): who of a task type may enter its streams, and when: limits, rates, turns and order by lane. Its
-- functions are made with the first task that has a lane.
-- gate_close(): looks at what was touched, admits who may go and writes the books back. Each script calls it
-- once, behind its last change of a stream. Nothing else changes `turns`, `ripe` and `slots`.
--
-- A slot is an entry with a claim `l`: `slots` has what is held of each lane, with the TAT of its rate (GCRA, in
-- us), its finish in virtual time (fair share), until when it is held back, the dead letter that halts it, and while
-- recount is under way what that has counted, with its stamp; in field '' the TAT of the type, the virtual time and that of the last newcomer. `turns` has the lanes
-- that may go, `ripe` when to look at those again that time alone lets go (ms; '' is the type itself). Both
-- are a function of a lane's first row, its record, the rules and the clock: who changes one of these has the lane
-- looked at.
-- USES changed field lane_row lane_rules dead_letter ring
-- KEYS lanes turns ripe slots limits policy index counters high normal low suspect doorbell
local STEPS = 100  -- looks at timers and admissions in one call; the rest is the next one's
local gate_made, gate_tell, gate_buries = nil, nil, true

local function lane_gate()
  if gate_made then return gate_made end
  local b = lane_rules()
  local now_ms, now, whole, record, ready_at, used, room = b.now_ms, b.now, b.whole, b.record, b.ready_at, b.used, b.room
  local g, budget, more, started, earliest = {}, STEPS, false, false, nil
  local turning, timed = redis.call('ZCARD', turns), redis.call('ZCARD', ripe)
  local touched, listed, doorbell_there, died = {}, {}, nil, 0
  local into = {h = high, n = normal, l = low}

  -- tostring() gives 14 digits; times and scores have more.
  local function exact(value) return string.format('%.17g', value) end

  local function spend(of, cost)
    if not of.interval then return end
    -- Never beyond the whole burst, as one that was forced would be.
    of.tat = math.min(math.max(of.tat, now) + math.min(cost, of.burst) * of.interval, now + of.burst * of.interval)
  end

  local function draw() return redis.call('HINCRBY', counters, 'sequence', 1) end

  local function bury(row)
    local stamp = string.format('%.0f', now_ms)
    redis.call('ZREM', lanes, row)
    dead_letter(new_id(stamp), {'undecodable', 'n', stamp, {'raw', row}, 'undecodable'})
    died = died + 1  -- the books of a settlement are written at its end
  end

  -- A row that is none of ours becomes a dead letter. Who may not write these passes it over: the daemon will.
  local function set_aside(r, row)
    r.head = nil
    if gate_buries then bury(row) else r.behind = row end
  end

  -- The first row of a lane; false where it has none.
  local function head_of(lane, r)
    while r.head == nil do
      local from = r.behind and '(' .. r.behind or '[' .. lane .. '\0'
      local row = redis.call('ZRANGE', lanes, from, '(' .. lane .. '\1', 'BYLEX', 'LIMIT', 0, 1)[1]
      r.head = row and lane_row(row) or false
      if row and not r.head then set_aside(r, row) end
    end
    return r.head
  end

  local function set_timer(lane, at)
    if at then
      local ms = math.ceil(at / 1000)
      timed = timed + redis.call('ZADD', ripe, string.format('%.0f', ms), lane)
      if not earliest or ms < earliest then earliest = ms end
    elseif timed > 0 then
      timed = timed - redis.call('ZREM', ripe, lane)
    end
  end

  -- A lane that comes in after it had nothing waiting, or was shut, starts at the present virtual time. Each
  -- newcomer moves that on a little: else those who had a turn would starve behind ever new lanes.
  local function score_of(r, head)
    if not whole.fair then return head.rank end
    if r.f > whole.v then return r.f end
    whole.n = math.max(whole.v, math.min(whole.n + 1 / whole.window, whole.v + 1))
    return whole.n
  end

  local function may(r, head) return r.halt == '' and r.held < r.running, ready_at(r, head.cost, head.due) end

  local function place_in_turns(lane, r, head, score)
    local want = score and whole.fair and score or score_of(r, head)
    if want ~= score then turning = turning + redis.call('ZADD', turns, exact(want), lane) end
  end

  -- new: the lane is not in `turns`, or what is there is void.
  local function look(lane, new)
    local r = record(lane)
    local head = head_of(lane, r)
    local score = not new and turning > 0 and tonumber(redis.call('ZSCORE', turns, lane) or nil) or nil
    local free, ready, timer = false, 0, nil
    if head then
      free, ready = may(r, head)
      if free and ready > now then timer = ready end
    elseif r.held == 0 then
      r.f = 0
      timer = math.max(r.tat, r.till)
      if timer <= now then timer = nil end
    end
    if head and free and ready <= now then
      place_in_turns(lane, r, head, score)
    elseif turning > 0 and (score or new) then
      turning = turning - redis.call('ZREM', turns, lane)
      if head and score and whole.fair and score > whole.v then r.f = score end
    end
    set_timer(lane, timer)
  end

  function g.touch(lane)
    if touched[lane] then return end
    touched[lane] = true
    listed[#listed + 1] = lane
  end

  local function look_at_timers()
    if started then return end
    started = true
    if timed == 0 then return end
    local due = redis.call('ZRANGE', ripe, '-inf', string.format('%.0f', now_ms), 'BYSCORE', 'LIMIT', 0, STEPS)
    for _, lane in ipairs(due) do
      budget = budget - 1
      if lane == '' then set_timer('') else look(lane) end
    end
    more = #due == STEPS
  end

  -- An entry that holds a slot was added at a place, or taken away: a count that is under way has seen it or not.
  local function tally(r, place, by)
    if b.counting and lane_passed(b.counting, place) then r.counted = math.max(0, r.counted + by) end
  end

  -- Into its stream: an entry that holds a slot. Of an ordered type it carries a number that only grows.
  local function enter(letter, fields, number, lane)
    fields = laned(fields, 'l', number, lane)
    if whole.order then fields = changed(fields, {g = string.format('%.0f', draw())}) end
    local entry = redis.call('XADD', into[letter], '*', unpack(fields))
    if doorbell_there == nil then doorbell_there = redis.call('EXISTS', doorbell) == 1 end
    if doorbell_there then ring(into[letter]) end
    entry = letter .. entry
    tally(record(lane), entry, 1)
    return entry
  end

  local function charge(r, cost, score)
    r.held = r.held + 1
    if b.entries then b.entries = b.entries + 1 end
    spend(r, cost)
    spend(whole, cost)
    if not whole.fair then return end
    whole.v = math.max(whole.v, score)
    r.f = score + cost / r.weight
  end

  local function admit(lane, r, score)
    local head = r.head
    local fields = row_packed(head)
    r.head = nil
    if not fields then return set_aside(r, head.row) end
    local id = field(fields, 'i')
    local place = enter(head.letter, fields, head.number, lane)  -- before the row goes: a full stream loses nothing
    redis.call('ZREM', lanes, head.row)
    if id then redis.call('HSET', index, id, place) end
    charge(r, head.cost, score)
  end

  -- New rows go behind those that wait, so mostly the first row stays what it was.
  local function park(lane, r, digit, number, letter, cost, due, fields, id)
    id = id or string.format('d%.0f-%.0f', now_ms, number)
    local key = digit .. string.format('%015.0f', number)
    local rest = {}
    for n = 1, #fields, 2 do
      if fields[n] ~= 'i' and fields[n] ~= 'g' then
        rest[#rest + 1] = fields[n]
        rest[#rest + 1] = fields[n + 1]
      end
    end
    rest[#rest + 1] = 'i'
    rest[#rest + 1] = id
    due = due and due > now_ms and string.format('%.0f', due) or ''
    local head = r.head
    local row = table.concat({
      lane, '\0', key, letter, string.format('%.0f', cost), ';', due, ';', cmsgpack.pack(laned(rest))})
    redis.call('ZADD', lanes, 0, row)
    redis.call('HSET', index, id, 'k' .. key .. lane)
    if head == nil or not head or tonumber(digit) * 1e15 + number < head.rank then
      r.head = nil
      look(lane)
    end
    return id
  end

  local DIGITS = {h = '1', n = '2', l = '3'}

  -- A task asks to run. Straight to its stream where nobody waits who could go first; else it is parked. number:
  -- of one that has asked before; due (ms): not before then. Answers its id, and whether it was parked.
  function g.arrive(lane, cost, letter, fields, id, number, due)
    look_at_timers()
    local r = record(lane)
    number = number and tonumber(number) > 0 and tonumber(number) or draw()
    cost = math.max(1, math.min(tonumber(cost) or 1, 999999999))
    local direct = turning == 0 and not head_of(lane, r) and not (due and due > now_ms)
    if direct and r.halt == '' and r.held < r.running and ready_at(r, cost, 0) <= now
      and ready_at(whole, cost, 0) <= now and room() > 0 then
      charge(r, cost, math.max(r.f, whole.v))
      local place = enter(letter, fields, number, lane)
      if id then redis.call('HSET', index, id, place) end
      return id or place, false
    end
    head_of(lane, r)
    return park(lane, r, DIGITS[letter], number, letter, cost, due, fields, id), true
  end

  -- A slot comes back: its entry is gone. An ordered lane that halts is shut by its first dead letter.
  function g.release(lane, id, how, place)
    local r = record(lane)
    tally(r, place, -1)
    local before = r.held
    r.held = math.max(0, before - 1)
    if how == 'd' and whole.halt and r.ordered and r.halt == '' then r.halt = id end
    if r.held == 0 or before >= r.running then g.touch(lane) end
  end

  -- An entry that holds a slot, or a row of the schedule, was moved to the end of a stream.
  function g.moved(lane, place, letter)
    tally(record(lane), place, -1)
    tally(record(lane), letter, 1)
  end

  -- A task asks again, under its number: as the lane's first, not before `due` (ms). hold (ms): nor any other of
  -- its lane before then.
  function g.again(lane, number, letter, fields, id, due, hold)
    local r = record(lane)
    if hold then r.till = math.max(r.till, hold * 1000) end
    g.touch(lane)
    g.arrive(lane, field(fields, 'w'), letter, fields, id, number, due)
  end

  -- Only the letter that shut an ordered lane opens it.
  function g.open(lane, id)
    local r = record(lane)
    if r.halt ~= id then return end
    r.halt = ''
    g.touch(lane)
  end

  -- Take a parked task away.
  function g.take(found)
    redis.call('ZREM', lanes, found.row)
    record(found.lane).head = nil
    g.touch(found.lane)
  end

  -- Other fields, at the same place in its lane unless its priority is another.
  function g.rewrite(found, letter, cost, fields, due)
    g.take(found)
    local digit = found.digit == '0' and '0' or DIGITS[letter]
    park(found.lane, record(found.lane), digit, tonumber(found.number), letter, cost, due, fields, field(fields, 'i'))
  end

  -- Past all limits, and counted in them.
  function g.force(found, fields)
    local r = record(found.lane)
    local place = enter(found.letter, fields, found.number, found.lane)
    g.take(found)
    redis.call('HSET', index, field(fields, 'i'), place)
    charge(r, found.cost, math.max(r.f, whole.v))
  end

  -- To the front of its lane.
  function g.bring(found, fields)
    g.take(found)
    park(found.lane, record(found.lane), '0', tonumber(found.number), found.letter, found.cost, nil, fields,
      field(fields, 'i'))
  end

  -- Look at the next lanes that have rows, as the rules are others: nil when all have been.
  function g.sweep(cursor, most)
    for _ = 1, most do
      local row = redis.call(
        'ZRANGE', lanes, cursor == '' and '-' or '(' .. cursor .. '\1', '+', 'BYLEX', 'LIMIT', 0, 1)[1]
      if not row then return nil end
      cursor = string.match(row, '^([^%z]+)%z') or row
      g.touch(cursor)
    end
    return cursor
  end

  local function admit_all()
    while turning > 0 and room() > 0 do
      if budget <= 0 then
        more = true
        return
      end
      budget = budget - 1
      local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
      local lane, score = first[1], tonumber(first[2])
      local r = record(lane)
      local head = head_of(lane, r)
      local free, ready = false, 0
      if head then free, ready = may(r, head) end
      if not free or ready > now then
        look(lane)
      else
        local token = ready_at(whole, head.cost, 0)
        if token > now then return set_timer('', token) end
        admit(lane, r, score)
        look(lane, true)
      end
    end
  end

  local function text_of(value, from) return value > from and exact(value) or '' end

  local written, void = {}, {}
  local function keep(lane, text)
    if not string.find(text, '[^;]') then text = '' end
    if text == b.kept[lane] then return end
    if text == '' then
      void[#void + 1] = lane
    else
      written[#written + 1] = lane
      written[#written + 1] = text
    end
  end

  local function flush()
    for n = 1, #written, 1000 do redis.call('HSET', slots, unpack(written, n, math.min(n + 999, #written))) end
    for n = 1, #void, 1000 do redis.call('HDEL', slots, unpack(void, n, math.min(n + 999, #void))) end
  end

  local function counted_of(r)
    return b.counting and r.counted > 0 and string.format('%.0f@%s', r.counted, b.counting.stamp) or nil
  end

  local function save()
    for lane, r in pairs(b.records) do
      keep(lane, table.concat({
        text_of(r.held, 0), text_of(r.tat, now), text_of(r.f, 0), text_of(r.till, now), r.halt, counted_of(r)}, ';'))
    end
    keep('', table.concat({text_of(whole.tat, now), text_of(whole.v, 0), text_of(whole.n, 0)}, ';'))
    flush()
  end

  -- A registration by an older release took the rules out of the policy. In the meantime older scripts may have ended
  -- tasks that held a slot, and what was to be looked at was taken away too: so all lanes are looked at and counted.
  local function restore(found)
    redis.call('HSET', policy, 'gate', found.gate, 'sweep', '', 'recount', '1')
    if found.lane then redis.call('HSET', policy, 'lane', found.lane) end
  end

  function g.close()
    b.entries = nil
    for _, lane in ipairs(listed) do look(lane) end
    look_at_timers()
    admit_all()
    if more then set_timer('', now) end
    if (whole.v > 0 or whole.n > 0) and redis.call('EXISTS', lanes) == 0 and used() == 0 then whole.v, whole.n = 0, 0 end
    save()
    if b.stored.lost then restore(b.stored) end
    if died > 0 then redis.call('HINCRBY', counters, 'dead', died) end
    if b.stored.lost and gate_tell then
      gate_tell()
    elseif earliest and gate_tell then
      local head = redis.call('ZRANGE', ripe, 0, 0, 'WITHSCORES')
      if head[2] and tonumber(head[2]) >= earliest then gate_tell() end
    end
  end

  -- A count of what lanes hold, which begins or goes on.
  function g.begin()
    if not b.counting then
      redis.call('HDEL', policy, 'recount')
      b.counting = {stamp = exact(now), letter = 's', cursor = ''}
    end
    return b.counting
  end

  g.record, g.now, g.counting = record, now, b.counting ~= nil
  gate_made = g
  return g
end

local function gate_close()
  if gate_made then gate_made.close() end
end
