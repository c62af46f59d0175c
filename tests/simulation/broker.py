"""The broker as each process sees it: the memory adapter behind a network that is slow, loses answers, or is cut.

`Storage` is the one broker of a world; it can be away, forget (all of it, or the newest part, as after a failover to a
replica that lags) and lose a lease. `ports` gives one process its own way to it. What it takes is told to the ledger.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass
from typing import Any

from ams.broker import keys
from ams.broker.memory import new_memory
from ams.broker.memory_stream import NO_ID, MemoryStream
from ams.errors import BrokerUnavailableError
from ams.ports import Broker, PatchEntry
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process, VirtualLoop

EPOCH_S = 1.7e9


@dataclass
class Troubles:
    """What is wrong with everybody's way to the broker."""

    lost_answers: float = 0.0  # share of operations that are done and not answered
    lost_rings: float = 0.0
    slow_s: float = 0.0


class Storage:
    """The broker of a world."""

    def __init__(self, loop: VirtualLoop, ledger: Ledger, rng: random.Random, note: Callable[[str], None]) -> None:
        self.broker: Any = new_memory(lambda: EPOCH_S + loop.now_s)
        self.troubles = Troubles()
        self.cut_off: set[str] = set()  # names of processes
        self.ledger = ledger
        self.away = False
        self._rng = rng
        self._note = note
        self._copies: list[dict[str, Any]] = []

    # -- faults ------------------------------------------------------------------------------------------------

    def go_away(self) -> None:
        """Nobody reaches it."""
        self.away = True
        self.broker.connection.go_away()

    def come_back(self) -> None:
        """Everybody reaches it."""
        self.away = False
        self.broker.connection.come_back()

    def forget_everything(self) -> None:
        """It comes back empty; enrolment survives, for somebody would enrol again."""
        devices = dict(self.broker.devices._token_hashes)
        self.broker.connection.come_back(empty=True)
        self.broker.devices._token_hashes.update(devices)
        self.away = False
        self.broker.connection.wake()
        self.ledger.went_back((set(), set()), (), {})

    def keep_copy(self) -> None:
        """A replica is as far as this."""
        self._copies = [*self._copies[-5:], self._copy()]

    def fail_over(self) -> bool:
        """Become a replica that lags behind; False when there is none."""
        if not self._copies:
            return False
        state = self._copies[self._rng.randrange(len(self._copies))]
        self._copies = []
        self._restore(state)
        queued = [clip.clip_id for clip in self.queue._stream.entries.values()]
        self.ledger.went_back(state["marks"], queued, self.patch_logs())
        self.broker.connection.wake()
        return True

    def lose_tail(self, sid: str, count: int) -> None:
        """The newest entries of one patch log are lost."""
        stream = self.broker.patches._streams.of(sid)
        for entry_id in list(stream.entries)[-count:]:
            del stream.entries[entry_id]
        stream.last_id = max(stream.entries, default=NO_ID)
        self._copies = []  # a replica that still had them would not have lost them
        self.ledger.log_went_back(sid, list(stream.entries.values()))

    def drop_lease(self, sid: str) -> None:
        """A lease is gone before its time."""
        self.broker.leases._leases.pop(sid, None)

    # -- inside ------------------------------------------------------------------------------------------------

    @property
    def queue(self) -> Any:
        """The one work queue."""
        return next(iter(self.broker.clips._queues.values()))

    def patch_logs(self) -> dict[str, list[PatchEntry]]:
        """All patch logs by session."""
        found = {}
        for sid in self.ledger.books:
            found[sid] = list(self.broker.patches._streams.of(sid).entries.values())
        return found

    def _tables(self) -> dict[str, dict[str, MemoryStream[Any]]]:
        broker = self.broker
        return {
            "dead": broker.clips.dead._streams,
            "labelled": broker.labelled._streams._streams,
            "patches": broker.patches._streams._streams,
            "upstream": broker.upstream._streams._streams,
            "scores": broker.scores._streams._streams,
        }

    def _plain(self) -> dict[str, dict[Any, Any]]:
        broker = self.broker
        return {
            "credit": broker.clips.credit,
            "seen": broker.directory._seen_s,
            "states": broker.directory._states,
            "leases": broker.leases._leases,
            "fences": broker.leases._fences,
            "pending": self.queue._pending,
        }

    def _copy(self) -> dict[str, Any]:
        state: dict[str, Any] = {"marks": self.ledger.copy_marks(), "delivered": self.queue._delivered}
        state["queue"] = _copy_of(self.queue._stream)
        for name, table in self._tables().items():
            state[name] = {key: _copy_of(stream) for key, stream in table.items()}
        for name, plain in self._plain().items():
            state[name] = copy.deepcopy(plain)
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        self.queue._stream, self.queue._delivered = state["queue"], state["delivered"]
        for name, table in self._tables().items():
            table.clear()
            table.update(state[name])
        for name, plain in self._plain().items():
            plain.clear()
            plain.update(state[name])

    # -- bounds ------------------------------------------------------------------------------------------------

    def over_bounds(self, credit: int) -> list[str]:
        """What has grown beyond its bound."""
        wrong = []
        waiting: dict[str, set[str]] = {}
        for clip in self.queue._stream.entries.values():
            waiting.setdefault(clip.sid, set()).add(clip.clip_id)
        for sid, clips in waiting.items():
            # One that was queued twice, after a lost answer, gives its credit back with the first of the two.
            if len(clips) > 2 * credit or len(self.broker.clips.credit.get(sid, ())) > credit:
                wrong.append(f"{sid}: {len(clips)} clips are queued, credit is {credit}")
        for name, kind in (("labelled", keys.LABELLED), ("upstream", keys.UP), ("scores", keys.SCORES)):
            for key, stream in self._tables()[name].items():
                if len(stream.entries) > (kind.maxlen or 0):
                    wrong.append(f"{key} has {len(stream.entries)} entries")
        for sid, log in self.patch_logs().items():
            patches = [entry for entry in log if entry.kind != "takeover"]
            if len(patches) > 2 * 64:
                wrong.append(f"{sid}: the patch log has {len(patches)} patches")
        return wrong

    # -- the way of one process --------------------------------------------------------------------------------

    def ports(self, process: Process) -> Broker:
        """The broker as `process` reaches it."""
        inner = self.broker

        def way(port: str, adapter: Any) -> Any:
            return _Way(self, process, port, adapter)

        return Broker(
            clips=lambda teacher: way("clips", inner.clips(teacher)),
            labelled=way("labelled", inner.labelled),
            patches=way("patches", inner.patches),
            upstream=way("upstream", inner.upstream),
            scores=way("scores", inner.scores),
            directory=way("directory", inner.directory),
            leases=way("leases", inner.leases),
            bell=way("bell", inner.bell),
            devices=way("devices", inner.devices),
            connection=way("connection", inner.connection),
        )

    async def operate(self, process: Process, port: str, name: str, work: Any, args: Any, options: Any) -> Any:
        """One operation on its way there and back."""
        if process.dying:
            raise BrokerUnavailableError("cut off")
        rng, troubles = self._rng, self.troubles
        draw = rng.random()
        if troubles.slow_s and draw < 0.3:
            await asyncio.sleep(rng.uniform(0, troubles.slow_s))
        elif draw < 0.6:
            await asyncio.sleep(rng.choice((0.0002, 0.001, 0.005)))
        if self.away or process.name in self.cut_off:
            await asyncio.sleep(rng.choice((0.0, 0.1, 1.0)))
            raise BrokerUnavailableError("the broker cannot be reached")
        result = await work(*args, **options)
        self._observe(port, name, args, result)
        if troubles.lost_answers and rng.random() < troubles.lost_answers:
            self._note(f"the answer to {port}.{name} is lost")
            await asyncio.sleep(rng.choice((0.01, 0.5)))
            raise BrokerUnavailableError("no answer came")
        if port == "bell" and name == "wait":
            heard = sorted(sid for sid in result if rng.random() >= troubles.lost_rings)
            return Rings(heard)
        return result

    def _observe(self, port: str, name: str, args: Any, result: Any) -> None:
        """Tell the ledger; nothing has happened since the operation took effect."""
        ledger = self.ledger
        match port, name:
            case "patches", "append":
                self._note(f"log: {args[1].kind} {args[1].base} to {args[1].version}, {args[0]}, id {result}")
                ledger.appended(args[0], args[1])
            case "clips", "admit" if result:
                self._note(f"queue: clip {args[0].clip_id[:8]}")
                ledger.took(args[0])
            case "clips", "done" | "bury":
                self._note(f"queue: {name} {args[0].clip_id[:8]}, id {args[0].entry_id}")
            case "labelled", "append":
                what = "reported" if args[0].error else "labelled"
                self._note(f"log: clip {args[0].clip_id[:8]} {what}, id {result}")
                ledger.got_labels(args[0], result)
            case "scores", "append" if args[1] == "clip":
                self._note(f"log: a score in {args[0]}")
                ledger.got_score(args[0], self.fence_of(args[0]), args[2])
            case "directory", "update" if "scored" in args[1]:
                ledger.cursor(args[0], self.fence_now(args[0]), args[1]["scored"])

    fence_of: Callable[[str], int] = staticmethod(lambda sid: 0)
    """The fence with which the running process took a session over; set by the world."""

    fence_now: Callable[[str], int] = staticmethod(lambda sid: 0)
    """The fence with which it publishes now, after a lapse a higher one; set by the world."""


class _Way:
    """One port on the way of one process."""

    def __init__(self, storage: Storage, process: Process, port: str, adapter: Any) -> None:
        self._storage = storage
        self._process = process
        self._port = port
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        work = getattr(self._adapter, name)

        def call(*args: Any, **options: Any) -> Any:
            return self._storage.operate(self._process, self._port, name, work, args, options)

        self.__dict__[name] = call
        return call


class Rings(Set):  # type: ignore[type-arg]
    """A set in order of insertion: it does not depend on how strings are hashed."""

    def __init__(self, sids: Iterable[str]) -> None:
        self._sids = dict.fromkeys(sids)

    def __contains__(self, sid: object) -> bool:
        return sid in self._sids

    def __iter__(self) -> Iterator[str]:
        return iter(self._sids)

    def __len__(self) -> int:
        return len(self._sids)


def _copy_of(stream: MemoryStream[Any]) -> MemoryStream[Any]:
    twin: MemoryStream[Any] = MemoryStream(stream._maxlen)
    twin.entries, twin.last_id, twin.written_s = dict(stream.entries), stream.last_id, stream.written_s
    return twin
