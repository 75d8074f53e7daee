"""Changed copies of good files: every one follows from a seeded `random.Random`."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

NUMBERS = (
    *(
        0,
        1,
        -1,
        2,
        3,
        7,
        64,
        127,
        128,
        255,
        256,
        4096,
        65536,
        2**31 - 1,
        2**31,
        2**32,
        2**63,
        2**64,
    ),
    *(10**9, 10**30, 10**400, 0.5, -0.5, 1e-300, 1e9, 1e38, 1e308, 1e999, -1e999, float("nan")),
)
TEXTS = (
    "",
    " ",
    "x",
    "null",
    "\0",
    "é",
    "\ud800",
    "a" * 5000,
    "../x",
    "softnorm",
    "F4",
    "[",
    "1e5",
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [0], [[]], {"type": "x"}, [1, 1], [2, 2, 2])


_SHAPES = (
    "()|(0,)|(256,)|(256, 0)|(256, 4)|(4, 256)|(1, 256, 8)|(256, -8)|(256, 10**9)|"
    "(9999999999, 256)|(256, 8.0)|(True, 8)|None|(256, 8, [])"
)
_ODD = "\u0663\u00bd\u2013\u2212\uff11\u00b2\ud800\u200b\u221e\u00e9"


def any_value(rng: random.Random) -> Any:
    """A JSON value that may stand where another was meant."""
    kind = rng.randrange(3)
    return rng.choice((NUMBERS, TEXTS, OTHERS)[kind])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    found = [path] if path else []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += places(value[key], (*path, key))
    return found


def change_json(rng: random.Random, value: Any) -> tuple[Any, tuple[Any, ...]]:
    """A copy with one thing changed, and where; the path ends in a new key where one was added."""
    copy = json.loads(json.dumps(value))
    if not isinstance(copy, dict | list) or not copy:
        return any_value(rng), ()
    path = rng.choice(places(copy))
    parent = copy
    for key in path[:-1]:
        parent = parent[key]
    key, way = path[-1], rng.randrange(10)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, dict):
        key = rng.choice(TEXTS)
        parent[key] = any_value(rng)
    elif way == 2 and isinstance(parent[key], int | float) and not isinstance(parent[key], bool):
        parent[key] = -parent[key] if rng.random() < 0.5 else parent[key] * rng.choice((2, 10, 0.5))
    elif way == 3:
        parent[key] = [parent[key]]
    else:
        parent[key] = any_value(rng)
    return copy, (*path[:-1], key)


def spoil_text(rng: random.Random, text: bytes) -> bytes:
    """JSON text that is no longer what it was: duplicate keys, depth, cuts, other alphabets."""
    way = rng.randrange(8)
    if way == 0:
        return text[: rng.randrange(len(text))]
    if way == 1:
        return b"[" * 100_000
    if way == 2:
        return text.decode("utf-8", "surrogatepass").encode(rng.choice(("utf-16", "utf-32")))
    if way == 3:
        start = text.find(b"{", rng.randrange(max(1, len(text) // 2)))
        end = text.find(b",", max(start, 0))
        if 0 <= start < end and text[start + 1 : end].count(b"{") == 0:
            return text[: start + 1] + text[start + 1 : end] + b"," + text[start + 1 :]
        return b"\xff\xfe" + text
    if way == 4:
        return b"\xef\xbb\xbf" + text
    if way == 5:
        return text + rng.choice((b"}", b"{}", b"\0", b" \n", b"//x"))
    if way == 6:
        return b'{"a":' * 3000 + b"1" + b"}" * 3000
    return change_bytes(rng, text)


def change_bytes(rng: random.Random, data: bytes, start: int = 0) -> bytes:
    """One to four random changes: flipped, overwritten, cut out, repeated, cut off."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 5)):
        if len(out) <= start:
            break
        at, way = rng.randrange(start, len(out)), rng.randrange(8)
        if way <= 2:
            out[at] ^= 1 << rng.randrange(8)
        elif way == 3:
            out[at : at + 4] = rng.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", rng.randbytes(4)))
        elif way == 4:
            del out[at : at + rng.randrange(1, 64)]
        elif way == 5:
            out[at:at] = out[at : at + rng.randrange(1, 64)]
        elif way == 6:
            out[at : at + 8] = struct.pack("<Q", rng.choice((0, 1, 2**31, 2**40, 2**63)))
        else:
            del out[at:]
    return bytes(out)


def change_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A safetensors file whose header says something else, or whose bytes are others."""
    length = int.from_bytes(data[:8], "little")
    way = rng.randrange(10)
    if way == 0:
        return change_bytes(rng, data[:8] + data[8 : 8 + length]) + data[8 + length :]
    if way == 1:
        return change_bytes(rng, data, 8 + length)
    if way == 2:
        return (
            struct.pack("<Q", rng.choice((0, 1, 2, 7, 64, 65536, 2**31, 2**63, 2**64 - 1)))
            + data[8:]
        )
    header = json.loads(data[8 : 8 + length])
    if way == 3:
        text = spoil_text(rng, json.dumps(header).encode())
    else:
        text = _header_text(_change_header(rng, header))
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _header_text(header: dict[str, Any]) -> bytes:
    return json.dumps(header).encode("utf-8", "surrogatepass")


def _change_header(rng: random.Random, header: dict[str, Any]) -> dict[str, Any]:
    names = [name for name in header if name != "__metadata__"]
    way, name = rng.randrange(9), rng.choice(names)
    entry = header[name]
    if way == 0:
        entry["dtype"] = rng.choice(("F64", "F16", "BF16", "I32", "U8", "F4", "F8_E8M0", "", "f32"))
    elif way == 1:
        entry["shape"] = rng.choice(([], [0], [1], entry["shape"][::-1], [*entry["shape"], 1]))
    elif way == 2:
        other = header[rng.choice(names)]
        entry["data_offsets"] = list(other["data_offsets"])
    elif way == 3:
        step = rng.choice((-8, -4, -1, 1, 4, 8))
        entry["data_offsets"] = [entry["data_offsets"][0] + step, entry["data_offsets"][1] + step]
    elif way == 4:
        new = rng.choice((name + "x", name[1:], "a." + name, rng.choice(names)))
        header[new] = header.pop(name)
    elif way == 5:
        header["__metadata__"] = rng.choice((any_value(rng), {"a": any_value(rng)}, {"a": "b"}))
    elif way == 6 and header.get("__metadata__"):
        notes = header["__metadata__"]
        key = rng.choice(list(notes))
        try:
            changed = json.dumps(change_json(rng, json.loads(notes[key]))[0])
        except (ValueError, IndexError):
            changed = str(any_value(rng))
        notes[key] = spoil_text(rng, changed.encode()).decode("latin-1") if way < 1 else changed
    else:
        return change_json(rng, header)[0]
    return header


def change_npy(rng: random.Random, data: bytes) -> bytes:
    """A .npy file whose header lies, or whose bytes are others."""
    length = int.from_bytes(data[8:10], "little")
    way = rng.randrange(6)
    if way == 0:
        return change_bytes(rng, data)
    if way == 1:
        return data[: rng.randrange(len(data))]
    if way == 2:
        version = rng.choice((b"\2\0", b"\3\0", b"\0\0", b"\xff\xff"))
        return data[:6] + version + data[8:]
    shape = rng.choice(_SHAPES.split("|"))
    kind = rng.choice(("<f4", ">f4", "<f8", "<f2", "|O", "<c8", "<i4", "|V4", "<U1", "x", "<f16"))
    order = rng.choice(("True", "False", "1", "None", "[]"))
    fields = {"descr": f"'{kind}'", "fortran_order": order, "shape": shape}
    keep = rng.sample(list(fields), rng.randrange(1, 3))
    good = {"descr": "'<f4'", "fortran_order": "False", "shape": "(256, 8)"}
    fields |= {name: good[name] for name in keep}
    if rng.random() < 0.1:
        fields.pop(rng.choice(list(fields)))
    text = "{" + ", ".join(f"'{name}': {value}" for name, value in fields.items()) + "}"
    text = rng.choice((text, text, text, "(" * 3000 + text, text + "x", "[" * 200))
    head = text.encode().ljust(length - 1)[: max(length - 1, len(text))] + b"\n"
    return data[:8] + struct.pack("<H", len(head) % 65536) + head + data[10 + length :]


def change_text(rng: random.Random, text: str) -> str:
    """A text as somebody might mistype it, or paste it."""
    parts = list(text)
    for _ in range(rng.randrange(1, 4)):
        at, way = rng.randrange(len(parts) + 1), rng.randrange(7)
        if way == 0:
            parts[at : at + 1] = []
        elif way == 1:
            parts[at:at] = rng.choice(list("0123456789.,:;-%()[]=+eE xbar/\n\t\0"))
        elif way == 2:
            parts[at:at] = rng.choice(_ODD)
        elif way == 3:
            parts[at:at] = rng.choice(("1e308", "nan", "inf", "9" * 400, "-0", "0x10", "1_0", "()"))
        elif way == 4:
            parts[at:at] = parts[: rng.randrange(len(parts) + 1)]
        elif way == 5:
            del parts[at:]
        else:
            parts[at:at] = "(" * rng.choice((1, 5, 2000))
    return "".join(parts)
