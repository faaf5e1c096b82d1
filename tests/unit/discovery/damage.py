"""Replies with one odd part: what a newer server, or a broken one, could say. All from a seeded ``Random``."""

from random import Random

_ODD_WORDS = (
    "",
    "x",
    "-",
    "²",
    "0x7",
    "-1",
    "99999999999999999999999",
    "a,b,c",
    "::",
    "[9->",
    "7-",
    "9-7",
    "\x00",
    "é",
)
_ODD_VALUES: tuple[object, ...] = (
    None,
    b"",
    b"x",
    b"\xff\xfe",
    -1,
    0,
    70000,
    2**62,
    [],
    [b"x"],
    [[[]]],
    b"7000",
    {"a": 1},
)


def damaged_line(rng: Random, line: str) -> str:
    """A line of words as ``line``, but for one thing."""
    words = line.split(" ")
    at = rng.randrange(len(words))
    match rng.choice(("cut", "drop", "add", "garble", "garble", "behind", "empty", "doubled")):
        case "cut":
            return " ".join(words[:at])
        case "drop":
            del words[at]
        case "add":
            words.insert(at, rng.choice(_ODD_WORDS))
        case "garble":
            words[at] = rng.choice((rng.choice(_ODD_WORDS), words[at][: len(words[at]) // 2], words[at] + "?"))
        case "behind":
            words.append(rng.choice(_ODD_WORDS))
        case "empty":
            return ""
        case "doubled":
            return f"{line}\n{line}"
    return " ".join(words)


def damaged(rng: Random, value: object) -> object:
    """A decoded reply as ``value``, but for one thing somewhere in it."""
    if not isinstance(value, list) or not value or rng.random() < 0.1:
        return rng.choice(_ODD_VALUES)
    made = [*value]
    at = rng.randrange(len(made))
    match rng.choice(("deeper", "deeper", "deeper", "drop", "add", "cut")):
        case "deeper":
            made[at] = damaged(rng, made[at])
        case "drop":
            del made[at]
        case "add":
            made.insert(at, rng.choice(_ODD_VALUES))
        case "cut":
            del made[at:]
    return made
