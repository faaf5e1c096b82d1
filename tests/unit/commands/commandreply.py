"""Facts written as a server's COMMAND INFO entry, to be read back (in RESP2, as hiredis decodes it)."""

from proxy.commands.facts import BeginIndex, BeginKeyword, Fact, FindKeynum, FindRange, KeySpec
from proxy.commands.legacy import legacy_range


def command_info(fact: Fact) -> list[object]:
    """[name, arity, flags, first, last, step, categories, tips, key specs, subcommands]."""
    span, _ = legacy_range(fact.key_specs)
    return [
        fact.name.encode(),
        fact.arity,
        [flag.encode() for flag in sorted(fact.flags)],
        *span,
        [b"@" + category.encode() for category in sorted(fact.categories)],
        [tip.encode() for tip in fact.tips],
        [_spec(spec) for spec in fact.key_specs],
        [command_info(sub) for sub in fact.subcommands.values()],
    ]


def _spec(spec: KeySpec) -> list[object]:
    notes: list[object] = [b"notes", spec.notes.encode()] if spec.notes else []
    flags = [flag.encode() for flag in sorted(spec.flags)]
    return [*notes, b"flags", flags, b"begin_search", _begin(spec), b"find_keys", _find(spec)]


def _begin(spec: KeySpec) -> list[object]:
    match spec.begin:
        case BeginIndex(index):
            return [b"type", b"index", b"spec", [b"index", index]]
        case BeginKeyword(keyword, startfrom):
            return [b"type", b"keyword", b"spec", [b"keyword", keyword, b"startfrom", startfrom]]
        case None:
            return [b"type", b"unknown", b"spec", []]


def _find(spec: KeySpec) -> list[object]:
    match spec.find:
        case FindRange(lastkey, keystep, limit):
            return [b"type", b"range", b"spec", [b"lastkey", lastkey, b"keystep", keystep, b"limit", limit]]
        case FindKeynum(numidx, first, step):
            return [b"type", b"keynum", b"spec", [b"keynumidx", numidx, b"firstkey", first, b"keystep", step]]
        case None:
            return [b"type", b"unknown", b"spec", []]
