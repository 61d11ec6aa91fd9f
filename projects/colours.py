"""Colour spaces that a picture tells of without a profile of its own, as ICC profiles, which bring its colours to sRGB."""

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass

Curve = Callable[[float], float]
Colorants = tuple[tuple[float, float, float], ...]
STEPS = 1024  # of a curve
D50 = (0.9642, 1.0, 0.8249)
# Red, green and blue as XYZ under D50, as an ICC profile has them.
SRGB: Colorants = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
ADOBE_RGB: Colorants = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
P3: Colorants = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
BT_2020: Colorants = ((0.67348, 0.27904, -0.00194), (0.16567, 0.67534, 0.02998), (0.12505, 0.04561, 0.79686))
# ITU-T H.273, tables 2 and 3. What is not named there by a number is taken for sRGB, as viewers do.
PRIMARIES = {9: ("BT.2020", BT_2020), 11: ("DCI-P3", P3), 12: ("Display P3", P3)}
LIKE_SRGB = {0, 1, 2, 3, 5, 6, 7}
PQ, HLG = 16, 18
# BT.2408: the white of a page in PQ, in candelas per square metre. What is brighter is drawn together from KNEE on.
WHITE, KNEE = 203.0, 0.75


def _srgb(signal: float) -> float:
    return signal / 12.92 if signal <= 0.04045 else ((signal + 0.055) / 1.055) ** 2.4


def _gamma(exponent: float) -> Curve:
    return lambda signal: signal**exponent


def _pq(signal: float) -> float:
    """SMPTE ST 2084, brought to the range of a screen."""
    root = signal ** (32 / 2523)
    light = 10_000 * (max(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)) ** (8192 / 1305) / WHITE
    return light if light <= KNEE else 1 - (1 - KNEE) * math.exp((KNEE - light) / (1 - KNEE))


# HLG is made to be shown by an ordinary screen as it is (BT.2100).
CURVES: dict[int, Curve] = {4: _gamma(2.2), 5: _gamma(2.8), 8: _gamma(1), PQ: _pq, HLG: _gamma(2.2)}


@dataclass(frozen=True)
class Space:
    """`profile` is None if it is not known here, or if it is sRGB."""

    name: str
    profile: bytes | None
    is_hdr: bool = False


def adobe_rgb() -> Space:
    return Space("Adobe RGB", _profile(ADOBE_RGB, _gamma(563 / 256)))


def by_code(primaries: int, transfer: int) -> Space | None:
    """What an nclx box of HEIC or a cICP chunk of PNG tells; None for sRGB and the like."""
    is_hdr = transfer in (PQ, HLG)
    if primaries in LIKE_SRGB and transfer not in CURVES:
        return None
    if primaries not in PRIMARIES and primaries not in LIKE_SRGB:
        return Space(f"primaries {primaries}", None)
    name, colorants = PRIMARIES.get(primaries, ("sRGB primaries", SRGB))
    suffix = {PQ: " with PQ", HLG: " with HLG"}.get(transfer, "")
    return Space(name + suffix, _profile(colorants, CURVES.get(transfer, _srgb)), is_hdr)


def _profile(colorants: Colorants, curve: Curve) -> bytes:
    """A display profile of matrix and curve, version 2 (ICC.1:2001-04)."""
    table = [round(65535 * min(1.0, max(0.0, curve(step / (STEPS - 1))))) for step in range(STEPS)]
    trc = struct.pack(f">4s4xI{STEPS}H", b"curv", STEPS, *table)
    tags = {b"wtpt": _xyz(D50), **dict(zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(_xyz, colorants), strict=True))}
    offset = 128 + 4 + 12 * (len(tags) + 3)
    index, data = [], b""
    for name, content in tags.items():
        index.append(struct.pack(">4sII", name, offset + len(data), len(content)))
        data += content
    index += [struct.pack(">4sII", name, offset + len(data), len(trc)) for name in (b"rTRC", b"gTRC", b"bTRC")]
    data += trc
    size = offset + len(data)
    header = struct.pack(
        ">I4xI4s4s4s12x4s28x12s48x", size, 0x02400000, b"mntr", b"RGB ", b"XYZ ", b"acsp", _xyz(D50)[8:]
    )
    return header + struct.pack(">I", len(index)) + b"".join(index) + data


def _xyz(values: tuple[float, float, float]) -> bytes:
    return struct.pack(">4s4x3i", b"XYZ ", *(round(value * 65536) for value in values))
