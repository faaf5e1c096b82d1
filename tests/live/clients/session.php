<?php
// phpredis at HOST PORT: what an application does, and what it got, a JSON text a line.
[, $host, $port] = $argv;

function connect(): Redis {
    global $host, $port;
    $redis = new Redis();
    $redis->connect($host, (int) $port, 10);
    $redis->setOption(Redis::OPT_READ_TIMEOUT, 20);
    return $redis;
}

function say(string $what, mixed $value): void {
    echo json_encode([$what, $value], JSON_THROW_ON_ERROR), "\n";
}

// Another process with a connection of its own: does its work once INFO shows the line.
function meanwhile(string $line, callable $work): int {
    $child = pcntl_fork();
    if ($child === 0) {
        $redis = connect();
        for ($waited = 0; $waited < 2000; $waited++) {
            if (str_contains($redis->rawCommand('INFO'), "\r\n$line\r\n")) {
                $work($redis);
                posix_kill(getmypid(), SIGKILL);
            }
            usleep(5000);
        }
        fwrite(STDERR, "INFO never showed $line\n");
        posix_kill(getmypid(), SIGKILL);
    }
    return $child;
}

$redis = connect();
say('ping', [$redis->ping(), $redis->ping('hello'), $redis->echo('text')]);
say('strings', [$redis->set('text', 'x', ['ex' => 100]), $redis->get('text'), $redis->ttl('text'), $redis->get('none')]);
say('many', [$redis->mSet(['a' => '1', 'b' => '2', 'c' => '3']), $redis->mGet(['a', 'none', 'c']), $redis->del('a', 'b', 'none')]);
say('hash', [$redis->hMSet('hash', ['f' => 'v', 'g' => '2']), $redis->hGet('hash', 'f'), $redis->hIncrBy('hash', 'g', 5)]);
say('zset', [$redis->zAdd('zset', 1.5, 'one', 2, 'two'), $redis->zRange('zset', 0, -1, true), $redis->zScore('zset', 'one')]);
say('stream', [$redis->xAdd('stream', '1-1', ['f' => 'v']), $redis->xRange('stream', '-', '+')]);
$redis->select(3);
say('another database', [$redis->get('text'), $redis->dbSize()]);
$redis->select(0);

$pipeline = $redis->multi(Redis::PIPELINE);
for ($number = 0; $number < 200; $number++) {
    $pipeline->set("key:$number", (string) $number)->get("key:$number")->incr("key:$number");
}
$results = $pipeline->exec();
say('pipeline', [count($results), array_slice($results, -3), array_sum(array_filter($results, 'is_int'))]);

$found = [];
$redis->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
$cursor = null;
while (($keys = $redis->scan($cursor, 'key:*', 100)) !== false) {
    $found += array_flip($keys);
}
say('scan', count($found));

say('transaction', $redis->multi()->set('{t}a', '1')->incrBy('{t}a', 4)->lPush('{t}a', 'x')->get('{t}a')->exec());
$redis->multi()->set('{t}a', 'lost');
say('discarded', [$redis->discard(), $redis->get('{t}a')]);
$other = connect();
$redis->watch('{t}a');
$other->set('{t}a', '10');
say('a watched key changed', $redis->multi()->incr('{t}a')->exec());
$redis->watch('{t}a');
say('a watched key stayed', $redis->multi()->incr('{t}a')->exec());

$script = "return redis.call('incrby', KEYS[1], ARGV[1])";
$sha = $redis->script('load', $script);
say('scripts', [$redis->eval($script, ['n', 5], 1), $redis->evalSha($sha, ['n', 5], 1), $redis->script('exists', $sha, 'none')]);
say('no script', [$redis->evalSha(str_repeat('f', 40), ['n'], 1), $redis->getLastError()]);
$redis->clearLastError();
say('an error', [$redis->lPush('text', 'x'), $redis->getLastError()]);
$redis->clearLastError();

say('blocking, at once', [$redis->rPush('{q}1', 'one'), $redis->blPop(['{q}0', '{q}1'], 5)]);
say('blocking, in vain', $redis->rawCommand('BRPOP', '{q}0', '0.05'));
$child = meanwhile('blocked_clients:1', fn (Redis $other) => $other->rPush('{q}0', 'late'));
say('blocking, served', $redis->blPop(['{q}0', '{q}1'], 10));
pcntl_waitpid($child, $status);
say('a consumer group', [
    $redis->xGroup('CREATE', 'stream', 'group', '0'),
    $redis->xReadGroup('group', 'me', ['stream' => '>'], 1, 100),
    $redis->xAck('stream', 'group', ['1-1']),
]);

$child = meanwhile('pubsub_channels:2', function (Redis $other): void {
    foreach (['first', 'second', 'last'] as $message) {
        $other->publish('news', $message);
    }
});
$heard = [];
try {
    $redis->subscribe(['news', 'weather'], function (Redis $redis, string $channel, string $message) use (&$heard): void {
        $heard[] = [$channel, $message];
        if ($message === 'last') {
            $redis->close();  // ends subscribe; after unsubscribe it would wait for more
        }
    });
} catch (RedisException $closed) {
    $redis = connect();
}
pcntl_waitpid($child, $status);
say('subscribed', $heard);
say('afterwards', [$redis->ping(), $redis->get('text')]);
say('database', [$redis->dbSize(), $redis->flushAll(), $redis->dbSize()]);
