"""Hostile envelopes, and headers that are not what they say."""

from __future__ import annotations

import json
import struct
from typing import Any

HEX32, HEX64 = "a" * 32, "b" * 64
PART: dict[str, Any] = {"type": "part", "transfer": HEX32, "index": 0, "count": 1, "size": 1, "digest": HEX64}
STATS: dict[str, Any] = {"type": "stats", "stream": "front", "sent_ns": 1, "version": 0}
FRAME: dict[str, Any] = {"seq": 0, "t_ns": 0, "version": 0}
CLIP: dict[str, Any] = {
    "type": "clip", "stream": "front", "clip_id": HEX32, "model_id": HEX64, "width": 64, "height": 64,
    "boot_id": "b", "sent_ns": 1, "frames": [FRAME],
}  # fmt: skip


def envelope(header: bytes | str | dict[str, Any], *, claim: int | None = None, version: int = 1) -> bytes:
    """An envelope with this header; `claim` is a length that may lie."""
    text = json.dumps(header) if isinstance(header, dict) else header
    raw = text.encode() if isinstance(text, str) else text
    return struct.pack("<3sBH", b"AMS", version, (len(raw) if claim is None else claim) & 0xFFFF) + raw


CASES: dict[str, bytes] = {
    "nothing": b"",
    "half a prefix": b"AMS\x01\x00",
    "text": b"hello, world",
    "another envelope version": envelope({"type": "ping"}, version=9),
    "a header longer than the message": envelope({"type": "ping"}, claim=17),
    "a header of 65535 bytes": envelope({"type": "ping"}, claim=65535),
    "a header over its limit": envelope('{"type":"ping","x":"' + "x" * 16_400 + '"}'),
    "a header cut short": envelope({"type": "ping"}, claim=10),
    "an empty header": envelope(""),
    "a message over the limit": envelope({"type": "ping"}) + bytes(64 * 1024),
    "invalid UTF-8": envelope(b'{"type":"notice","code":"a","text":"\xff\xfe"}'),
    "surrogates in UTF-8": envelope(b'{"type":"notice","code":"a","text":"\xed\xa0\x80"}'),
    "an escaped lone surrogate": envelope('{"type":"notice","code":"a","text":"\\ud800"}'),
    "UTF-16": envelope('{"type":"ping"}'.encode("utf-16")),
    "a byte order mark": envelope(b'\xef\xbb\xbf{"type":"ping"}'),
    "an array": envelope('["ping"]'),
    "a number": envelope("5"),
    "null": envelope("null"),
    "two objects": envelope('{"type":"ping"}{"type":"ping"}'),
    "deep arrays": envelope("[" * 16_000),
    "deep objects": envelope('{"a":' * 3_000),
    "deep nesting in a field that is ignored": envelope('{"type":"ping","x":' + "[" * 7_000 + "]" * 7_000 + "}"),
    "no type": envelope("{}"),
    "a type that is a number": envelope({"type": 1}),
    "a type that is a list": envelope({"type": ["ping"]}),
    "a type that is null": envelope({"type": None}),
    "an empty type": envelope({"type": ""}),
    "a type of 10,000 letters": envelope({"type": "x" * 10_000}),
    "a type that is no text": envelope({"type": "\U000e0001" * 64}),
    "a type that is a lone surrogate": envelope('{"type":"\\ud800"}'),
    "the type twice": envelope('{"type":"ping","type":"stats"}'),
    "a key twice": envelope('{"type":"error","code":"a","text":"x","text":"y"}'),
    "a key twice inside": envelope(json.dumps(CLIP).replace('"frames": [{"seq": 0', '"frames": [{"seq": 0, "seq": 1')),
    "NaN": envelope({**STATS, "camera_fps": float("nan")}),
    "infinity": envelope({**STATS, "camera_fps": float("inf")}),
    "a number beyond all floats": envelope(json.dumps(STATS)[:-1] + ',"camera_fps":1e999}'),
    "NaN in a field that is ignored": envelope({"type": "ping", "x": float("nan")}),
    "an integer of 400 digits": envelope(json.dumps(STATS).replace('"sent_ns": 1', '"sent_ns": ' + "9" * 400)),
    "an integer of 10,000 digits": envelope(json.dumps(STATS).replace('"sent_ns": 1', '"sent_ns": ' + "9" * 10_000)),
    "a fraction of 400 digits": envelope({**STATS, "camera_fps": 10**400}),
    "a part of 4,000 digits of bytes": envelope(json.dumps(PART).replace('"size": 1', '"size": ' + "9" * 4_000)),
    "an index of 4,000 digits": envelope(json.dumps(PART).replace('"index": 0', '"index": ' + "9" * 4_000)),
    "a negative index": envelope({**PART, "index": -1}),
    "an index beyond the count": envelope({**PART, "index": 1}),
    "a number in quotes": envelope({**STATS, "version": "0"}),
    "a truth for a number": envelope({**STATS, "version": True}),
    "a number for a truth": envelope({"type": "error", "code": "a", "text": "b", "retry": 1}),
    "a fraction for a whole number": envelope({**STATS, "version": 1.0}),
    "a number for a text": envelope({"type": "error", "code": "a", "text": 5}),
    "an object for a list": envelope({**CLIP, "frames": FRAME}),
    "a list for an object": envelope({**CLIP, "labels": [1, 2]}),
    "a list of nothing": envelope({**CLIP, "frames": [None]}),
    "a path for a name": envelope({**STATS, "stream": "../../etc/passwd"}),
    "a name with a line break": envelope({**STATS, "stream": "front\n"}),
    "a zero byte in a name": envelope({**STATS, "stream": "front\0"}),
    "no fields": envelope({"type": "clip"}),
    "too many frames": envelope({**CLIP, "frames": [{**FRAME, "t_ns": i} for i in range(65)]}),
    "frames out of order": envelope({**CLIP, "frames": [{**FRAME, "t_ns": 2}, {**FRAME, "t_ns": 1}]}),
    "labels of a frame that is not there": envelope({**CLIP, "labels": {"frame": 1, "bytes": 1}}),
    "labels of a megabyte and one": envelope({**CLIP, "labels": {"frame": 0, "bytes": (1 << 20) + 1}}),
}
