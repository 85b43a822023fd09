"""References that leave a choice, as sclite's do: `{ colour / color }`, `{ uh / @ }`, `(optional)`.

`@` is nothing; alternatives may hold several words and further alternatives. A word in parentheses may be left out:
then it counts as correct, as with sclite -D. Braces inside a word, as in `set{a}`, are letters of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["Choice", "Network", "has_alternations", "parse_alternations"]

_CHUNK = re.compile(r"([{}]*)(\S*?)([{}]*)")
_NOTHING = "@"


@dataclass(frozen=True, slots=True)
class _Arc:
    source: int
    target: int
    token: str | None
    """None where the arc says nothing."""
    skips: int
    """Optional words that the arc leaves out."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A way through a network."""

    tokens: list[str]
    skipped: int
    """Optional words that were left out."""


@dataclass(slots=True)
class Network:
    """A reference as an acyclic network; arcs lead to nodes of higher numbers and are sorted by where they start."""

    arcs: list[_Arc] = field(default_factory=list)
    nodes: int = 1

    def closest(self, hypothesis: Sequence[str]) -> Choice:
        """The way that differs least from the hypothesis: fewest errors, then most correct and fewest left out."""
        length = len(hypothesis)
        # Errors, and optional words left out less correct tokens.
        costs: list[list[tuple[int, int]]] = [[] for _ in range(self.nodes)]
        ways: list[list[tuple[_Arc | None, int]]] = [[] for _ in range(self.nodes)]
        arcs_to: list[list[_Arc]] = [[] for _ in range(self.nodes)]
        for arc in self.arcs:
            arcs_to[arc.target].append(arc)
        for node in range(self.nodes):
            for j in range(length + 1):
                # Each option: its cost, and the arc and the column that it comes from.
                options: list[tuple[tuple[int, int], _Arc | None, int]] = [((0, 0), None, 0)] if node == j == 0 else []
                for arc in arcs_to[node]:
                    before = costs[arc.source]
                    if arc.token is None:
                        options.append(((before[j][0], before[j][1] + arc.skips), arc, j))
                        continue
                    if j and arc.token == hypothesis[j - 1]:
                        options.append(((before[j - 1][0], before[j - 1][1] - 1), arc, j - 1))
                    elif j:
                        options.append(((before[j - 1][0] + 1, before[j - 1][1]), arc, j - 1))
                    options.append(((before[j][0] + 1, before[j][1]), arc, j))
                if j:
                    options.append(((costs[node][j - 1][0] + 1, costs[node][j - 1][1]), None, j - 1))
                cost, arc_taken, column = min(options, key=lambda option: option[0])
                costs[node].append(cost)
                ways[node].append((arc_taken, column))
        return self._trace(ways, length)

    def _trace(self, ways: list[list[tuple[_Arc | None, int]]], length: int) -> Choice:
        tokens: list[str] = []
        skipped = 0
        node, j = self.nodes - 1, length
        while node or j:
            arc, column = ways[node][j]
            if arc is not None:
                node = arc.source
                skipped += arc.skips
                if arc.token is not None:
                    tokens.append(arc.token)
            j = column
        return Choice(tokens[::-1], skipped)


def has_alternations(text: str) -> bool:
    """Whether the text leaves a choice, or tries to."""
    return any(character in text for character in "{}(")


def parse_alternations(text: str, tokenize: Callable[[str], list[str]]) -> Network:
    """The network of a reference.

    Arguments:
        text: with braces and parentheses.
        tokenize: normalises and splits what stands between them.

    Raises:
        ValueError: when the braces do not match.
    """
    network = Network()
    parser = _Parser(list(_tokens(text)), tokenize, network)
    parser.sequence(0)
    if parser.position < len(parser.tokens):
        raise ValueError("has a } without its {")
    return network


def _tokens(text: str) -> Iterator[str]:
    """Braces, slashes between alternatives, and words."""
    for chunk in text.split():
        match = _CHUNK.fullmatch(chunk)
        assert match  # whatever the chunk
        before, word, after = match.groups()
        opened, closed = _unmatched(word)
        taken = min(opened, len(after) - len(after.lstrip("}")))
        word, after = word + after[:taken], after[taken:]
        given = min(closed, len(before) - len(before.rstrip("{")))
        word, before = before[len(before) - given :] + word, before[: len(before) - given]
        yield from before
        if word:
            yield word
        yield from after


def _unmatched(word: str) -> tuple[int, int]:
    """How many braces a word opens and does not close, and closes and did not open."""
    opened = closed = 0
    for character in word:
        if character == "{":
            opened += 1
        elif character == "}" and opened:
            opened -= 1
        elif character == "}":
            closed += 1
    return opened, closed


@dataclass(slots=True)
class _Parser:
    tokens: list[str]
    tokenize: Callable[[str], list[str]]
    network: Network
    position: int = 0
    depth: int = 0

    def sequence(self, start: int) -> int:
        """Read up to the end of an alternative or of the text; gives the node there, the newest but after nothing."""
        node = start
        words: list[str] = []
        while self.position < len(self.tokens):
            token = self.tokens[self.position]
            if token == "}" or (token == "/" and self.depth):
                break
            self.position += 1
            optional = token != "{" and token.startswith("(") and token.endswith(")")
            if token == "{" or optional or token == _NOTHING:
                node = self._words(node, words)
                words = []
            if token == "{":
                node = self._alternatives(node)
            elif optional:
                node = self._optional(node, self.tokenize(token[1:-1]))
            elif token != _NOTHING:
                words.append(token)
        return self._words(node, words)

    def _alternatives(self, start: int) -> int:
        self.depth += 1
        ends = [self.sequence(self._step(start))]
        while self.position < len(self.tokens) and self.tokens[self.position] == "/":
            self.position += 1
            ends.append(self.sequence(self._step(start)))
        if self.position == len(self.tokens):
            raise ValueError("has a { without its }")
        self.position += 1
        self.depth -= 1
        return self._step(*ends)

    def _optional(self, start: int, tokens: list[str]) -> int:
        if not tokens:
            return start
        node = start
        for token in tokens:
            node = self._step(node, token=token)
        end = self._step(node)
        self.network.arcs.append(_Arc(start, end, None, len(tokens)))
        return end

    def _words(self, node: int, words: list[str]) -> int:
        for token in self.tokenize(" ".join(words)) if words else ():
            node = self._step(node, token=token)
        return node

    def _step(self, *sources: int, token: str | None = None, skips: int = 0) -> int:
        """Arcs from the sources to a new node."""
        node = self.network.nodes
        self.network.nodes += 1
        self.network.arcs += [_Arc(source, node, token, skips) for source in sources]
        return node
