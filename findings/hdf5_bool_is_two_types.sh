#!/usr/bin/env bash
# versions: numpy 2.4.6, h5py 3.16.0, tables 3.11.1
# guess:    A bool array written by PyTables comes back as bool from h5py, and the other way about.
# seen:     HDF5 has no bool. PyTables writes a bit field of 8 bits, which h5py gives as uint8; h5py writes
#           an enumeration, which PyTables gives as int8. The numbers are right, but used as a mask they
#           select rows 0 and 1, and ~spikes is 254 and 255, or -1 and -2.
# output:
#     PyTables to h5py: uint8 inverted [254 255]
#     h5py to PyTables: int8 inverted [-2 -1]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 h5py==3.16.0 tables==3.11.1 || exit 2
venv/bin/python - <<'EOF'
import h5py
import numpy as np
import tables

spikes = np.random.default_rng(0).random((41, 25, 40)) < 0.3
with tables.open_file("p.h5", "w") as file:
    file.create_array("/", "spikes", spikes)
with h5py.File("h.h5", "w") as file:
    file["spikes"] = spikes
with h5py.File("p.h5") as file:
    by_h5py = file["spikes"][()]
with tables.open_file("h.h5") as file:
    by_tables = file.root.spikes[:]
with h5py.File("h.h5") as file:
    assert file["spikes"].dtype == bool
print("PyTables to h5py:", by_h5py.dtype, "inverted", np.unique(~by_h5py))
print("h5py to PyTables:", by_tables.dtype, "inverted", np.unique(~by_tables))
assert by_h5py.dtype == np.uint8 and by_tables.dtype == np.int8
assert np.array_equal(by_h5py, spikes) and np.array_equal(by_tables, spikes)
EOF
