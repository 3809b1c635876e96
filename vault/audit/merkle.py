"""The Merkle tree of the log: RFC 6962 hashing over tiles of 256 hashes (C2SP tlog-tiles).

A tile at level L holds the roots of complete subtrees of 256^L leaves each. `Tiles` is whoever can fetch
one; all proofs are computed from tiles, all checks from what a stranger would hold.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from typing import Final

from vault.domain.errors import IntegrityError

HASH_BYTES: Final = 32
TILE_WIDTH: Final = 256
_TILE_HEIGHT: Final = 8
EMPTY_ROOT: Final = sha256(b"").digest()

Tiles = Callable[[int, int], bytes]
"""(level, index) -> the tile's hashes, concatenated, at least as many as the tree size in question has."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962, section 2.1."""
    return sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """Those of many entries."""
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962, section 2.1."""
    return sha256(b"\x01" + left + right).digest()


def perfect_root(hashes: bytes) -> bytes:
    """Root of a complete subtree over 2^k concatenated hashes."""
    while len(hashes) > HASH_BYTES:
        hashes = b"".join(
            [sha256(b"\x01" + hashes[i : i + 64]).digest() for i in range(0, len(hashes), 2 * HASH_BYTES)]
        )
    return hashes


_remembered_root: Final = lru_cache(maxsize=64)(perfect_root)
"""For the parts of rightmost tiles: from one size of a growing tree to the next most stay what they are."""


def tile_widths(size: int) -> Iterator[tuple[int, int, int]]:
    """(level, index, width) of the rightmost tile of each level of a tree, where it is not empty or full."""
    level = 0
    while size:
        if size % TILE_WIDTH:
            yield level, size // TILE_WIDTH, size % TILE_WIDTH
        size //= TILE_WIDTH
        level += 1


# --- from tiles -------------------------------------------------------------------------------------------


def root(size: int, tiles: Tiles) -> bytes:
    """Root of the tree over the first `size` leaves.

    Raises:
        IntegrityError: a tile is missing or too short.
    """
    return _range_root(0, size, tiles) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, tiles: Tiles) -> list[bytes]:
    """RFC 6962, section 2.1.1: the leaf's sibling first.

    Raises:
        IntegrityError: `index` is not below `size`, or a tile is missing or too short.
    """
    if not 0 <= index < size:
        raise IntegrityError("the log has no entry at this index")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(_range_root(middle, end, tiles))
            end = middle
        else:
            proof.append(_range_root(start, middle, tiles))
            start = middle
    return proof[::-1]


def consistency_proof(old_size: int, new_size: int, tiles: Tiles) -> list[bytes]:
    """RFC 6962, section 2.1.2; empty where the old tree is empty or the trees are equal.

    Raises:
        IntegrityError: the old size is beyond the new one, or a tile is missing or too short.
    """
    if not 0 <= old_size <= new_size:
        raise IntegrityError("a tree cannot be consistent with a larger one")
    if old_size in (0, new_size):
        return []
    proof: list[bytes] = []
    start, end = 0, new_size
    while old_size != end:
        middle = start + _split(end - start)
        if old_size <= middle:
            proof.append(_range_root(middle, end, tiles))
            end = middle
        else:
            proof.append(_range_root(start, middle, tiles))
            start = middle
    if start:
        proof.append(_range_root(start, end, tiles))
    return proof[::-1]


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _range_root(start: int, end: int, tiles: Tiles) -> bytes:
    count = end - start
    if count & count - 1 == 0:
        return _perfect_range_root(start, count, tiles)
    middle = start + _split(count)
    return node_hash(_perfect_range_root(start, middle - start, tiles), _range_root(middle, end, tiles))


def _perfect_range_root(start: int, count: int, tiles: Tiles) -> bytes:
    level, height = divmod(count.bit_length() - 1, _TILE_HEIGHT)
    index, offset = divmod(start >> _TILE_HEIGHT * level, TILE_WIDTH)
    hashes = tiles(level, index)[offset * HASH_BYTES : (offset + (1 << height)) * HASH_BYTES]
    if len(hashes) != HASH_BYTES << height:
        raise IntegrityError(f"hash tile {level}/{index} is shorter than the log's size demands")
    return _remembered_root(hashes)


# --- by strangers -----------------------------------------------------------------------------------------


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], expected_root: bytes
) -> None:
    """RFC 9162, section 2.1.3.2.

    Raises:
        IntegrityError: the proof does not show that `leaf` is entry `index` of the tree.
    """
    if not 0 <= index < size:
        raise IntegrityError("the inclusion proof's index is not below the tree's size")
    _check_hashes(leaf, expected_root, *proof)
    node, last, computed = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise IntegrityError("the inclusion proof is too long")
        if node & 1 or node == last:
            computed = node_hash(sibling, computed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            computed = node_hash(computed, sibling)
        node, last = node >> 1, last >> 1
    if last or computed != expected_root:
        raise IntegrityError("the inclusion proof does not lead to the root")


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """RFC 9162, section 2.1.4.2, with the edges of audit.md: an empty old tree, and equal sizes.

    Raises:
        IntegrityError: the proof does not show that the new tree extends the old one.
    """
    _check_hashes(old_root, new_root, *proof)
    if not 0 <= old_size <= new_size:
        raise IntegrityError("a tree cannot be consistent with a larger one")
    if old_size in (0, new_size):
        if proof or old_root != (new_root if old_size == new_size else EMPTY_ROOT):
            raise IntegrityError("the trees are not consistent")
        if new_size == 0 and new_root != EMPTY_ROOT:
            raise IntegrityError("the root of the empty tree is wrong")
        return
    _walk_consistency(old_size, old_root, new_size, new_root, proof)


def _walk_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    path = [old_root, *proof] if old_size & old_size - 1 == 0 else list(proof)
    if not path:
        raise IntegrityError("the consistency proof is empty")
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise IntegrityError("the consistency proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        node, last = node >> 1, last >> 1
    if last or old != old_root or new != new_root:
        raise IntegrityError("the trees are not consistent")


def _check_hashes(*hashes: bytes) -> None:
    if any(len(item) != HASH_BYTES for item in hashes):
        raise IntegrityError("a hash is not 32 bytes long")
