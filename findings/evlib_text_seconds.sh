#!/usr/bin/env bash
# versions: numpy 2.4.6, evlib 0.13.2
# guess:    evlib tells microseconds from seconds in a text file of "t x y p", or says which it took.
# seen:     Any number is seconds: the integer times of a stream at 20,000 steps a second, in us, come back
#           a million times too long, without a word. The binary formats it reads hold us. Times such as
#           0.00195 are read exactly.
# output:
#     last step, at 1950 us: written in us it is 0:32:30, written in s it is 0:00:00.001950
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
"${PYTHON:-python3}" -m venv venv || exit 2
venv/bin/pip install --quiet --disable-pip-version-check \
    numpy==2.4.6 evlib==0.13.2 || exit 2
venv/bin/python - <<'EOF'
import evlib

steps = 40
for name, scale in (("us", 50), ("s", 50e-6)):
    with open(f"{name}.txt", "w") as file:
        for step in range(steps):
            file.write(f"{step * scale:.9g} 3 2 1\n")
last = {name: evlib.load_events(f"{name}.txt").collect()["t"].max() for name in ("us", "s")}
print(f"last step, at 1950 us: written in us it is {last['us']}, written in s it is {last['s']}")
assert last["us"].total_seconds() == 1950 and abs(last["s"].total_seconds() - 1950e-6) < 1e-9
EOF
