#!/bin/sh
# Runs a Python program with the first python3 that has numpy; exits with 77 (skipped) if there is none.
#
#   with_numpy.sh PROGRAM ARGUMENT...
for python in python3 /usr/bin/python3; do
    "$python" -c 'import numpy' 2>/dev/null && exec "$python" "$@"
done
echo "skipped: there is no python3 with numpy"
exit 77
