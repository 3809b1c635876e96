"""Ancestors in the role graph and in the purpose and category trees; cycles and over-long chains found."""

from collections.abc import Iterable, Mapping, Sequence

from vault.policy.model import LINKS


def closure(name: str, parents: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """All that `name` reaches, nearest first, without itself. Total on cyclic graphs too."""
    found: dict[str, None] = {}
    level: Iterable[str] = parents.get(name, ())
    while level:
        fresh = [parent for parent in dict.fromkeys(level) if parent not in found and parent != name]
        found.update(dict.fromkeys(fresh))
        level = [above for parent in fresh for above in parents.get(parent, ())]
    return tuple(found)


def in_cycle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """The names that reach themselves."""
    return [
        name
        for name in parents
        if any(name == above or name in closure(above, parents) for above in parents[name])
    ]


def too_deep(parents: Mapping[str, Sequence[str]], links_below: int = 0) -> list[str]:
    """The names with a chain of more than LINKS above them (acyclic graphs only).

    `links_below`: links that every chain already has before it reaches one of these names.
    """
    heights: dict[str, int] = {}
    deep = []
    for name in parents:
        if _height(name, parents, heights) + links_below > LINKS:
            deep.append(name)
    return deep


def _height(name: str, parents: Mapping[str, Sequence[str]], heights: dict[str, int]) -> int:
    """Links of the longest chain above `name`, without recursion: the graph may be deeper than the stack."""
    stack = [name]
    while stack:
        top = stack[-1]
        missing = [above for above in parents.get(top, ()) if above not in heights]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        heights[top] = max((heights[above] + 1 for above in parents.get(top, ())), default=0)
    return heights[name]
