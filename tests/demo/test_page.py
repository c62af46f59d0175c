"""The page over HTTP: what it answers, what it never gives out, and that its files need nothing from elsewhere."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Iterator
from posixpath import join, normpath
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from ams.demo.feed import Feed
from ams.demo.live import LiveRelay
from ams.demo.moments import Moment
from ams.demo.page import WEB, create_page
from ams.ports import Broker
from tests.demo.clips import SID, score

HOST = "testserver"
SVG_NAMESPACE = "http://www.w3.org/2000/svg"
TYPES = {
    ".html": {"text/html"}, ".css": {"text/css"}, ".js": {"text/javascript", "application/javascript"},
}  # fmt: skip
PAGE_FILES = sorted(path.name for path in WEB.iterdir())


@pytest.fixture
def relay(feed: Feed) -> LiveRelay:
    return LiveRelay("", feed.hear)


def test_a_name_that_is_not_ours_is_not_answered(feed: Feed, relay: LiveRelay) -> None:
    page = create_page(feed, relay, hosts=("localhost", "127.0.0.1"))
    for host, status in (("localhost:8600", 200), ("127.0.0.1:8600", 200), ("rebound.example:8600", 400)):
        assert TestClient(page, base_url=f"http://{host}").get("/api/state").status_code == status


@pytest.fixture
def client(feed: Feed, relay: LiveRelay) -> Iterator[TestClient]:
    with TestClient(create_page(feed, relay), base_url=f"http://{HOST}") as client:
        yield client


def tell(feed: Feed, broker: Broker, number: int = 1) -> None:
    """Have a clip scored, and the feed know of it."""

    async def run() -> None:
        await broker.scores.append(SID, "clip", score(number, start_s=10.0 * number).model_dump_json().encode())
        await feed._gather()

    asyncio.run(run())


def preview(t_s: float) -> bytes:
    header = json.dumps({"t_s": t_s, "caption": "day"}).encode()
    return struct.pack("<I", len(header)) + header + b"pictures"


# -- what the feed knows ---------------------------------------------------------------------------------------


def test_the_state_is_the_feeds_and_only_what_is_new(client: TestClient, feed: Feed, broker: Broker) -> None:
    tell(feed, broker)
    state = client.get("/api/state").json()
    assert state["session"] == SID
    assert [frame["t_s"] for frame in state["frames"]] == [0.0, 1.0, 2.0]
    tell(feed, broker, 2)
    state = client.get("/api/state", params={"frames": 3, "phases": 0, "links": 0}).json()
    assert [frame["t_s"] for frame in state["frames"]] == [10.0, 11.0, 12.0]
    assert state["counts"]["frames"] == 6


@pytest.mark.parametrize("known", ["frames=-1", "phases=many", "links=1.5", "frames="])
def test_what_no_page_can_know_is_refused(client: TestClient, known: str) -> None:
    assert client.get(f"/api/state?{known}").status_code == 422


def test_the_line_is_the_records(client: TestClient, feed: Feed, broker: Broker) -> None:
    assert client.get("/api/line").json() == {"line": feed.record.line(last_s=60), "clips_seen": 0}
    tell(feed, broker)
    answer = client.get("/api/line").json()
    assert answer["line"].startswith("mIoU  80.0 adapted,  50.0 unadapted | ")
    assert answer["clips_seen"] == 1


def test_the_summary_takes_what_the_agent_said(client: TestClient, feed: Feed, broker: Broker) -> None:
    tell(feed, broker)
    figures = client.post("/api/summary", json={"frames": 900, "camera_fps": 29.987}).json()
    assert (figures["adapted_miou"], figures["frames"], figures["camera_fps"]) == (80.0, 900, 29.99)
    assert client.post("/api/summary", json={}).json()["frames"] == 0


@pytest.mark.parametrize("body", ["", "[]", "null", "rubbish"])
def test_a_summary_of_something_else_is_refused(client: TestClient, body: str) -> None:
    answer = client.post("/api/summary", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422


def test_the_process_says_that_it_is_alive(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "alive"}


# -- moments ---------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(feed: Feed) -> Moment:
    pictures = {"camera.jpg": b"a jpeg", "unadapted.png": b"a png", "teacher.png": b"another"}
    moment = Moment("ab12-0", 1.0, 7, None, 0.5, pictures)
    feed.reel.add([moment], 0.0)
    return moment


@pytest.mark.parametrize(("name", "kind"), [("camera.jpg", "image/jpeg"), ("unadapted.png", "image/png")])
def test_a_picture_of_a_moment_is_served_and_may_be_kept(
    client: TestClient, shown: Moment, name: str, kind: str
) -> None:
    answer = client.get(f"/api/moments/{shown.id}/{name}")
    assert (answer.status_code, answer.content) == (200, shown.pictures[name])
    assert answer.headers["content-type"] == kind
    assert answer.headers["cache-control"] == "private, max-age=60"


@pytest.mark.parametrize(
    "path",
    [
        "ab12-0/adapted.png",  # its version was not known
        "ab12-0/other.png",
        "ab12-0/camera.png",
        "ab12-1/camera.jpg",
        "ab12-0/",
        "ab12-0/..%2f..%2fpage.py",
        "%2e%2e/camera.jpg",
        "ab12-0/camera.jpg/more",
    ],
)
def test_any_other_picture_is_not_there(client: TestClient, shown: Moment, path: str) -> None:
    assert client.get(f"/api/moments/{path}").status_code == 404


# -- files -----------------------------------------------------------------------------------------------------


def referred_to(name: str, text: str) -> set[str]:
    """Names of the files that a file of the page loads."""
    if name.endswith(".js"):
        found = re.findall(r"""(?:from|import)\s*\(?\s*["']([^"']+)["']""", text)
    elif name.endswith(".css"):
        found = re.findall(r"""url\(\s*["']?([^"')]+)|@import\s+["']([^"']+)""", text)
        found = [one or other for one, other in found]
    else:
        found = re.findall(r"""\s(?:href|src|srcset|poster|data)=["']([^"']+)["']""", text)
    return {normpath(join("/", link)).lstrip("/") for link in found if not link.startswith(("data:", "#"))}


def test_the_page_and_all_that_it_loads_is_served_as_what_it_is(client: TestClient) -> None:
    index = client.get("/")
    assert index.text == (WEB / "index.html").read_text("utf-8")
    assert index.headers["content-type"].split(";")[0] == "text/html"
    waiting, loaded = referred_to("index.html", index.text), {"index.html"}
    assert {"app.js", "style.css"} <= waiting
    while waiting:
        name = waiting.pop()
        answer = client.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.content == (WEB / name).read_bytes()
        assert answer.headers["content-type"].split(";")[0] in TYPES["." + name.rpartition(".")[2]], name
        loaded.add(name)
        waiting |= referred_to(name, answer.text) - loaded
    assert sorted(loaded) == PAGE_FILES, "no file lies there for nothing"


@pytest.mark.parametrize("name", PAGE_FILES)
def test_no_file_refers_to_anything_outside(name: str) -> None:
    text = (WEB / name).read_text("utf-8")
    assert set(re.findall(r"https?://[^\"'\s)>]*", text)) <= {SVG_NAMESPACE}
    assert not re.search(r"""(?:href|src|url\(|from|import|fetch\()[=\s(]*["'`]?//""", text), "nor without a scheme"
    assert not re.search(r"@import|importScripts|sendBeacon|EventSource", text)


def test_the_page_has_no_script_or_style_that_the_policy_would_refuse() -> None:
    text = (WEB / "index.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=", text)
    for path in WEB.glob("*.js"):
        assert not re.search(r"\beval\(|new Function|innerHTML|outerHTML|document\.write", path.read_text("utf-8")), (
            path
        )


def test_every_element_that_a_module_names_is_on_the_page() -> None:
    ids = set(re.findall(r'\sid="([^"]+)"', (WEB / "index.html").read_text("utf-8")))
    named = {
        name for path in WEB.glob("*.js") for name in re.findall(r'(?:byId|say)\("([^"]+)"', path.read_text("utf-8"))
    }
    assert len(named) > 20
    assert named <= ids


@pytest.mark.parametrize(
    "path",
    [
        "/../page.py",
        "/%2e%2e/page.py",
        "/..%2fpage.py",
        "/%2e%2e%2f%2e%2e%2ferrors.py",
        "/..%5cpage.py",
        "/./../feed.py",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        f"/{WEB.parent}/page.py",
        "/web/index.html",
        "/style.css/..%2f..%2fpage.py",
        "/%00",
        "/style.css%00.js",
        "/docs",
        "/openapi.json",
        "/api",
        "/" + "a" * 5000,
    ],
)
def test_nothing_else_is_given_out(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "import" not in answer.text


# -- headers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        *(("GET", f"/{name}", 200) for name in PAGE_FILES),
        ("HEAD", "/app.js", 200),
        ("GET", "/api/state", 200),
        ("GET", "/api/line", 200),
        ("GET", "/healthz", 200),
        ("GET", "/api/moments/ab12-0/camera.jpg", 200),
        ("GET", "/api/moments/none/camera.jpg", 404),
        ("GET", "/nothing", 404),
        ("GET", "/nothing.jpg", 404),
        ("GET", "/%2e%2e/page.py", 404),
        ("GET", "/api/state?frames=-1", 422),
        ("POST", "/api/summary", 422),
        ("POST", "/", 405),
        ("DELETE", "/api/state", 405),
        ("PUT", "/app.js", 405),
    ],
)
def test_whatever_is_answered_carries_the_policy(
    client: TestClient, shown: Moment, method: str, path: str, status: int
) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert "unsafe" not in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in answer.headers


def test_the_page_is_never_an_old_one(client: TestClient) -> None:
    for path in ("/", "/app.js", "/style.css", "/api/state", "/api/line"):
        assert client.get(path).headers["cache-control"] == "no-cache"


# -- the live view ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "origin",
    [
        "https://example.org",
        f"http://{HOST}.example.org",
        f"http://{HOST}:8600",
        f"http://example.org/{HOST}",
        f"http://{HOST}@example.org",
        "null",
        "",
        HOST,
        "http://[",
    ],
)
def test_another_page_may_not_watch(client: TestClient, relay: LiveRelay, origin: str) -> None:
    relay._take(preview(1.0))
    with (
        pytest.raises(WebSocketDisconnect) as refused,
        client.websocket_connect("/api/live", headers={"Origin": origin}) as socket,
    ):
        socket.receive_bytes()
    assert refused.value.code == 1008


@pytest.mark.parametrize("headers", [{"Origin": f"http://{HOST}"}, {}])
def test_the_page_itself_and_programs_get_what_comes(
    client: TestClient, relay: LiveRelay, headers: dict[str, str]
) -> None:
    relay._take(preview(1.0))
    assert client.portal is not None
    with client.websocket_connect("/api/live", headers=headers) as socket:
        assert socket.receive_bytes() == preview(1.0)
        client.portal.call(relay._take, preview(2.0))
        assert socket.receive_bytes() == preview(2.0)


def test_a_page_on_a_port_of_its_own_may_watch(feed: Feed, relay: LiveRelay) -> None:
    relay._take(preview(1.0))
    with TestClient(create_page(feed, relay), base_url="http://localhost:8600") as client:
        headers = {"Origin": "http://localhost:8600", "Host": "localhost:8600"}
        with client.websocket_connect("/api/live", headers=headers) as socket:
            assert socket.receive_bytes() == preview(1.0)


@pytest.mark.parametrize("said", ["text", b"bytes"])
def test_what_a_browser_says_is_not_heeded(client: TestClient, relay: LiveRelay, said: Any) -> None:
    relay._take(preview(1.0))
    assert client.portal is not None
    with client.websocket_connect("/api/live") as socket:
        assert socket.receive_bytes() == preview(1.0)
        if isinstance(said, str):
            socket.send_text(said)
        else:
            socket.send_bytes(said)
        for t_s in (2.0, 3.0):
            client.portal.call(relay._take, preview(t_s))
            assert socket.receive_bytes() == preview(t_s)


def test_nobody_is_left_waiting_for_a_browser_that_has_gone(client: TestClient, relay: LiveRelay) -> None:
    def waiting() -> int:
        return sum("_send_newest" in repr(task.get_coro()) for task in asyncio.all_tasks())

    async def settle() -> int:
        for _ in range(100):
            if not waiting():
                break
            await asyncio.sleep(0)
        return waiting()

    assert client.portal is not None
    relay._take(preview(1.0))
    with client.websocket_connect("/api/live") as socket:
        socket.receive_bytes()
        assert client.portal.call(settle) == 1
    assert client.portal.call(settle) == 0
