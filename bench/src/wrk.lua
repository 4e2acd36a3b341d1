-- Sends the requests of a file, one path a line, over and over. Each thread begins at another place.

local threads = 0

function setup(thread)
   thread:set("number", threads)
   threads = threads + 1
end

local requests = {}
local last = 0

function init(args)
   local made = {}
   for path in io.lines(args[1]) do
      made[path] = made[path] or wrk.format("GET", path)
      requests[#requests + 1] = made[path]
   end
   last = math.floor(#requests * number / 7)
end

function request()
   last = last % #requests + 1
   return requests[last]
end

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests":%d,"duration_us":%d,"status":%d,"broken":%d,"mean_us":%f,"p50_us":%f,"p99_us":%f}\n',
      summary.requests, summary.duration, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout,
      latency.mean, latency:percentile(50), latency:percentile(99)))
end
