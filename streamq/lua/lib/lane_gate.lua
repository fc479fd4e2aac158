-- lane_gate(): return the gate of a task type: who may enter its streams, and when, by limits, rates, turns and the order
-- in each lane. The functions are created when the first task with a lane needs them.
-- gate_close(): update the lanes that were touched, admit who may run, and write the records back. A script calls it once,
-- after its last change of a stream. Nothing else changes `turns`, `ripe` and `slots`.
--
-- A slot is an entry with a claim `l`. `slots` has a record for each lane, its parts separated by `;`: the slots that are
-- held; the TAT of its rate (GCRA, in us); its finish in virtual time (fair share); until when it is held back; the id
-- of the dead letter that halts it; and, during a recount, the slots counted so far and the stamp of that count. The
-- record in field '' is the type's: the TAT of its rate, the virtual time, and the start of the newest lane.
-- `turns` has the lanes whose first task may run. `ripe` has the lanes that only wait for a moment (ms), and '' if the type
-- itself does. Both follow from a lane's first row, its record, the rules and the clock, so whoever changes one of
-- these calls `touch(lane)`.
-- USES changed field lane_row lane_rules dead_letter ring
-- KEYS lanes turns ripe slots limits policy index counters high normal low suspect doorbell
local STEPS = 100  -- timers and admissions that one call handles; the next call handles the rest
local gate_made, gate_tell, gate_buries = nil, nil, true

local function lane_gate()
  if gate_made then return gate_made end
  local b = lane_rules()
  local now_ms, now, whole, record, ready_at, used, room = b.now_ms, b.now, b.whole, b.record, b.ready_at, b.used, b.room
  local g, budget, more, started, earliest = {}, STEPS, false, false, nil
  -- Nearly always nobody waits, and all three are empty.
  local waiting = redis.call('EXISTS', turns, ripe, lanes) > 0
  local turning, timed = waiting and redis.call('ZCARD', turns) or 0, waiting and redis.call('ZCARD', ripe) or 0
  local touched, listed, doorbell_there, died = {}, {}, nil, 0
  local into, endless = {h = high, n = normal, l = low}, whole.room == math.huge

  -- tostring() gives 14 digits; times and scores have more. A whole number is the same text, and costs a quarter.
  local function exact(value)
    if value % 1 == 0 and value < 1e15 and value > -1e15 then return string.format('%d', value) end
    return string.format('%.17g', value)
  end

  local function spend(of, cost)
    -- A forced task could go beyond the burst: that is not carried over.
    of.tat = math.min(math.max(of.tat, now) + math.min(cost, of.burst) * of.interval, now + of.burst * of.interval)
  end

  -- g.fetch(names): these lanes will be asked, so their records and places in `turns` are read together.
  -- g.expect(n): so many numbers will be needed, and nobody else draws some in between, so they are drawn together; new rows
  -- are written together.
  -- scores: of lanes that nobody has updated since; false if a lane is not in `turns`.
  local drawn, left, scores = 0, 0, {}
  function g.expect(number) g.expected, g.together = number, true end

  function g.fetch(names)
    b.fetch(names)
    for first = 1, turning > 0 and #names or 0, 1000 do
      local last = math.min(first + 999, #names)
      local told = redis.call('ZMSCORE', turns, unpack(names, first, last))
      for n = first, last do scores[names[n]] = told[n - first + 1] and tonumber(told[n - first + 1]) end
    end
  end
  local function next_number()
    if left == 0 then
      left = g.expected or 1
      drawn, g.expected = redis.call('HINCRBY', counters, 'sequence', left) - left, nil
    end
    left, drawn = left - 1, drawn + 1
    return drawn
  end

  local function bury(row)
    local stamp = string.format('%.0f', now_ms)
    redis.call('ZREM', lanes, row)
    dead_letter(new_id(stamp), {'undecodable', 'n', stamp, {'raw', row}, 'undecodable'})
    died = died + 1  -- the books of a settlement are written at its end
  end

  -- A row that streamq did not write becomes a dead letter. A script that must not write dead letters skips the row: the
  -- daemon meets it later.
  local function set_aside(r, row)
    r.head = nil
    if gate_buries then bury(row) else r.behind = row end
  end

  -- Rows of admitted tasks go together, and so do their new places.
  local gone_rows, gone_places = {}, {}
  local function remove_admitted()
    if #gone_rows > 0 then redis.call('ZREM', lanes, unpack(gone_rows)) end
    if #gone_places > 0 then redis.call('HSET', index, unpack(gone_places)) end
    gone_rows, gone_places = {}, {}
  end

  -- Return the next row of a lane. While one lane alone is admitted from, several are read together.
  local admitting = false
  local function next_row(lane, r)
    if r.more and #r.more > 0 then return table.remove(r.more) end
    local from = r.behind and '(' .. r.behind or '[' .. lane .. '\0'
    local most = admitting and turning <= 1 and math.max(1, math.min(16, room())) or 1
    local rows = redis.call('ZRANGE', lanes, from, '(' .. lane .. '\1', 'BYLEX', 'LIMIT', 0, most)
    if most == 1 then return rows[1] end
    r.more = {}
    for n = #rows, 2, -1 do r.more[#r.more + 1] = rows[n] end
    return rows[1]
  end

  -- Return the first row of a lane; false if it has none.
  local rows_there = waiting and redis.call('EXISTS', lanes) == 1
  local new_rows, new_places, short_now = {}, {}, nil
  local function write_rows()
    for n = 1, #new_rows, 1000 do
      local last = math.min(n + 999, #new_rows)
      redis.call('ZADD', lanes, unpack(new_rows, n, last))
      redis.call('HSET', index, unpack(new_places, n, last))
    end
    if #new_rows > 0 then new_rows, new_places = {}, {} end
  end

  local function head_of(lane, r)
    if not rows_there then return false end
    while r.head == nil do
      write_rows()
      local row = next_row(lane, r)
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

  -- Return the score of a lane in `turns`. A lane that had nothing waiting, or was halted, starts at the present virtual
  -- time. Each such newcomer moves its start on a little: otherwise a stream of new lanes would starve the others.
  local function score_of(r, head)
    if not whole.fair then return head.rank end
    if r.finish > whole.virtual then return r.finish end
    whole.newest = math.max(whole.virtual, math.min(whole.newest + 1 / whole.window, whole.virtual + 1))
    return whole.newest
  end

  local function allowed(r, head) return r.halt == '' and r.held < r.running, ready_at(r, head.cost, head.due) end

  local alone, alone_at  -- the only lane in `turns`, where that is known, and its score
  local function place_in_turns(lane, r, head, score)
    local want = score and whole.fair and score or score_of(r, head)
    if want ~= score then turning = turning + redis.call('ZADD', turns, exact(want), lane) end
    if turning == 1 then alone, alone_at = lane, want end
  end

  -- Bring `turns` and `ripe` up to date for a lane. new: the lane is not in `turns`, or its score there is void.
  local function update(lane, new)
    local r, score = record(lane), scores[lane]
    scores[lane] = nil
    local head = head_of(lane, r)
    if new or turning == 0 then
      score = nil
    elseif score == nil then
      score = tonumber(redis.call('ZSCORE', turns, lane) or nil)
    end
    local free, ready, timer = false, 0, nil
    if head then
      free, ready = allowed(r, head)
      if free and ready > now then timer = ready end
    elseif r.held == 0 then
      r.finish = 0
      timer = math.max(r.tat, r.held_until)
      if timer <= now then timer = nil end
    end
    if head and free and ready <= now then
      place_in_turns(lane, r, head, score)
    elseif turning > 0 and (score or new) then
      turning, alone = turning - redis.call('ZREM', turns, lane), nil
      if head and score and whole.fair and score > whole.virtual then r.finish = score end
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
      if lane == '' then set_timer('') else update(lane) end
    end
    more = #due == STEPS
  end

  -- Correct a running recount after an entry that holds a slot was added (by 1) or removed (by -1) at a place that the
  -- recount has already passed.
  local function tally(r, place, by)
    if lane_passed(b.counting, place) then r.counted = math.max(0, r.counted + by) end
  end

  -- Append a task that holds a slot to its stream; return its place. In an ordered lane it carries a fence, a number that
  -- only grows.
  local function enter(letter, fields, number, lane)
    fields = laned(fields, 'l', number, lane)
    if whole.order then fields = changed(fields, {g = string.format('%.0f', next_number())}) end
    local entry = redis.pcall('XADD', into[letter], '*', unpack(fields))
    if type(entry) == 'table' then  -- a full stream: the rows of those before it go nevertheless
      remove_admitted()
      error(entry)
    end
    if doorbell_there == nil then doorbell_there = redis.call('EXISTS', doorbell) == 1 end
    if doorbell_there then ring(into[letter]) end
    entry = letter .. entry
    if b.counting then tally(record(lane), entry, 1) end
    return entry
  end

  local function charge(r, cost, score)
    r.held = r.held + 1
    if b.entries then b.entries = b.entries + 1 end
    if r.interval then spend(r, cost) end
    if whole.interval then spend(whole, cost) end
    if not whole.fair then return end
    whole.virtual = math.max(whole.virtual, score)
    r.finish = score + cost / r.weight
  end

  local function admit(lane, r, score)
    local head = r.head
    local fields = row_packed(head)
    r.head = nil
    if not fields then return set_aside(r, head.row) end
    local id = field(fields, 'i')
    local place = enter(head.letter, fields, head.number, lane)  -- before the row goes: a full stream loses nothing
    gone_rows[#gone_rows + 1], r.behind = head.row, head.row
    if id then gone_places[#gone_places + 1], gone_places[#gone_places + 2] = id, place end
    charge(r, head.cost, score)
  end

  local function without_id(fields)
    local rest = {}
    for n = 1, #fields, 2 do
      if fields[n] ~= 'i' and fields[n] ~= 'g' then
        rest[#rest + 1] = fields[n]
        rest[#rest + 1] = fields[n + 1]
      end
    end
    return rest
  end

  -- Return whether a row of this rank changes nothing for its lane but its length, so that nobody need read the first row.
  local function unmoved(lane, r, free, rank)
    local score = scores[lane]
    if score then
      if whole.fair then return not r.interval end
      return rank > score
    end
    return not free and timed == 0 and (score == false or turning == 0)
  end

  -- Add a row to a lane; return the task's id. Most rows are added behind others, and then the lane's first row is the same.
  local function park(lane, r, digit, number, letter, cost, due, fields, id, unmoved_)
    local rest, short = id and without_id(fields) or fields, nil
    if not id then
      id, short_now = string.format('d%d-%d', now_ms, number), short_now or short_ms(now_ms)
      short = short_now
    end
    local key = digit .. string.format('%015d', number)
    local size = #rest
    rest[size + 1], rest[size + 2] = 'i', short or id
    due = due and due > now_ms and string.format('%.0f', due) or ''
    local head = r.head
    local row = lane .. '\0' .. key .. letter .. (cost == 1 and '1' or string.format('%.0f', cost)) .. ';' .. due .. ';'
      .. cmsgpack.pack(laned(rest))
    local count = #new_rows
    new_rows[count + 1], new_rows[count + 2] = 0, row
    new_places[count + 1], new_places[count + 2] = id, place_of(digit, number, lane)
    if not g.together then write_rows() end
    rows_there = true
    if unmoved_ and not head then return id end
    if head == nil or not head or tonumber(digit) * 1e15 + number < head.rank then
      r.head = nil
      update(lane)
    end
    return id
  end

  local DIGITS = {h = '1', n = '2', l = '3'}

  -- In an ordered lane no priority counts: a sender that does not know the rules may ask for one.
  local function digit_of(r, letter) return r.ordered and '2' or DIGITS[letter] end

  -- Let a task run now if the limits allow it and no other has the first right; otherwise park it. number: its place in the
  -- order, if it has one already. due (ms): not before then. Return its id, and whether it was parked.
  function g.arrive(lane, cost, letter, fields, id, number, due)
    if not started then look_at_timers() end
    local r = record(lane)
    number = number and tonumber(number) > 0 and tonumber(number) or next_number()
    cost = cost and math.max(1, math.min(tonumber(cost) or 1, 999999999)) or 1
    local free = r.halt == '' and r.held < r.running
    local direct = free and turning == 0 and not (rows_there and head_of(lane, r)) and not (due and due > now_ms)
    if direct and ready_at(r, cost, 0) <= now
      and (not whole.interval or ready_at(whole, cost, 0) <= now) and (endless or room() > 0) then
      charge(r, cost, math.max(r.finish, whole.virtual))
      local place = enter(letter, fields, number, lane)
      if id then redis.call('HSET', index, id, place) end
      return id or place, false
    end
    local digit = digit_of(r, letter)
    local still = not due and unmoved(lane, r, free, tonumber(digit) * 1e15 + number)
    if not still then head_of(lane, r) end
    return park(lane, r, digit, number, letter, cost, due, fields, id, still), true
  end

  -- Give back the slot of an entry that is gone. With on_dead="halt", the first dead letter halts its ordered lane.
  function g.release(lane, id, how, place)
    local r = record(lane)
    if b.counting then tally(r, place, -1) end
    local before = r.held
    r.held = before > 0 and before - 1 or 0
    if how == 'd' and whole.halt and r.ordered and r.halt == '' then r.halt = id end
    if r.held == 0 or before >= r.running then g.touch(lane) end
  end

  -- Correct a running recount after an entry that holds a slot, or a row of the schedule, moved to the end of a stream.
  function g.moved(lane, place, letter)
    if not b.counting then return end
    tally(record(lane), place, -1)
    tally(record(lane), letter, 1)
  end

  -- Let a task ask again under its number, so ahead of its lane, not before `due` (ms). hold (ms): no other task of the lane
  -- starts before then.
  function g.again(lane, number, letter, fields, id, due, hold)
    local r = record(lane)
    if hold then r.held_until = math.max(r.held_until, hold * 1000) end
    g.touch(lane)
    g.arrive(lane, field(fields, 'w'), letter, fields, id, number, due)
  end

  -- Resume an ordered lane. Only the dead letter that halted it does.
  function g.open(lane, id)
    local r = record(lane)
    if r.halt ~= id then return end
    r.halt = ''
    g.touch(lane)
  end

  -- Remove a parked task.
  function g.take(found)
    redis.call('ZREM', lanes, found.row)
    record(found.lane).head = nil
    g.touch(found.lane)
  end

  -- Give a parked task other fields. It keeps its place in the lane unless its priority changes.
  function g.rewrite(found, letter, cost, fields, due)
    g.take(found)
    local r = record(found.lane)
    local digit = found.digit == '0' and '0' or digit_of(r, letter)
    park(found.lane, r, digit, tonumber(found.number), letter, cost, due, fields, field(fields, 'i'))
  end

  -- Let a parked task run now whatever the limits are. It counts towards them.
  function g.force(found, fields)
    local r = record(found.lane)
    local place = enter(found.letter, fields, found.number, found.lane)
    g.take(found)
    redis.call('HSET', index, field(fields, 'i'), place)
    charge(r, found.cost, math.max(r.finish, whole.virtual))
  end

  -- Move a parked task to the front of its lane.
  function g.bring(found, fields)
    g.take(found)
    park(found.lane, record(found.lane), '0', tonumber(found.number), found.letter, found.cost, nil, fields,
      field(fields, 'i'))
  end

  -- Touch the next `most` lanes with rows, because the rules have changed; return the cursor, nil after the last lane.
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
    admitting = true
    while turning > 0 and room() > 0 do
      if budget <= 0 then
        more = true
        return
      end
      budget = budget - 1
      local lane, score = alone, alone_at
      if not alone or turning > 1 then
        local first = redis.call('ZRANGE', turns, 0, 0, 'WITHSCORES')
        lane, score = first[1], tonumber(first[2])
      end
      local r = record(lane)
      local head = head_of(lane, r)
      local free, ready = false, 0
      if head then free, ready = allowed(r, head) end
      if not free or ready > now then
        update(lane)
      else
        local token = ready_at(whole, head.cost, 0)
        if token > now then return set_timer('', token) end
        admit(lane, r, score)
        update(lane, true)
      end
    end
  end

  local function text_of(value, from) return value > from and exact(value) or '' end

  local written, void = {}, {}
  local kept = b.kept
  local function put(lane, text)
    if text == kept[lane] then return end
    if text == '' then
      void[#void + 1] = lane
    else
      written[#written + 1] = lane
      written[#written + 1] = text
    end
  end

  local function keep(lane, text) put(lane, string.find(text, '[^;]') and text or '') end

  local function flush()
    for n = 1, #written, 1000 do redis.call('HSET', slots, unpack(written, n, math.min(n + 999, #written))) end
    for n = 1, #void, 1000 do redis.call('HDEL', slots, unpack(void, n, math.min(n + 999, #void))) end
  end

  local function counted_of(r)
    return b.counting and r.counted > 0 and string.format('%.0f@%s', r.counted, b.counting.stamp) or nil
  end

  local slots_text = {[0] = ''}
  local function save()
    local counting = b.counting
    for lane, r in pairs(b.records) do
      if r.tat <= now and r.finish <= 0 and r.held_until <= now and r.halt == '' and not counting then
        -- Nearly all: slots and nothing else.
        local text = slots_text[r.held]
        if not text then
          text = r.held .. ';;;;'
          slots_text[r.held] = text
        end
        put(lane, text)
      else
        local counted = counted_of(r)
        local text = text_of(r.held, 0) .. ';' .. text_of(r.tat, now) .. ';' .. text_of(r.finish, 0) .. ';'
          .. text_of(r.held_until, now) .. ';' .. r.halt
        keep(lane, counted and text .. ';' .. counted or text)
      end
    end
    keep('', table.concat({text_of(whole.tat, now), text_of(whole.virtual, 0), text_of(whole.newest, 0)}, ';'))
    flush()
  end

  -- Write the rules back that a registration by an older release removed from the policy. Meanwhile older scripts may have
  -- ended tasks that held a slot, without giving it back, so all lanes are updated and counted anew.
  local function restore(found)
    redis.call('HSET', policy, 'gate', found.gate, 'sweep', '', 'recount', '1')
    if found.lane then redis.call('HSET', policy, 'lane', found.lane) end
  end

  -- Give back what was drawn and not used, unless somebody has drawn since.
  local function settle_numbers()
    if left > 0 and tonumber(redis.call('HGET', counters, 'sequence')) == drawn + left then
      redis.call('HINCRBY', counters, 'sequence', -left)
    end
    left = 0
  end

  function g.close()
    settle_numbers()
    write_rows()
    b.entries = nil
    for _, lane in ipairs(listed) do update(lane) end
    look_at_timers()
    admit_all()
    remove_admitted()
    if more then set_timer('', now) end
    if (whole.virtual > 0 or whole.newest > 0) and redis.call('EXISTS', lanes) == 0 and used() == 0 then
      whole.virtual, whole.newest = 0, 0
    end
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

  -- Return the state of the recount, begun now if none is under way.
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
