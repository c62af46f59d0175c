"""The server's view of a device's clock: forward only, whatever the device does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ams.core.stream_time import StreamTime

SECOND = 10**9


def test_a_boots_offset_is_fixed_by_its_first_clip() -> None:
    time = StreamTime()
    assert time.to_server("a", 10 * SECOND, [9 * SECOND, 10 * SECOND], 110.0) == (109.0, 110.0)
    # The second clip comes late; its frames keep their distance from the first ones.
    assert time.to_server("a", 20 * SECOND, [19 * SECOND], 150.0) == (119.0,)


def test_a_reboot_starts_after_what_came_before() -> None:
    time = StreamTime()
    time.to_server("a", 500 * SECOND, [500 * SECOND], 100.0)
    (after,) = time.to_server("b", 2 * SECOND, [SECOND], 90.0)
    assert after > 100.0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 10**12), st.integers(1, 10**10)), min_size=1, max_size=20))
def test_time_never_runs_backwards_across_boots(clips: list[tuple[int, int, int]]) -> None:
    time, now_s, latest = StreamTime(), 0.0, float("-inf")
    clock: dict[int, int] = {}
    for boot, start_ns, step_ns in clips:
        first = clock.get(boot, start_ns) + step_ns
        clock = {boot: first}  # a boot that is gone does not come back
        now_s += 1.0
        (t_s,) = time.to_server(str(boot), first, [first], now_s)
        assert t_s >= latest
        latest = t_s
