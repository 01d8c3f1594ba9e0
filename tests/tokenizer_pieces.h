/* Parts of tokenizer files as JSON, for open_parts() (text_fixture.h). */
#ifndef TESTS_TOKENIZER_PIECES_H
#define TESTS_TOKENIZER_PIECES_H

#define BYTES_MODEL                                                                                                    \
    "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"aa\": 3, \"aaaa\": 4, \"abab\": 5, \" \": 6, \"\xE2\x96\x81\": 7, "  \
    "\"x\": 8}, "                                                                                                      \
    "\"merges\": [\"a b\", \"a a\", \"aa aa\", \"ab ab\"]"
#define SPLIT(expression, behavior)                                                                                    \
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"" expression "\"}, \"behavior\": \"" behavior                    \
    "\", \"invert\": false}"
#define ADDED(id, content, more) "{\"id\": " id ", \"content\": \"" content "\"" more "}"
#define REPLACE(from, to) "{\"type\": \"Replace\", \"pattern\": {\"String\": \"" from "\"}, \"content\": \"" to "\"}"
/* SentencePiece's table that maps "a" to 16 times "a". */
#define GROWING_TABLE                                                                                                  \
    "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"DAAAAACAAQBhDQAAAAAAAGFhYWFhYWFhYWFhYWFhYWEA\"}"

#endif
