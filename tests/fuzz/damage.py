"""How inputs are damaged: by bytes, and by what the bytes of a format mean."""

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any

Way = Callable[[bytes, random.Random], bytes]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# JSON values that a reader may trip over, as they are written.
VALUES = (
    *("null", "true", "-1", "0", "1", "0.5", "255", "256", "70000", "3000000000", "-1e5"),
    *("1e999", "-1e999", "NaN", "1" + "0" * 30, "9" * 400, "9" * 5000, '""', '"a"', '"1"', '" "'),
    '"|"',
    *('"\\ud800"', '"\\u0000"', '"../../../a"', '"/"', '"' + "a" * 300 + '"', '"{}"', '"{0.a}"'),
    *("[]", "{}", "[[]]", "[1, 2]", "[[1, 2], [3, 4]]", '{"a": 1}', "[" * 5000 + "]" * 5000),
)
# Pieces of text that mean something to a list, to YAML, TOML or JSON, or to nobody.
PIECES = (
    *(b"\xff", b"\0", b"\r", b"\n\n", b"\t", b" ", b",", b";", b":", b"|", b"#", b'"', b"'", b"\\"),
    *("\ufeff \u202e\u200b\u0301 \u00ab".encode(), b"a" * 300, b"9" * 5000, b"1e999", b"-1", b"{}"),
    *(b"[" * 2000, b"{", b"]", b"- ", b": ", b"&a ", b"*a", b"!!timestamp ", b"!!int ", b"? "),
    b"=.",
    *(b"\n[[a]]\n", b"\na.b.c = 1\n", b"10,20,30::", b"\n7: a\n", b"../", b"/", b"~", b"none"),
    b"%",
)
EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def damaged(content: bytes, suffix: str, rng: random.Random) -> bytes:
    """Return the content of a file with one to four faults of random kinds."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        ways: tuple[Way, ...] = BYTE_WAYS
        # What a format means is damaged more often than what its bytes are.
        if suffix in FORMAT_WAYS and rng.random() < 0.7:
            ways = FORMAT_WAYS[suffix]
        try:
            content = rng.choice(ways)(content, rng)
        except Exception:  # of many kinds: an earlier fault has left nothing of the format
            content = rng.choice(BYTE_WAYS)(content, rng)
    return content


def _place(content: bytes, rng: random.Random) -> int:
    """Return a place; one near the start, where headers are, half of the time."""
    end = len(content) if rng.random() < 0.5 else min(len(content), 200)
    return rng.randrange(end + 1)


def other_bits(content: bytes, rng: random.Random) -> bytes:
    if not content:
        return b"\0"
    place = min(_place(content, rng), len(content) - 1)
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


def other_number(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    size = rng.choice((1, 2, 4, 8))
    order = rng.choice(("little", "big"))
    number = (rng.choice(EXTREMES) % 2 ** (8 * size)).to_bytes(size, order)
    return content[:place] + number + content[place + size :]


def cut_off(content: bytes, rng: random.Random) -> bytes:
    return content[: _place(content, rng)]


def cut_out(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + content[place + rng.choice((1, 2, 4, 30, 1000)) :]


def twice(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    end = place + rng.choice((1, 4, 30, 1000))
    return content[:end] + content[place:]


def piece(content: bytes, rng: random.Random) -> bytes:
    place = _place(content, rng)
    return content[:place] + rng.choice(PIECES) + content[place:]


def other_value(content: bytes, rng: random.Random) -> bytes:
    """Exchange, remove, double or rename a value in JSON."""
    data = json.loads(content)
    places = list(_places(data))
    if not places:
        return rng.choice(VALUES).encode()
    holder, key = rng.choice(places)
    kind = rng.randrange(8)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif kind == 1:
        holder[rng.choice(("", "a", f"{key} ", str(key).upper()))] = holder.pop(key)
    elif kind == 2:
        other, other_key = rng.choice(places)
        holder[key] = json.loads(json.dumps(other.get(other_key) if isinstance(other, dict) else 3))
    else:
        holder[key] = "@value@"
    return json.dumps(data).replace('"@value@"', rng.choice(VALUES)).encode()


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (holder, key) of everything in JSON data."""
    if not isinstance(data, (dict, list)):
        return
    for key, value in list(data.items() if isinstance(data, dict) else enumerate(data)):
        yield data, key
        yield from _places(value)


def other_line(content: bytes, rng: random.Random) -> bytes:
    """Damage one of several lines of JSON."""
    lines = content.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = other_value(lines[number], rng)
    return b"\n".join(lines)


def other_chunk(content: bytes, rng: random.Random) -> bytes:
    """Damage a chunk of a PNG, with the checksum of the damage."""
    chunks = []
    place = len(PNG_SIGNATURE)
    while place < len(content):
        length, kind = struct.unpack(">I4s", content[place : place + 8])
        chunks.append((kind, content[place + 8 : place + 8 + length]))
        place += length + 12
    index = rng.randrange(len(chunks))
    kind, data = chunks[index]
    if kind == b"IDAT" and rng.random() < 0.5:
        data = zlib.compress(rng.choice(BYTE_WAYS)(zlib.decompress(data), rng))
    else:
        data = rng.choice(BYTE_WAYS)(data, rng)
    chunks[index] = (kind, data)
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    parts = [PNG_SIGNATURE]
    for kind, data in chunks:
        parts += [
            struct.pack(">I", len(data)),
            kind,
            data,
            struct.pack(">I", zlib.crc32(kind + data)),
        ]
    return b"".join(parts)


def other_member(content: bytes, rng: random.Random) -> bytes:
    """Damage, remove or double a file in an archive, or pack it."""
    members = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(file.filename, archive.read(file)) for file in archive.infolist()]
    names = [name for name, _ in members]
    index = rng.randrange(len(members))
    # Everything that is not a number is in the pickle.
    if rng.random() < 0.8:
        index = next(i for i, name in enumerate(names) if name.endswith("data.pkl"))
    name, data = members[index]
    kind = rng.randrange(12)
    if kind == 0:
        del members[index]
    elif kind == 1:
        members[index] = (rng.choice(("", "a", f"{name}/", "x/constants.pkl")), data)
    else:
        members[index] = (name, rng.choice(BYTE_WAYS)(data, rng))
    method = zipfile.ZIP_DEFLATED if kind == 2 else zipfile.ZIP_STORED
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def other_header(content: bytes, rng: random.Random) -> bytes:
    """Damage what the header of safetensors says."""
    length = int.from_bytes(content[:8], "little")
    header = other_value(content[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


BYTE_WAYS: tuple[Way, ...] = (other_bits, other_number, cut_off, cut_out, twice, piece)
FORMAT_WAYS: dict[str, tuple[Way, ...]] = {
    ".json": (other_value,),
    ".jsonl": (other_line,),
    ".png": (other_chunk,),
    ".pt": (other_member,),
    ".pth": (other_member,),
    ".bin": (other_member,),
    ".safetensors": (other_header,),
}
