# redis-rb at HOST PORT: what an application does, and what it got, a JSON text a line.
require "json"
require "redis"

HOST, PORT = ARGV
Redis.silence_deprecations = true

def connect = Redis.new(host: HOST, port: PORT.to_i, timeout: 20)

def say(what, value)
  puts JSON.generate([what, value])
end

def failure
  yield
rescue Redis::BaseError => e
  e.message
end

# A thread with a connection of its own: does its work once INFO shows the line.
def meanwhile(line)
  Thread.new do
    other = connect
    2000.times do
      break if other.call("INFO").include?("\r\n#{line}\r\n")
      sleep 0.005
    end
    yield other
    other.close
  end
end

redis = connect
other = connect
say "ping", [redis.ping, redis.ping("hello"), redis.echo("text")]
say "strings", [redis.set("text", "x", ex: 100), redis.get("text"), redis.ttl("text"), redis.get("none")]
say "many", [redis.mset("a", 1, "b", 2, "c", 3), redis.mget("a", "none", "c"), redis.del("a", "b", "none")]
say "hash", [redis.hset("hash", { "f" => "v", "g" => 2 }), redis.hgetall("hash").sort, redis.hincrby("hash", "g", 5)]
say "zset", [redis.zadd("zset", [[1.5, "one"], [2, "two"]]), redis.zrange("zset", 0, -1, with_scores: true)]
say "stream", [redis.xadd("stream", { "f" => "v" }, id: "1-1"), redis.xrange("stream")]
redis.select(3)
say "another database", [redis.get("text"), redis.dbsize]
redis.select(0)

results = redis.pipelined do |pipeline|
  200.times { |number| pipeline.set("key:#{number}", number); pipeline.get("key:#{number}"); pipeline.incr("key:#{number}") }
end
say "pipeline", [results.size, results.last(3), results.grep(Integer).sum]
say "scan", redis.scan_each(match: "key:*", count: 100).to_a.uniq.size

say "transaction", redis.multi { |block| block.set("{t}a", 1); block.incrby("{t}a", 4); block.get("{t}a") }
say "an error inside", failure { redis.multi { |block| block.set("{t}a", 1); block.lpush("{t}a", "x") } }
say "discarded", failure { redis.multi { |block| block.set("{t}a", "lost"); block.call(["NOSUCH"]) } }
changed = redis.watch("{t}a") do
  other.set("{t}a", 10)
  redis.multi { |block| block.incr("{t}a") }
end
say "a watched key changed", changed
say "a watched key stayed", redis.watch("{t}a") { redis.multi { |block| block.incr("{t}a") } }

script = "return redis.call('incrby', KEYS[1], ARGV[1])"
sha = redis.script(:load, script)
say "scripts", [redis.eval(script, ["n"], [5]), redis.evalsha(sha, ["n"], [5]), redis.script(:exists, [sha, "none"])]
say "no script", failure { redis.evalsha("f" * 40, ["n"]) }
say "an error", failure { redis.lpush("text", "x") }

say "blocking, at once", [redis.rpush("{q}1", "one"), redis.blpop("{q}0", "{q}1", timeout: 5)]
say "blocking, in vain", redis.brpop("{q}0", timeout: 0.05)
thread = meanwhile("blocked_clients:1") { |connection| connection.rpush("{q}0", "late") }
say "blocking, served", redis.blpop("{q}0", "{q}1", timeout: 10)
thread.join
say "a consumer group", [
  redis.xgroup(:create, "stream", "group", "0"),
  redis.xreadgroup("group", "me", "stream", ">", count: 1, block: 100),
  redis.xack("stream", "group", "1-1"),
]

heard = []
thread = meanwhile("pubsub_channels:2") { |connection| %w[first second last].each { |text| connection.publish("news", text) } }
redis.subscribe("news", "weather") do |on|
  on.subscribe { |channel, count| heard << ["subscribed", channel, count] }
  on.message do |channel, message|
    heard << [channel, message]
    redis.unsubscribe("news", "weather") if message == "last"
  end
  on.unsubscribe { |channel, count| heard << ["unsubscribed", channel, count] }
end
thread.join
say "subscribed", heard
thread = meanwhile("pubsub_patterns:1") { |connection| connection.publish("news.it", "text") }
redis.psubscribe("n*") { |on| on.pmessage { |pattern, channel, text| say "by pattern", [pattern, channel, text]; redis.punsubscribe } }
thread.join
say "afterwards", [redis.publish("news", "nobody"), redis.pubsub(:numsub, "news"), redis.ping]
say "database", [redis.dbsize, redis.flushall, redis.dbsize]
