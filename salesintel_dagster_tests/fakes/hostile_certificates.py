"""Certificates that cost their reader: keys on a made-up curve whose points lack a coordinate.

To find it is a square root modulo p, which takes the square of how often p - 1 can be halved: 652 times here.
"""

from __future__ import annotations

import ssl

PRIME = 471 * 2**652 + 1
"""Of 661 bits, the most that OpenSSL takes. On y^2 = x^3 + x the point below is one whose root takes longest."""
POINT = b"\x02" + (6).to_bytes(83)

_INTEGER, _BITS, _OCTETS, _NAME, _TEXT, _SEQUENCE, _SET = 0x02, 0x03, 0x04, 0x06, 0x0C, 0x30, 0x31
_EC_KEY, _PRIME_FIELD = "2a8648ce3d0201", "2a8648ce3d0101"
_ECDSA_WITH_SHA256, _COMMON_NAME = "2a8648ce3d040302", "550403"


def dear_certificates(number: int) -> str:
    """Return so many, of 665 bytes each before they are PEM."""
    return "".join(ssl.DER_cert_to_PEM_cert(_certificate(serial)) for serial in range(1, number + 1))


def _certificate(serial: int) -> bytes:
    signature = _sequence(_oid(_ECDSA_WITH_SHA256))
    name = _sequence(_der(_SET, _sequence(_oid(_COMMON_NAME), _der(_TEXT, b"x"))))
    years = _sequence(_der(0x17, b"200101000000Z"), _der(0x17, b"400101000000Z"))
    version = _der(0xA0, _integer(2))
    signed = _sequence(version, _integer(serial), signature, name, years, name, _key())
    return _sequence(signed, signature, _bits(_sequence(_integer(1), _integer(1))))


def _key() -> bytes:
    field = _sequence(_oid(_PRIME_FIELD), _integer(PRIME))
    curve = _sequence(_der(_OCTETS, (1).to_bytes(83)), _der(_OCTETS, bytes(83)))
    parameters = _sequence(_integer(1), field, curve, _der(_OCTETS, POINT), _integer(PRIME - 12_346), _integer(1))
    return _sequence(_sequence(_oid(_EC_KEY), parameters), _bits(POINT))


def _sequence(*parts: bytes) -> bytes:
    return _der(_SEQUENCE, b"".join(parts))


def _oid(digits: str) -> bytes:
    return _der(_NAME, bytes.fromhex(digits))


def _integer(number: int) -> bytes:
    return _der(_INTEGER, number.to_bytes(number.bit_length() // 8 + 1))


def _bits(data: bytes) -> bytes:
    return _der(_BITS, b"\0" + data)


def _der(tag: int, data: bytes) -> bytes:
    short = len(data) < 0x80
    length = bytes([len(data)]) if short else b"\x82" + len(data).to_bytes(2)
    return bytes([tag]) + length + data
