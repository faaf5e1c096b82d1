"""Whether a script may touch data, from its text."""

import time

import pytest

from proxy.planning.script_calls import touches_data

TOUCHES = [
    b"return redis.call('get','k')",
    b"local call = redis.call return call('get','k')",
    b"return redis['call']('get','k')",
    b"return redis [ [[call]] ]('get','k')",
    b"local r = redis",
    b"return {redis.call}",
    b"redis.log = redis.call",
    b"return redis--[[x]].call('get','k')",
    b"return redis. call('get', 'k')",
    b"return redis.call\n('get', 'k')",
    b"return server.call('get','k')",
    b"return keydb.call('get','k')",
    b"return _G['red'..'is'].call('x')",
    b"return loadstring('return red'..'is')()",
    b"return getfenv().x",
    b"redis.register_function('x',f)",
    b"redis.logx('x')",
    # the name of a command that is not written out, or that is about data
    b"return redis.call(ARGV[1],'k')",
    b"return redis.call('GE'..'T','k')",
    b"return redis.call('TIME'..'x')",
    b"return redis.call('t\\105me')",
    b"return redis.call 'DBSIZE'",
    b"return redis.call('spublish', 'c', 'm')",
    # what is a comment or a string, and what is not
    b"-- x\rreturn redis.call('get','k')",
    b"--[[ x ]] return redis.call('get','k')",
    b"--[=[ ]] ]=] return redis.call('get','k')",
    b"local x = [==[ ]] ]==] redis.call('get','k')",
    b"x = 'abc' redis.call('get', 'k')",
    b'return "\\\\" .. redis.call("get","k")',
    b"return 'a' ..redis.call('get','k')",
    b"return 1 --[[ ]] ..redis.pcall('get','k')",
    b"redis.sha1hex(redis.call('get','k'))",
    b"redis.call('PING', redis.call('get','k'))",
    b"x.y.redis=1 return redis",
    b"\xc3\xa9redis.call('get','k')",
    b"return 'unfinished redis.call(",
    b"return [[unfinished redis.call(",
    # a point or colon that makes no field of the name behind it
    b"-- Set it.\nredis.call('SET','k','x') return 1",
    b"-- get it:\nredis.call('get','k')",
    b"-- v1.0.\r\nredis.call('get','k')",
    b"-- v1.0.\rredis.call('get','k')",
    b"#!lua name=x.\nredis.call('get','k')",
    b"#!lua\n-- Set it.\nredis.call('SET','k','x')",
    b"--[[ Set it.]]redis.call('get','k')",
    b"--[[ Set it.]] \n redis.call('get','k')",
    b"local s='Set it.'redis.call('get','k')",
    b"local s=[[Set it.]]redis.call('get','k')",
    b"local x=1. redis.call('get','k')",
    b"local x=1.redis.call('get','k')",
    b"local x=0x1.\nredis.call('get','k')",
    b"::a::redis.call('get','k')",
    b"::a:: redis.call('get','k')",
    b"local x=...redis.call('get','k')",
    b"local x=... redis.call('get','k')",
    b"return 'a'..redis.call('get','k')",
    # a name that is given a value, and is used as well
    b"local redis = redis return redis.call('get','k')",
    b"local redis=redis",
    b"local redis\n= {} do local server end server.call('get','k')",
    b"local x = server",
    b"-- local\nredis.call('SET','k','x')",
    b"--[[ local ]] redis.call('SET','k','x')",
    b"local x = 'local' redis.call('SET','k','x')",
    b"xlocal redis.call('SET','k','x')",
    b"x = \xc3\xa9local redis.call('SET','k','x')",
    b"return redis == nil",
    b"return {redis = redis.call('get','k')}",
    b"load = load('x')",
    b"local function load() return redis.call('get','k') end",
    # other languages, compiled code, long ones
    b"#!js\nreturn 1",
    b"#!lua flags=no-writes\nreturn redis.call('get','x')",
    b"\x1bLua",
    b"return 1" + b" " * 20_000,
]
TOUCHES_NOT = [
    b"",
    b"return 1",
    b"while true do end",
    b"no script (",
    b"#!lua\nreturn 1",
    b"#!lua",
    b"return 'redis.call'",
    b"-- redis.call\nreturn 1",
    b"--[[ redis.call\n ]] return 1",
    b"return [[ redis.call ]]",
    b'return "\\" redis.call"',
    b"return x.redis",
    b"return x:redis()",
    b"return x[1].redis",
    b"-- Set it.\nreturn x.redis",
    b"local debug=false return 1",
    b"local server\nreturn 1",
    b"local load, debug = 1, 2",
    b"return cjson.encode({redis=1})",
    b"return cjson.encode({a = 1, server = {load = 2, debug\n= 3}})",
    b"for load = 1, 2 do end return 1",
    b"return redis.sha1hex('x')",
    b"redis.log(redis.LOG_WARNING, 'x') return redis.status_reply('OK')",
    b"return redis.error_reply('MOVED 1 x')",
    b"redis.setresp(3)",
    b"return redis.call('PING')",
    b"return redis.call( 'ECHO' , 'x')",
    b"return redis.call('time')[1]",
    b'return redis.pcall("publish", ARGV[1], "redis.call")',
]


@pytest.mark.parametrize("body", TOUCHES, ids=repr)
def test_it_may(body: bytes) -> None:
    assert touches_data(body)


@pytest.mark.parametrize("body", TOUCHES_NOT, ids=repr)
def test_it_does_not(body: bytes) -> None:
    assert not touches_data(body)


@pytest.mark.parametrize(
    "part",
    [
        b"redis.log(1) ",
        b"[[]]",
        b'"a"',
        b'"\\',
        b"[[",
        b"redis" + b" " * 100,
        b"--[[",
        b"x.redis ",
        b"local ",
        b"local redis ",
        b"redis=",
    ],
    ids=repr,
)
def test_no_text_takes_long(part: bytes) -> None:
    body = (b"redis.log(1)" + part * 5000)[: 16 * 1024]
    began = time.thread_time()
    touches_data(body)
    assert time.thread_time() - began < 0.1
