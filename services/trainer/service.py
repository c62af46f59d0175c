"""The trainer's shell: finds sessions, gives each a worker, renews their leases, passes rings on.

One task per owned session, one thread in which all training and scoring happens. A session that breaks is logged and
tried again after a while; it never takes the others with it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from ams.errors import BrokerError, FencedError, ModelError
from ams.models.store import DirectoryStore
from ams.ports import Broker, Clock
from services.trainer.config import TrainerSettings
from services.trainer.metrics import TrainerMetrics
from services.trainer.ownership import StudentShelf
from services.trainer.worker import SessionWorker, StoppedError

log = logging.getLogger(__name__)

RETRY_REAL_S = 1.0
MODEL_PAUSE_REAL_S = 60.0
"""When to look again whether a student that could not be loaded can be now."""

BROKEN_PAUSE_REAL_S = 10.0
"""When to try a session again that broke."""


class TrainerService:
    """One trainer process. `run` returns after `stop`, with its sessions handed over."""

    def __init__(
        self, broker: Broker, store: DirectoryStore, clock: Clock, settings: TrainerSettings, metrics: TrainerMetrics
    ) -> None:
        self._broker = broker
        self._shelf = StudentShelf(store)
        self._clock = clock
        self._settings = settings
        self._metrics = metrics
        self._workers: dict[str, SessionWorker] = {}
        self._not_before: dict[str, float] = {}
        self._stopping = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="training")

    def stop(self) -> None:
        """Ask `run` to finish; a phase that is under way ends at its next step."""
        self._stopping.set()
        for worker in self._workers.values():
            worker.ring()

    async def run(self) -> None:
        """Own and train sessions until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            helpers = [tasks.create_task(self._listen()), tasks.create_task(self._renew())]
            async with asyncio.TaskGroup() as sessions:
                while not self._stopping.is_set():
                    try:
                        await self._sweep(sessions)
                    except BrokerError as error:
                        self._broker_failed(error)
                    await self._pause(self._settings.sweep_real_s)
            for helper in helpers:  # only now: leases are kept until their sessions are handed over
                helper.cancel()
        self._thread.shutdown(cancel_futures=True)

    async def _sweep(self, sessions: asyncio.TaskGroup) -> None:
        """Take every live session that nobody owns, up to our limit; let go of those that are silent."""
        since = time.time() - self._settings.idle_session_real_s
        seen = await self._broker.directory.seen_since(since)
        now_s = time.monotonic()
        self._not_before = {sid: at_s for sid, at_s in self._not_before.items() if at_s > now_s}
        for sid in self._workers.keys() - set(seen):
            log.info("%s: silent, let go", sid)
            self._workers[sid].idle = True
            self._workers[sid].ring()
        for sid in seen:
            if sid in self._workers or sid in self._not_before or len(self._workers) >= self._settings.max_sessions:
                continue
            lease = await self._broker.leases.acquire(sid, self._settings.name, ttl_s=self._settings.lease_ttl_real_s)
            if lease is None:
                continue
            worker = SessionWorker(
                lease, self._broker, self._shelf, self._clock, self._settings, self._metrics,
                in_thread=self._in_thread, stopping=self._stopping,
            )  # fmt: skip
            self._workers[sid] = worker
            self._metrics.sessions.set(len(self._workers))
            sessions.create_task(self._tend(worker), name=sid)

    async def _tend(self, worker: SessionWorker) -> None:
        """Run a worker to its end, whatever that is."""
        sid, pause_s = worker.sid, 0.0
        try:
            await worker.run()
        except StoppedError:
            log.info("%s: handed over", sid)
        except FencedError:
            log.warning("%s: fenced off, another trainer goes on from what is published", sid)
        except ModelError as error:
            log.error("%s: cannot be trained: %s", sid, error)
            pause_s = MODEL_PAUSE_REAL_S
            try:
                await worker.notify("model", str(error))
            except BrokerError as away:
                self._broker_failed(away)
        except Exception:  # one session's bug or lack of memory must not stop the others
            log.exception("%s: broke, it is tried again in %.0f s", sid, BROKEN_PAUSE_REAL_S)
            pause_s = BROKEN_PAUSE_REAL_S
        finally:
            self._workers.pop(sid, None)
            self._not_before[sid] = time.monotonic() + pause_s
            self._metrics.sessions.set(len(self._workers))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_ttl_real_s / 3)
            for worker in list(self._workers.values()):
                try:
                    await worker.renew()
                except BrokerError as error:
                    self._broker_failed(error)

    async def _listen(self) -> None:
        while True:
            try:
                rung = await self._broker.bell.wait(self._settings.name, wait_s=1.0)
            except BrokerError as error:
                self._broker_failed(error)
                await asyncio.sleep(RETRY_REAL_S)
                continue
            for sid in rung & self._workers.keys():
                self._workers[sid].ring()

    async def _in_thread(self, work: Callable[[], object]) -> object:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _pause(self, real_s: float) -> None:
        try:
            async with asyncio.timeout(real_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    def _broker_failed(self, error: BrokerError) -> None:
        self._metrics.broker_errors.inc()
        log.warning("broker is away or refuses, trying again: %s", error)
