#!/usr/bin/env bash
# versions: hdf5storage 0.2.2, mat73 0.65, numpy 2.4.6
# date:     2026-12-01
# guess:    savemat over an existing MATLAB 7.3 file replaces the variable of that name: spikes (logical), then their
#           picture in 256 grey levels under the same name.
# seen:     The values are replaced, the class is not: "logical" stays, and both mat73 and hdf5storage read the picture as
#           bool, without a word. Of 60 grey levels 2 are left. Seen with an 8-bit picture of the
#           spikes' shape; a float32 picture got its own class. With truncate_existing=True the file is right.
# output:
#     class b'logical': mat73 bool with 2 values, hdf5storage bool with 2 values
#     truncate_existing=True, class b'uint8': mat73 uint8 with 60 values, hdf5storage uint8 with 60 values
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    hdf5storage==0.2.2 mat73==0.65 numpy==2.4.6 || exit 2
venv/bin/python - <<'EOF'
import h5py
import hdf5storage
import mat73
import numpy as np

spikes = np.random.default_rng(0).random((6, 10)) < 0.5
picture = np.arange(60, dtype=np.uint8).reshape(6, 10)
found = []
for options in ({}, {"truncate_existing": True}):
    hdf5storage.savemat("rec.mat", {"data": spikes}, format="7.3", store_python_metadata=False, truncate_existing=True)
    hdf5storage.savemat("rec.mat", {"data": picture}, format="7.3", store_python_metadata=False, **options)
    with h5py.File("rec.mat") as file:
        name = bytes(file["data"].attrs["MATLAB_class"])
    read = mat73.loadmat("rec.mat")["data"], hdf5storage.loadmat("rec.mat")["data"]
    found.append([(array.dtype.name, len(np.unique(array))) for array in read])
    (one, values), (other, others) = found[-1]
    option = "truncate_existing=True, " if options else ""
    print(f"{option}class {name}: mat73 {one} with {values} values, hdf5storage {other} with {others} values")
assert found == [[("bool", 2)] * 2, [("uint8", 60)] * 2]
EOF
