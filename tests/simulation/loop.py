"""A virtual event loop: time jumps to the next timer, processes have clocks of their own, and can stop or die.

Everything that happens in a simulation is a callback of this one loop. Each callback belongs to a process, by the
context that it was made in, or to the world (the network, the faults). A paused process's callbacks wait, a dead one's
are dropped. Threads are callbacks too: work handed to an executor is done a moment later and its result comes a moment
after that. Knows nothing of what runs in it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from typing import Any

PROCESS: ContextVar[Process | None] = ContextVar("simulated process", default=None)

TICK_S = 1e-6
"""What one turn of the loop takes, and the least that a timer waits: time always goes on."""

MAX_CALLBACKS = 2_000_000
"""More than any seed needs: beyond it something goes round in circles without waiting."""


class LivelockError(Exception):
    """The loop turns and turns, or nothing is left to wait for."""


class Process:
    """One process of the simulation: its name, its clocks, and its tasks."""

    def __init__(self, loop: VirtualLoop, name: str, *, offset_s: float, rate: float, wall_offset_s: float) -> None:
        self.loop = loop
        self.name = name
        self.offset_s = offset_s
        self.rate = rate
        self.wall_offset_s = wall_offset_s
        self.dying = False
        self.dead = False
        self.paused = False
        self.parked: list[asyncio.Handle] = []
        self.tasks: list[SimTask] = []
        self.busy_until_s: dict[object, float] = {}

    def local_s(self, world_s: float) -> float:
        """What this process's monotonic clock shows."""
        return self.offset_s + world_s * self.rate

    def world_s(self, local_s: float) -> float:
        """The world's time at which this process's clock shows `local_s`."""
        return (local_s - self.offset_s) / self.rate

    def spawn(self, work: Coroutine[Any, Any, Any], name: str = "") -> SimTask:
        """Start a task of this process."""
        context = copy_context()
        context.run(PROCESS.set, self)
        task = self.loop.create_task(work, name=name or None, context=context)
        assert isinstance(task, SimTask)
        return task

    def resume(self) -> None:
        """Scheduled again: what should have happened meanwhile happens now."""
        self.paused = False
        parked, self.parked = self.parked, []
        self.loop.run_soon(parked)

    def living_tasks(self) -> list[SimTask]:
        """Tasks that are not done."""
        self.tasks = [task for task in self.tasks if not task.done()]
        return list(self.tasks)

    async def bury(self) -> bool:
        """End all tasks of a process that was cut off from the world; False when some will not end."""
        self.dying = True
        self.resume()
        for _ in range(200):
            left = self.living_tasks()
            if not left:
                break
            for task in left:
                task.cancel()
            for _ in range(4):
                await asyncio.sleep(0)
        self.dead = True
        return not self.living_tasks()


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """A task whose place in a set does not depend on its address."""

    serial = 0

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class SimFuture(asyncio.Future):  # type: ignore[type-arg]
    """A future whose place in a set does not depend on its address."""

    serial = 0

    def __hash__(self) -> int:
        return self.serial

    def __eq__(self, other: object) -> bool:
        return self is other


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop. `on_second` is called once for each second that passes."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self.now_s = 1.0
        self.callbacks = 0
        self.on_second: Callable[[], None] = lambda: None
        self._next_second_s = 0.0
        self._serial = 0
        self._rng = rng
        self.set_task_factory(self._make_task)

    # -- what asyncio asks of a loop ---------------------------------------------------------------------------

    def time(self) -> float:
        process = PROCESS.get()
        return self.now_s if process is None else process.local_s(self.now_s)

    def call_at(self, when: float, callback: Any, *args: Any, context: Context | None = None) -> asyncio.TimerHandle:
        process = PROCESS.get()
        world_s = when if process is None else process.world_s(when)
        return super().call_at(max(world_s, self.now_s + TICK_S), callback, *args, context=context)

    def at(self, world_s: float, callback: Callable[..., None], *args: Any) -> asyncio.TimerHandle:
        """Call back in the name of the world, at a time of the world."""
        return super().call_at(max(world_s, self.now_s + TICK_S), callback, *args, context=Context())

    def create_future(self) -> SimFuture:
        future = SimFuture(loop=self)
        self._serial += 1
        future.serial = self._serial
        return future

    def _make_task(self, loop: asyncio.AbstractEventLoop, work: Any, context: Context | None = None) -> SimTask:
        task = SimTask.__new__(SimTask)
        self._serial += 1
        task.serial = self._serial
        task.__init__(work, loop=loop, context=context)  # type: ignore[misc]
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.append(task)
            if len(process.tasks) > 256:
                process.living_tasks()
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> SimFuture:  # type: ignore[override]
        """Do the work a moment later, and hand its result over another moment later; one by one per executor."""
        future, process = self.create_future(), PROCESS.get()
        outcome: list[Any] = []

        def work() -> None:
            if process is not None and process.dying:
                return
            try:
                outcome.extend((True, func(*args)))
            except Exception as error:
                outcome.extend((False, error))

        def deliver() -> None:
            if future.done() or not outcome:
                return
            if outcome[0]:
                future.set_result(outcome[1])
            else:
                future.set_exception(outcome[1])

        start_s = self.time()
        if executor is not None and process is not None:
            start_s = max(start_s, process.busy_until_s.get(executor, 0.0))
        done_s = start_s + self._rng.choice((0.001, 0.01, 0.05, 0.2))
        end_s = done_s + self._rng.choice((0.0001, 0.01, 0.3))
        if executor is not None and process is not None:
            process.busy_until_s[executor] = end_s
        self.call_at(done_s, work)
        self.call_at(end_s, deliver)
        return future

    def run_soon(self, handles: list[asyncio.Handle]) -> None:
        """Callbacks that had to wait, in their order."""
        self._ready.extend(handles)  # type: ignore[attr-defined]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        process = PROCESS.get()
        if process is None or not process.dying:
            super().call_exception_handler(context)

    def _run_once(self) -> None:
        timers, ready = self._scheduled, self._ready  # type: ignore[attr-defined]
        while timers and timers[0]._cancelled:
            heapq.heappop(timers)._scheduled = False
        self.now_s += TICK_S
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            if not timers:
                raise LivelockError("nothing is left to wait for")
            self.now_s = max(self.now_s, timers[0]._when)
        while timers and timers[0]._when <= self.now_s:
            handle = heapq.heappop(timers)
            handle._scheduled = False
            ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None:
                if process.dead:
                    continue
                if process.paused:
                    process.parked.append(handle)
                    continue
            self.callbacks += 1
            handle._run()
        if self.callbacks > MAX_CALLBACKS:
            raise LivelockError(f"{self.callbacks} callbacks at {self.now_s:.1f} s")
        if self.now_s >= self._next_second_s:
            self._next_second_s = self.now_s + 1.0
            self.on_second()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers leave when their time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread to wake us from."""

    def _process_events(self, event_list: Any) -> None:
        """There are no files to watch."""
