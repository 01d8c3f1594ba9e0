#!/bin/sh
# Runs python_test.py with the first python3 that has numpy; skipped (77) where there is none.
#
#   python_test.sh SOURCE LIBRARY SHARED
for python in python3 /usr/bin/python3; do
    "$python" -c 'import numpy' 2>/dev/null && exec "$python" "$(dirname "$0")/python_test.py" "$@"
done
echo "skipped: there is no python3 with numpy"
exit 77
