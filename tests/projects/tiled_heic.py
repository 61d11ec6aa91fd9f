"""HEIC as phones write it: a large picture is a grid of tiles, each coded for itself (ISO/IEC 23008-12, 6.6.2.3)."""

import io
import struct

from PIL import Image


def tiled_heic(columns: int, rows: int, tile: tuple[int, int] = (2000, 1500)) -> bytes:
    """Of one colour; its tiles are one and the same."""
    coded = io.BytesIO()
    Image.new("RGB", tile, (200, 90, 40)).save(coded, "HEIF")
    number, width, height = columns * rows, columns * tile[0], rows * tile[1]
    data = _found(coded.getvalue(), b"mdat")[8:]
    grid = bytes((0, 1, rows - 1, columns - 1)) + struct.pack(">II", width, height)
    tiles = range(1, number + 1)
    whole = number + 1  # the picture that the tiles make

    properties = [_found(coded.getvalue(), b"hvcC"), _size(*tile), _size(width, height)]
    of_each = [struct.pack(">HB", each, 2) + bytes((0x81, 2)) for each in tiles]
    of_whole = struct.pack(">HB", whole, 1) + bytes((3,))
    used = _full(b"ipma", 0, 0, struct.pack(">I", whole), *of_each, of_whole)
    items = [_full(b"infe", 2, 1, struct.pack(">HH4s", each, 0, b"hvc1"), b"\0") for each in tiles]
    items.append(_full(b"infe", 2, 0, struct.pack(">HH4s", whole, 0, b"grid"), b"\0"))
    made_of = _box(b"dimg", struct.pack(f">HH{number}H", whole, number, *tiles))

    def places(start: int) -> bytes:
        entries = [struct.pack(">HHHHII", each, 0, 0, 1, start, len(data)) for each in tiles]
        entries.append(struct.pack(">HHHHII", whole, 1, 0, 1, 0, len(grid)))
        return _full(b"iloc", 1, 0, b"\x44\0", struct.pack(">H", whole), *entries)

    def meta(start: int) -> bytes:
        return _full(
            b"meta",
            0,
            0,
            _full(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13)),
            _full(b"pitm", 0, 0, struct.pack(">H", whole)),
            places(start),
            _full(b"iinf", 0, 0, struct.pack(">H", whole), *items),
            _full(b"iref", 0, 0, made_of),
            _box(b"iprp", _box(b"ipco", *properties), used),
            _box(b"idat", grid),
        )

    kind = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    return kind + meta(len(kind) + len(meta(0)) + 8) + _box(b"mdat", data)


def _box(kind: bytes, *parts: bytes) -> bytes:
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def _full(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)


def _size(width: int, height: int) -> bytes:
    return _full(b"ispe", 0, 0, struct.pack(">II", width, height))


def _found(file: bytes, kind: bytes) -> bytes:
    at = file.index(kind) - 4
    return file[at : at + int.from_bytes(file[at : at + 4])]
