"""Write the recorded bytes from `content.py`: `python -m tests.golden.record`.

Only for a new protocol, or before the first release of one. Refuses to overwrite what is recorded already, because
peers out there speak it; remove a file by hand if it was never released.
"""

from __future__ import annotations

import json
from pathlib import Path

from ams.core import label_map
from ams.core.envelope import encode
from ams.core.patch import GAP_ZSTD, RANS
from tests.golden import content


def recordings() -> dict[str, bytes]:
    """File name and bytes of everything that is recorded."""
    files = {f"message-{name}.bin": encode(*message) for name, message in content.MESSAGES.items()}
    for name, patch in content.PATCHES.items():
        files[f"patch-{name}.bin"] = patch.encode(content.LAYOUT, coder=GAP_ZSTD)
    for name, patch in content.RANS_PATCHES.items():
        files[f"patch-rans-{name}.bin"] = patch.encode(content.LAYOUT, coder=RANS)
    files["label-maps.bin"] = label_map.encode(content.LABELS_NHW)
    files["card.json"] = content.CARD.canonical_json()
    identities = {
        "model_id": content.MODEL_ID,
        "digest_version0": content.LAYOUT.digest(content.VERSION0).hex(),
        "digest_version1": content.LAYOUT.digest(content.VERSION1).hex(),
        "digest_version2": content.LAYOUT.digest(content.VERSION2).hex(),
    }
    files["identities.json"] = json.dumps(identities, indent=1).encode() + b"\n"
    return files


def main() -> None:
    folder = Path(__file__).parent / content.FOLDER
    folder.mkdir(exist_ok=True)
    for name, data in recordings().items():
        path = folder / name
        if path.exists() and path.read_bytes() != data:
            raise SystemExit(f"{path} is recorded with other bytes: the wire has changed. See README.md there.")
        path.write_bytes(data)
        print(f"{name}: {len(data)} bytes")


if __name__ == "__main__":
    main()
