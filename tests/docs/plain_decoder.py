"""A decoder of entropy coder 2 as docs/protocol.md has it: one number at a time, nothing from `ams`, nothing checked.

What somebody would write in another language; proves that the page is enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isqrt

R = [78665070, 148652825, 253857248, 398132549]
for _k in range(4, 128):
    R.append(isqrt(R[_k - 4] << 32))


def raw_bits(s: int) -> int:
    return 0 if s < 16 else 3 + (s - 16) // 2


def smallest(s: int) -> int:
    return s if s < 16 else (2 + (s & 1)) << raw_bits(s)


def family(k: int) -> list[int]:
    powers = [R[k]]
    for _ in range(31):
        powers.append(powers[-1] * powers[-1] >> 32)
    begin, t = [], (1 << 32) - 1
    for s in range(72):
        begin.append(s + (((1 << 32) - 1 - t) * 4024 >> 32))
        t = t * powers[raw_bits(s)] >> 32
    begin.append(4096)
    return [begin[s + 1] - begin[s] for s in range(72)]


def bits_of(data: bytes) -> Iterator[int]:
    return (byte >> place & 1 for byte in data for place in range(8))


def field(bits: Iterator[int], count: int) -> int:
    return sum(next(bits) << place for place in range(count))


def sent_table(bits: Iterator[int]) -> list[int]:
    frequency, rest = [], -1
    for s in range(field(bits, 7)):
        n = field(bits, 4)
        frequency.append(0)
        if n == 15:
            rest = s
        elif n:
            more = min(n - 1, 2)
            frequency[s] = ((1 << more) + field(bits, more)) << (n - 1 - more)
    frequency[rest] = 4096 - sum(frequency)
    return frequency


def z(n: int) -> int:
    return -(n + 1) // 2 if n & 1 else n // 2


def decode(body: bytes, sizes: list[int]) -> list[tuple[int, int]]:
    """Position in the vector and change of every weight that changes, for tensors of these sizes."""
    if not body:
        return []
    lanes, gap_tables, value_tables, step_base, value_base = 1 << body[0], *body[1:5]
    families = body[5:9]
    at = 15 + int.from_bytes(body[9:11], "little")
    table_bits = bits_of(body[15:at])
    tables = [sent_table(table_bits) for _ in range(gap_tables + value_tables)]
    state = [int.from_bytes(body[at + 4 * lane : at + 4 * lane + 4], "little") for lane in range(lanes)]
    at += 4 * lanes
    end = at + 2 * int.from_bytes(body[11:15], "little")
    words = iter([int.from_bytes(body[i : i + 2], "little") for i in range(at, end, 2)])
    raw = bits_of(body[end:])

    def run(of_number: list[list[int]]) -> list[int]:
        symbols = []
        for i, frequency in enumerate(of_number):
            x = state[i % lanes]
            slot, begin, s = x & 4095, 0, 0
            while slot >= begin + frequency[s]:
                begin += frequency[s]
                s += 1
            x = frequency[s] * (x >> 12) + slot - begin
            if x < 1 << 16:
                x = x << 16 | next(words)
            state[i % lanes] = x
            symbols.append(s)
        return symbols

    def numbers(symbols: list[int]) -> list[int]:
        found = [smallest(s) for s in symbols]
        for j in range(32):
            for i, s in enumerate(symbols):
                if raw_bits(s) > j:
                    found[i] += next(raw) << j
        return found

    counts = numbers(run([family(families[0])] * len(sizes)))
    changed = [tensor for tensor, count in enumerate(counts) if count]
    columns = numbers(run([family(families[column]) for column in (1, 2, 3) for _ in changed]))
    steps, gap_models, value_models = {}, [], []
    for place, tensor in enumerate(changed):
        step, gap, value = columns[place :: len(changed)]
        steps[tensor] = step_base + z(step)
        fitting = [k for k in range(128) if ((1 << 32) - R[k]) * sizes[tensor] >= counts[tensor] << 32]
        expected = fitting[-1] if fitting else 0
        model = tables[gap] if gap < gap_tables else family(expected + z(gap - gap_tables))
        gap_models += [model] * counts[tensor]
        own = value < value_tables
        model = tables[gap_tables + value] if own else family(value_base + z(value - value_tables))
        value_models += [model] * counts[tensor]
    symbols = run(gap_models + value_models)
    seeds = [x >> place & 1 for x in state for place in range(16)]
    left = list(raw)
    raw = iter(seeds + left)
    coded = numbers(symbols)

    changes, sign, i, start = [], 1, 0, 0
    for tensor, count in enumerate(counts):
        position = start - 1
        for _ in range(count):
            position += coded[i] + 1
            value = coded[len(coded) // 2 + i]
            sign = -sign if value & 1 else sign
            changes.append((position, sign * (value // 2 + 1) << steps[tensor]))
            i += 1
        start += sizes[tensor]
    return changes
