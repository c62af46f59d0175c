"""A tiny student, a broker in memory, and the feed of one session on it."""

from __future__ import annotations

import pytest

from ams.broker.memory import new_memory
from ams.demo.feed import Feed, Subject
from ams.models.bundle import ModelBundle
from ams.ports import Broker
from tests.blocks import networks
from tests.demo.clips import SID, STREET, HandClock


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> ModelBundle:
    return networks.student(tmp_path_factory.mktemp("student"), STREET, steps=5)


@pytest.fixture
def broker() -> Broker:
    return new_memory(now=lambda: 1_000.0)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def subject(student: ModelBundle) -> Subject:
    return Subject(SID, "street world", "memory", student, "blocks-teacher", 1234)


@pytest.fixture
def feed(broker: Broker, subject: Subject, clock: HandClock) -> Feed:
    return Feed(broker, subject, clock)
