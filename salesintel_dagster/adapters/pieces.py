"""How many pieces a stranger may send his bytes in: byte by byte, as fast as he can, they keep a core busy."""

from __future__ import annotations

FREE_PIECES = 1_000
BYTES_A_PIECE = 128
"""Fewer than a packet or a record holds. What comes in larger pieces pays for smaller ones, up to the free ones."""


class Pieces:
    """Counts what is received at once. From a trusted host it may come in any pieces: a row of a page as it is read."""

    def __init__(self, *, are_trusted: bool) -> None:
        self._bytes_a_piece = 0 if are_trusted else BYTES_A_PIECE
        self._room = FREE_PIECES * BYTES_A_PIECE

    def count(self, received_bytes: int) -> None:
        """Count one. Raises ConnectionAbortedError where they are too many for so few bytes."""
        self._room = min(self._room + received_bytes - self._bytes_a_piece, FREE_PIECES * BYTES_A_PIECE)
        if self._room < 0:
            raise ConnectionAbortedError("an answer in countless pieces")
