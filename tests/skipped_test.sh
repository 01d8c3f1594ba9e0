#!/bin/sh
# scripts/skipped counts each skipped test once, in the output of cmocka 1.1.5 and 1.1.7 and of programs without it.
#
#   skipped_test.sh SOURCE_DIR
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/Testing/Temporary"
cat >"$folder/Testing/Temporary/LastTest.log" <<'END'
1/5 Test: test_cmocka_115
[==========] Running 2 test(s).
[ RUN      ] first
skipped: no moon
[  SKIPPED ] first
[ RUN      ] second
[       OK ] second
[  SKIPPED ] 1 test(s), listed below:
[  SKIPPED ] first
2/5 Test: test_cmocka_117
[==========] tests: Running 1 test(s).
[ RUN      ] third
skipped: no moon
[  SKIPPED ] third
[  SKIPPED ] tests: 1 test(s), listed below:
[  SKIPPED ] third
3/5 Test: test_whole_program
skipped: no sun
4/5 Test: script
skipped: no sun
5/5 Test: test_passing
[==========] Running 1 test(s).
[       OK ] fourth
END
cat >"$folder/expected" <<'END'

4 tests were skipped:
  2: no moon (test_cmocka_115 test_cmocka_117)
  2: no sun (test_whole_program script)
END
"$1/scripts/skipped" "$folder" | diff "$folder/expected" -
