#!/usr/bin/env bash
# Runs every finding, or those named: findings/run_all.sh [NAME...]. A line each.
# Exit status 1 if any has changed or could not be installed.
cd "$(dirname "$0")"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if [ $# -eq 0 ]; then
    for script in *.sh; do
        if [ "$script" != run_all.sh ]; then set -- "$@" "${script%.sh}"; fi
    done
fi
failed=0
for name in "$@"; do
    status=0
    bash "$name.sh" >"$log" 2>&1 </dev/null || status=$?
    case $status in
        0) echo "same       $name" ;;
        2) echo "no install $name: $(tail -n 1 "$log")" ;;
        *) echo "CHANGED    $name: $(tail -n 1 "$log")" ;;
    esac
    if [ $status -ne 0 ]; then failed=1; fi
done
exit $failed
