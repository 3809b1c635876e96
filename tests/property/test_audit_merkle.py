"""The tree over tiles equals a naive recursive RFC 6962 tree, and proofs prove that alone."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vault.audit.merkle import (
    EMPTY_ROOT,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)
from vault.audit.tree import TreeBuilder
from vault.domain.errors import IntegrityError

LEAVES = [leaf_hash(b"entry %d" % number) for number in range(70_000)]
SIZES = st.integers(0, 600) | st.sampled_from([255, 256, 257, 511, 512, 1024, 2000])


def naive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], False), naive_root(leaves[:k])]


class Tiles:
    """A tree grown in steps, all its tiles kept."""

    def __init__(self, *steps: int) -> None:
        self.builder = TreeBuilder()
        self.tiles: dict[tuple[int, int], bytes] = {}
        for step in steps:
            size = self.builder.size
            self.tiles.update(self.builder.add(LEAVES[size : size + step]))

    def __call__(self, level: int, index: int) -> bytes:
        return self.tiles.get((level, index), b"")


@given(st.lists(st.integers(0, 300), max_size=8))
def test_tree_grown_in_any_steps_is_the_naive_tree(steps: list[int]) -> None:
    """However it grew, the root is that of the naive tree, from the frontier and from the tiles."""
    tiles = Tiles(*steps)
    expected = naive_root(LEAVES[: sum(steps)])
    assert tiles.builder.root() == root(sum(steps), tiles) == expected
    assert TreeBuilder(sum(steps), tiles).root() == expected


def test_tree_of_three_levels_is_the_naive_tree() -> None:
    """Beyond 65,536 leaves the third level of tiles comes in."""
    tiles = Tiles(65_535, 1, 4_464)
    for size in (65_535, 65_536, 65_537, 70_000):
        assert root(size, tiles) == naive_root(LEAVES[:size])
    proof = inclusion_proof(65_536, 70_000, tiles)
    verify_inclusion(LEAVES[65_536], 65_536, 70_000, proof, root(70_000, tiles))
    assert len(tiles(2, 0)) == 32


@settings(max_examples=60)
@given(SIZES.filter(bool), st.data())
def test_inclusion_proofs_are_the_naive_ones_and_verify(size: int, data: st.DataObject) -> None:
    """An inclusion proof is PATH of the RFC and verifies; with any hash changed it does not."""
    index = data.draw(st.integers(0, size - 1))
    tiles = Tiles(size)
    proof = inclusion_proof(index, size, tiles)
    expected = naive_root(LEAVES[:size])
    assert proof == naive_path(index, LEAVES[:size])
    verify_inclusion(LEAVES[index], index, size, proof, expected)
    for bad in mutations(proof):
        with pytest.raises(IntegrityError):
            verify_inclusion(LEAVES[index], index, size, bad, expected)
    with pytest.raises(IntegrityError):
        verify_inclusion(LEAVES[index + 1], index, size, proof, expected)


@settings(max_examples=60)
@given(SIZES, SIZES)
def test_consistency_proofs_are_the_naive_ones_and_verify(one: int, other: int) -> None:
    """A consistency proof is PROOF of the RFC and verifies; with any hash or root changed it does not."""
    old, new = sorted((one, other))
    tiles = Tiles(new)
    proof = consistency_proof(old, new, tiles)
    roots = naive_root(LEAVES[:old]), naive_root(LEAVES[:new])
    assert proof == (naive_subproof(old, LEAVES[:new], True) if old else [])
    verify_consistency(old, roots[0], new, roots[1], proof)
    for bad in mutations(proof):
        with pytest.raises(IntegrityError):
            verify_consistency(old, roots[0], new, roots[1], bad)
    with pytest.raises(IntegrityError):
        verify_consistency(old, flip(roots[0]), new, roots[1], proof)
    if old:
        with pytest.raises(IntegrityError):
            verify_consistency(old, roots[0], new, flip(roots[1]), proof)


def test_edges_of_consistency_are_strict() -> None:
    """Old size 0 needs the empty root and no proof; equal sizes need equal roots and no proof."""
    one = naive_root(LEAVES[:1])
    verify_consistency(0, EMPTY_ROOT, 1, one, [])
    verify_consistency(0, EMPTY_ROOT, 0, EMPTY_ROOT, [])
    for arguments in (
        (0, one, 1, one, []),
        (0, EMPTY_ROOT, 1, one, [one]),
        (0, one, 0, one, []),
        (1, one, 1, EMPTY_ROOT, []),
        (1, one, 1, one, [one]),
        (2, one, 1, one, []),
        (-1, EMPTY_ROOT, 1, one, []),
        (1, one[:-1], 1, one[:-1], []),
        (1, one, 2, naive_root(LEAVES[:2]), []),
    ):
        with pytest.raises(IntegrityError):
            verify_consistency(*arguments)


@pytest.mark.parametrize("index", [-1, 5, 6])
def test_no_proof_for_an_index_outside(index: int) -> None:
    """An index that is not below the size has no proof, and verifies with none."""
    with pytest.raises(IntegrityError):
        inclusion_proof(index, 5, Tiles(5))
    with pytest.raises(IntegrityError):
        verify_inclusion(LEAVES[0], index, 5, [], LEAVES[0])


def test_missing_tile_is_an_error_not_a_wrong_root() -> None:
    """A tile that is missing or short raises; nothing is computed from what is left."""
    tiles = Tiles(600)
    tiles.tiles[0, 1] = tiles.tiles[0, 1][:-32]
    with pytest.raises(IntegrityError):
        inclusion_proof(300, 512, tiles)
    with pytest.raises(IntegrityError):
        TreeBuilder(600, lambda _level, _index: b"")


def test_roots_of_the_certificate_transparency_vectors() -> None:
    """The published reference inputs of the Certificate Transparency project give their published roots."""
    entries = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ]
    tree = TreeBuilder()
    found = []
    for entry in entries:
        tree.add([leaf_hash(bytes.fromhex(entry))])
        found.append(tree.root().hex())
    assert found == roots


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


def mutations(proof: list[bytes]) -> list[list[bytes]]:
    """The proof with one hash changed, left out, or added."""
    changed = [[*proof[:i], flip(proof[i]), *proof[i + 1 :]] for i in range(len(proof))]
    shorter = [proof[:-1]] if proof else []
    return [*changed, *shorter, [*proof, LEAVES[0]], [LEAVES[0], *proof]]
