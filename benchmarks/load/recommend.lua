-- wrk asks `recommend` for one random user a request: wrk -s recommend.lua URL -- USERS [MEAN_PAUSE_MS]
-- With a pause, every connection waits before each request for a random (exponential) time: many connections together
-- are arrivals at random, whether or not the server keeps up.
local users, pause
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"

function init(args)
   math.randomseed(7)
   users, pause = {}, tonumber(args[2])
   for line in io.lines(args[1]) do users[#users + 1] = line end
end

function delay()
   return pause and math.floor(-pause * math.log(1 - math.random()) + 0.5) or 0
end

function request()
   local user = users[math.random(#users)]
   return wrk.format(nil, nil, nil, '{"signature_name":"recommend","inputs":{"user_id":["' .. user ..
      '"],"history":[[""]],"exclude":[[""]],"allow":[[""]]}}')
end

function done(summary, latency)
   local failed = summary.errors
   io.write(string.format("RESULT %.1f %.2f %.2f %.2f %d\n", summary.requests / summary.duration * 1e6,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency:percentile(99.9) / 1e3,
      failed.connect + failed.read + failed.write + failed.status + failed.timeout))
end
