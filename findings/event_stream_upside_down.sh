#!/usr/bin/env bash
# versions: numpy 2.4.6, event_stream 1.6.3, faery 0.7.1
# date:     2026-11-30
# guess:    event_stream and faery, which come from the same authors, read the same rows from an .es file.
# seen:     An .es file counts rows from the bottom. event_stream passes y on as it is, faery counts from the
#           top and turns y around. Each reads its own files right; a recording written by one is upside down
#           in the other.
# output:
#     rows 0 to 7 written by event_stream, read by event_stream: (0, 7)
#     rows 0 to 7 written by event_stream, read by faery: (16, 23)
#     rows 0 to 7 written by faery, read by event_stream: (16, 23)
#     rows 0 to 7 written by faery, read by faery: (0, 7)
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 event_stream==1.6.3 faery==0.7.1 || exit 2
venv/bin/python - <<'EOF'
import event_stream
import faery
import numpy as np

spikes = np.zeros((40, 24, 32), bool)
spikes[:, :8] = True  # light above, dark below
step, y, x = np.nonzero(spikes)
events = np.zeros(len(x), event_stream.dvs_dtype)
events["t"], events["x"], events["y"], events["on"] = step * 50, x, y, True
with event_stream.Encoder("a.es", "dvs", 32, 24) as encoder:
    encoder.write(events)
same = np.zeros(len(x), faery.EVENTS_DTYPE)
same["t"], same["x"], same["y"], same["on"] = step * 50, x, y, True
faery.events_stream_from_array(same, (32, 24)).to_file("b.es")
rows = {}
for name, writer in (("a.es", "event_stream"), ("b.es", "faery")):
    with event_stream.Decoder(name) as decoder:
        packets = np.concatenate(list(decoder))
    for reader, read in (("event_stream", packets), ("faery", faery.events_stream_from_file(name).to_array())):
        assert len(read) == len(x) and read["t"].max() == 1950
        rows[writer, reader] = int(read["y"].min()), int(read["y"].max())
        print(f"rows 0 to 7 written by {writer}, read by {reader}: {rows[writer, reader]}")
assert rows["event_stream", "event_stream"] == rows["faery", "faery"] == (0, 7)
assert rows["event_stream", "faery"] == rows["faery", "event_stream"] == (16, 23)
EOF
