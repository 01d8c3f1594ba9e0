/* The parts of a tokenizer one by one: normalizers, pre-tokenizers and decoders.
 *
 * The expected texts were computed with the tokenizers library, version 0.20.3 (whose regular expressions are
 * Oniguruma's); '|' separates pieces and tokens. */
#include "text_fixture.h"

#include "text/tokenizer/detokenizer.h"
#include "text/tokenizer/steps/normalizer.h"
#include "text/tokenizer/steps/pre_tokenizer.h"

typedef struct part_case {
    const char *config, *text, *expected;
} part_case;

/* SentencePiece's table for: U+FB01 "fi", TAB " ", U+2460 "1", e and U+0301 "\xC3\xA9", U+00AD "", "ab" "X", "abc" "Y".
 */
#define CHARSMAP "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"" TABLE "\"}"
#define TABLE                                                                                                          \
    "vAMAAAAEAAAAAAAAAAAAAAAAAAAAAACAAwAAgAAAAAAAAAAACTUAAAUAAIAAAAAABwAAgAAAAAAKAACAAAAAAA0AAIALAACAAAAA"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAGG4AQAAAAAAAAAAAAAAAABlsAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAGLxAQAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAABj8QEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACB"             \
    "GQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAACBAQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAACRQAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAArbECAAAAAAAAAAAAAAAAAAAAAAAAAAAAoLkC"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAKy0AgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMI8AwDMOAMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"             \
    "AAAAAAAAAAAAAAAA4pQDAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADvsAMAZmkAIAAxAMOpAABYAFkA"

static const part_case NORMALIZERS[] = {
    {"{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}", "ab",
     "\xE2\x96\x81"
     "ab"},
    {"{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}", " a b  c",
     "\xE2\x96\x81"
     "a\xE2\x96\x81"
     "b\xE2\x96\x81\xE2\x96\x81"
     "c"},
    {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"aa\"}, \"content\": \"\"}", "aaab", "ab"},
    {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \" {2,}\"}, \"content\": \"\xE2\x96\x81\"}", "a  b   c d",
     "a\xE2\x96\x81"
     "b\xE2\x96\x81"
     "c d"},
    {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"x*\"}, \"content\": \"-\"}", "axxb", "-a-b-"},
    {"{\"type\": \"NFC\"}",
     "e\xCC\x81"
     "A\xCC\x8A \xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8 \xE2\x84\xAB\xEF\xAC\x81",
     "\xC3\xA9\xC3\x85 \xEA\xB0\x81 \xC3\x85\xEF\xAC\x81"},
    {"{\"type\": \"NFD\"}", "\xC3\xA9\xC3\x85\xEA\xB0\x81\xE2\x84\xAB\xEF\xAC\x81",
     "e\xCC\x81"
     "A\xCC\x8A\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8"
     "A\xCC\x8A\xEF\xAC\x81"},
    {"{\"type\": \"NFKC\"}", "\xEF\xAC\x81\xEF\xBC\x92\xC2\xBD\xC3\x85 e\xCC\x81",
     "fi21\xE2\x81\x84"
     "2\xC3\x85 \xC3\xA9"},
    {"{\"type\": \"NFKD\"}", "\xEF\xAC\x81\xEF\xBC\x92\xC2\xBD\xC3\xA9",
     "fi21\xE2\x81\x84"
     "2e\xCC\x81"},
    {"{\"type\": \"NFC\"}", "q\xCC\x87\xCC\xA3", "q\xCC\xA3\xCC\x87"},
    {"{\"type\": \"Lowercase\"}", "\xC3\x80\xC3\x89 \xC4\xB0I \xCE\x91\xCE\xA3 \xE1\xBA\x9E \xC7\x85 ABC",
     "\xC3\xA0\xC3\xA9 i\xCC\x87i \xCE\xB1\xCF\x83 \xC3\x9F \xC7\x86 abc"},
    {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}", " \t\xE3\x80\x80 a b \n\xC2\xA0", "a b"},
    {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": false}", "  a  ", "a  "},
    {"{\"type\": \"Strip\", \"strip_left\": false, \"strip_right\": true}", "  a\xE1\xA0\x8E", "  a\xE1\xA0\x8E"},
    {"{\"type\": \"Sequence\", \"normalizers\": [{\"type\": \"Prepend\", \"prepend\": \"\xE2\x96\x81\"}, {\"type\": "
     "\"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": \"\xE2\x96\x81\"}]}",
     "Hello  world", "\xE2\x96\x81Hello\xE2\x96\x81\xE2\x96\x81world"},
    {"{\"type\": \"Sequence\", \"normalizers\": []}", "A b", "A b"},
    /* the rest: version 0.23.3 */
    {"{\"type\": \"StripAccents\"}", "e\xCC\x81\xC3\xA9 \xE0\xA4\x95\xE0\xA4\xBE\xE2\x83\x9D",
     "e\xC3\xA9 \xE0\xA4\x95"},
    {"{\"type\": \"Nmt\"}", "a\x01\tb\xE2\x96\x81\xE2\x80\x8B\x7F\x0B\nc", "a b   c"},
    {"{\"type\": \"ByteLevel\"}", "a \xC3\xA9", "a\xC4\xA0\xC3\x83\xC2\xA9"},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": true, \"handle_chinese_chars\": true, \"strip_accents\": null, "
     "\"lowercase\": true}",
     "\xC3\x89t\xC3\xA9\t\xE4\xB8\xAD\x01\xE2\x80\x8DX", "ete  \xE4\xB8\xAD x"},
    {"{\"type\": \"BertNormalizer\", \"clean_text\": false, \"handle_chinese_chars\": false, \"strip_accents\": true, "
     "\"lowercase\": false}",
     "\xC3\x89t\xC3\xA9\t\xE4\xB8\xAD", "Ete\t\xE4\xB8\xAD"},
    {CHARSMAP, "\xEF\xAC\x81x\t\xE2\x91\xA0 ab", "fix 1 ab"},
    {CHARSMAP, "e\xCC\x81 e\xCC\x81\xCC\x82", "\xC3\xA9 \xC3\xA9"},       /* the shortest prefix of a cluster decides */
    {CHARSMAP, "e\xCC\x81\xCC\x82\xCC\x82", "e\xCC\x81\xCC\x82\xCC\x82"}, /* six bytes and more: by character */
    {CHARSMAP,
     "a\xC2\xAD"
     "b",
     "ab"},
    {"{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"\"}", "a\t", "a\t"},
};

static const part_case PRE_TOKENIZERS[] = {
    /* version 0.23.3 */
    {"{\"type\": \"Punctuation\", \"behavior\": \"Removed\"}", "a, b!?c$\xE2\x80\xA6", "a| b|c"},
    {"{\"type\": \"Punctuation\"}", "a, b!?c$\xE2\x80\xA6", "a|,| b|!|?|c|$|\xE2\x80\xA6"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithPrevious\"}", "a, b!?c", "a,| b!|?|c"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"MergedWithNext\"}", "a, b!?c", "a|, b|!|?c"},
    {"{\"type\": \"Punctuation\", \"behavior\": \"Contiguous\"}", "a, b!?c", "a|,| b|!?|c"},
    {"{\"type\": \"Punctuation\"}",
     "a\xE2\xB9\x83"
     "b\xE1\x99\xAD",
     "a\xE2\xB9\x83"
     "b|\xE1\x99\xAD"},
    {"{\"type\": \"Whitespace\"}", "a, b!?\xE2\x80\x8D_1  \xC2\xBD", "a|,|b|!?|\xE2\x80\x8D_1|\xC2\xBD"},
    {"{\"type\": \"WhitespaceSplit\"}",
     " a,\xE3\x80\x80"
     "b\n c ",
     "a,|b|c"},
    {"{\"type\": \"BertPreTokenizer\"}", "a, b.c", "a|,|b|.|c"},
    {"{\"type\": \"CharDelimiterSplit\", \"delimiter\": \".\"}", "a.b..c", "a|b|c"},
    {"{\"type\": \"FixedLength\", \"length\": 2}",
     "ab\n\xC3\xA9"
     "c",
     "ab|\n\xC3\xA9|c"},
    {"{\"type\": \"UnicodeScripts\"}", "Any apples 42!", "Any apples |42!"},
    {"{\"type\": \"UnicodeScripts\"}",
     "  \xE6\x97\xA5\xE6\x9C\xAC\xE3\x83\xBC\xE3\x81\x8B\xE3\x81\xAA\xE3\x82\xAB\xE3\x83\x8A "
     "\xE3\x81\xA7\xE3\x81\x99\xE3\x80\x82ok",
     "\xE6\x97\xA5\xE6\x9C\xAC\xE3\x83\xBC\xE3\x81\x8B\xE3\x81\xAA\xE3\x82\xAB\xE3\x83\x8A "
     "\xE3\x81\xA7\xE3\x81\x99|\xE3\x80\x82|ok"},
    {"{\"type\": \"UnicodeScripts\"}", "\xCE\xB1\xCE\xB2\xCE\xB3 abc", "\xCE\xB1\xCE\xB2\xCE\xB3 |abc"},
    {"{\"type\": \"UnicodeScripts\"}", "\xD0\xB5\xCC\x81\xD0\xB6", "\xD0\xB5|\xCC\x81|\xD0\xB6"},
    {"{\"type\": \"UnicodeScripts\"}", "a\xD5\xA0\xD5\xA0 b", "a\xD5\xA0\xD5\xA0 b"},
    {"{\"type\": \"UnicodeScripts\"}", "\xF0\x9F\xA5\xB0\xF0\x9F\x98\x80 x", "\xF0\x9F\x98\x80 |x"},
    {"{\"type\": \"UnicodeScripts\"}", "   ", ""},
    {"{\"type\": \"UnicodeScripts\"}", "\xEE\x80\x80", ""},
    {"{\"type\": \"UnicodeScripts\"}",
     "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80 "
     "\xD8\xA7\xD9\x84\xD8\xB9\xD8\xB1\xD8\xA8\xD9\x8A\xD8\xA9",
     "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80 "
     "|\xD8\xA7\xD9\x84\xD8\xB9\xD8\xB1\xD8\xA8\xD9\x8A\xD8\xA9"},
    {"{\"type\": \"UnicodeScripts\"}",
     "a\xE2\x80\x8D"
     "b",
     "a|\xE2\x80\x8D|b"},
    {"{\"type\": \"UnicodeScripts\"}", "x\xCD\xB8y1", "x\xCD\xB8y|1"},
    {"{\"type\": \"UnicodeScripts\"}", "\xCD\xB8\xC3\xA9 1", "\xC3\xA9 |1"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a-z&&[^aeiou]]+\"}, \"behavior\": \"Isolated\", \"invert\": "
     "false}",
     "education", "e|d|u|c|a|t|io|n"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Removed\", \"invert\": false}",
     "-the-final--countdown-", "the|final|countdown"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Removed\", \"invert\": true}",
     "-the-final--countdown-", "-|-|-|-|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Isolated\", \"invert\": false}",
     "-the-final--countdown-", "-|the|-|final|-|-|countdown|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Isolated\", \"invert\": true}",
     "-the-final--countdown-", "-|the|-|final|-|-|countdown|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"MergedWithPrevious\", \"invert\": false}",
     "-the-final--countdown-", "-|the-|final-|-|countdown-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"MergedWithPrevious\", \"invert\": true}",
     "-the-final--countdown-", "-the|-final|-|-countdown|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"MergedWithNext\", \"invert\": false}",
     "-the-final--countdown-", "-the|-final|-|-countdown|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"MergedWithNext\", \"invert\": true}",
     "-the-final--countdown-", "-|the-|final-|-|countdown-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Contiguous\", \"invert\": false}",
     "-the-final--countdown-", "-|the|-|final|--|countdown|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"Contiguous\", \"invert\": true}",
     "-the-final--countdown-", "-|the|-|final|--|countdown|-"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+|\\\\d\"}, \"behavior\": \"Removed\", \"invert\": false}",
     "a 12  b3", "a|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+|\\\\d\"}, \"behavior\": \"Isolated\", \"invert\": false}",
     "a 12  b3", "a| |1|2|  |b|3"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+|\\\\d\"}, \"behavior\": \"MergedWithPrevious\", "
     "\"invert\": false}",
     "a 12  b3", "a |1|2|  |b3"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+|\\\\d\"}, \"behavior\": \"MergedWithNext\", \"invert\": "
     "false}",
     "a 12  b3", "a| |1|2|  b|3"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\s+|\\\\d\"}, \"behavior\": \"Contiguous\", \"invert\": "
     "false}",
     "a 12  b3", "a| 12  |b|3"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x*\"}, \"behavior\": \"Removed\", \"invert\": false}", "axxb",
     "a|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x*\"}, \"behavior\": \"Isolated\", \"invert\": false}", "axxb",
     "a|xx|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x*\"}, \"behavior\": \"MergedWithPrevious\", \"invert\": false}",
     "axxb", "axx|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x*\"}, \"behavior\": \"MergedWithNext\", \"invert\": false}",
     "axxb", "a|xxb"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": \"x*\"}, \"behavior\": \"Contiguous\", \"invert\": false}", "axxb",
     "a|xx|b"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": "
     "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}{1,3}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": "
     "\"Isolated\", \"invert\": false}",
     "I'LL say: na\xC3\xAFve 12345\r\n\n  don't!!\n x", "I|'LL| say|:| na\xC3\xAFve| |123|45|\r\n\n| | don|'t|!!\n| x"},
    {"{\"type\": \"Split\", \"pattern\": {\"Regex\": "
     "\"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}| "
     "?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": "
     "\"Isolated\", \"invert\": false}",
     "\xE6\x88\x91\xE6\x83\xB3\xE5\x9C\xA8"
     "apple\xE5\xB7\xA5\xE4\xBD\x9C"
     "1314151\xE5\xA4\xA9\xEF\xBD\x9E '\xC5\xBF",
     "\xE6\x88\x91\xE6\x83\xB3\xE5\x9C\xA8"
     "apple\xE5\xB7\xA5\xE4\xBD\x9C|1|3|1|4|1|5|1|\xE5\xA4\xA9|\xEF\xBD\x9E| '|\xC5\xBF"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false}",
     "I'm 20, na\xC3\xAFve  ok\n\n \xF0\x9F\x99\x82",
     "I'm\xC4\xA0"
     "20,\xC4\xA0na\xC3\x83\xC2\xAFve\xC4\xA0\xC4\xA0ok\xC4\x8A\xC4\x8A\xC4\xA0\xC3\xB0\xC5\x81\xC4\xBB\xC4\xA4"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}",
     "I'm 20, na\xC3\xAFve  ok\n\n \xF0\x9F\x99\x82",
     "I|'m|\xC4\xA0"
     "20|,|\xC4\xA0na\xC3\x83\xC2\xAFve|\xC4\xA0|\xC4\xA0ok|\xC4\x8A\xC4\x8A|\xC4\xA0\xC3\xB0\xC5\x81\xC4\xBB\xC4\xA4"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": false}",
     "I'm 20, na\xC3\xAFve  ok\n\n \xF0\x9F\x99\x82",
     "\xC4\xA0I'm\xC4\xA0"
     "20,\xC4\xA0na\xC3\x83\xC2\xAFve\xC4\xA0\xC4\xA0ok\xC4\x8A\xC4\x8A\xC4\xA0\xC3\xB0\xC5\x81\xC4\xBB\xC4\xA4"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}",
     "I'm 20, na\xC3\xAFve  ok\n\n \xF0\x9F\x99\x82",
     "\xC4\xA0I|'m|\xC4\xA0"
     "20|,|\xC4\xA0na\xC3\x83\xC2\xAFve|\xC4\xA0|\xC4\xA0ok|\xC4\x8A\xC4\x8A|\xC4\xA0\xC3\xB0\xC5\x81\xC4\xBB\xC4\xA4"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}",
     "a  bc d",
     "\xE2\x96\x81"
     "a|\xE2\x96\x81|\xE2\x96\x81"
     "bc|\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": false}",
     "a  bc d",
     "\xE2\x96\x81"
     "a\xE2\x96\x81\xE2\x96\x81"
     "bc\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"first\", \"split\": true}",
     "a  bc d",
     "\xE2\x96\x81"
     "a|\xE2\x96\x81|\xE2\x96\x81"
     "bc|\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"first\", \"split\": false}",
     "a  bc d",
     "\xE2\x96\x81"
     "a\xE2\x96\x81\xE2\x96\x81"
     "bc\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"never\", \"split\": true}",
     "a  bc d",
     "a|\xE2\x96\x81|\xE2\x96\x81"
     "bc|\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"never\", \"split\": false}",
     "a  bc d",
     "a\xE2\x96\x81\xE2\x96\x81"
     "bc\xE2\x96\x81"
     "d"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}",
     " a",
     "\xE2\x96\x81"
     "a"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}",
     "\xE2\x96\x81"
     "a",
     "\xE2\x96\x81"
     "a"},
    {"{\"type\": \"Digits\", \"individual_digits\": true}",
     "ab12\xC2\xBD\xD9\xA3"
     "c",
     "ab|1|2|\xC2\xBD|\xD9\xA3|c"},
    {"{\"type\": \"Digits\", \"individual_digits\": false}",
     "ab12\xC2\xBD\xD9\xA3"
     "c",
     "ab|12\xC2\xBD\xD9\xA3|c"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": true}, {\"type\": "
     "\"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": true}]}",
     "call 911 now", "call|\xC4\xA0|9|1|1|\xC4\xA0now"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, "
     "\"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"Metaspace\", \"replacement\": \"_\", "
     "\"prepend_scheme\": \"first\", \"split\": true}]}",
     "a b-c d", "_a|_b|-|c|_d"},
    {"{\"type\": \"Sequence\", \"pretokenizers\": []}", "a b", "a b"},
};

static const part_case DECODERS[] = {
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}",
     "Hello|\xC4\xA0w|\xC3\x83|\xC2\xA9|\xC3\xB0\xC5\x81|\xC4\xBB|\xC4\xA4", "Hello w\xC3\xA9\xF0\x9F\x99\x82"},
    {"{\"type\": \"ByteLevel\", \"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true}",
     "\xC3\xB0\xC5\x81|\xC4\xBB|a|\xC3\x83|\xE6\x97\xA5|\xC3\xA9|\xC4\x8A|\xC3\x83",
     "\xEF\xBF\xBD"
     "a\xEF\xBF\xBD\xE6\x97\xA5\xEF\xBF\xBD\n\xEF\xBF\xBD"},
    {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, \"content\": \" \"}",
     "\xE2\x96\x81Hi|\xE2\x96\x81\xE2\x96\x81x", " Hi  x"},
    {"{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"b+\"}, \"content\": \"\"}", "abb|b|cb", "ac"},
    {"{\"type\": \"ByteFallback\"}", "a|<0xE6>|<0x97>|<0xA5>|b|<0xE6>|<0x97>|c|<0x0a>|<0xGG>",
     "a\xE6\x97\xA5"
     "b\xEF\xBF\xBD\xEF\xBF\xBD"
     "c\n<0xGG>"},
    {"{\"type\": \"ByteFallback\"}", "<0xE6>|<0x97>|<0xA5>|<0xE6>", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"},
    {"{\"type\": \"Fuse\"}", "a|b", "ab"},
    {"{\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}", "  a | b| ", " a b"},
    {"{\"type\": \"Strip\", \"content\": \"a\", \"start\": 2, \"stop\": 1}", "aaab|caa|baa", "abcaba"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"always\", \"split\": true}",
     "\xE2\x96\x81Hey|\xE2\x96\x81"
     "fri|\xE2\x96\x81"
     "end",
     "Hey fri end"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"never\", \"split\": true}",
     "\xE2\x96\x81Hey|\xE2\x96\x81"
     "fri",
     " Hey fri"},
    {"{\"type\": \"Metaspace\", \"replacement\": \"\xE2\x96\x81\", \"prepend_scheme\": \"first\", \"split\": false}",
     "\xE2\x96\x81\xE2\x96\x81"
     "a\xE2\x96\x81|\xE2\x96\x81"
     "b",
     "a b"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"\xE2\x96\x81\"}, "
     "\"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}, {\"type\": \"Strip\", \"content\": \" "
     "\", \"start\": 1, \"stop\": 0}]}",
     "\xE2\x96\x81\xE2\x96\x81Hey|\xE2\x96\x81|<0xF0>|<0x9F>|<0x99>|<0x82>|\xE2\x96\x81x", " Hey \xF0\x9F\x99\x82 x"},
    {"{\"type\": \"Sequence\", \"decoders\": [{\"type\": \"Fuse\"}, {\"type\": \"Replace\", \"pattern\": {\"String\": "
     "\"ab\"}, \"content\": \"-\"}, {\"type\": \"Strip\", \"content\": \"c\", \"start\": 1, \"stop\": 2}]}",
     "ca|b|xcc|c", "-xc"},
    {"{\"type\": \"Sequence\", \"decoders\": []}", "a|b", "ab"},
    {"null", "a|b||c", "a b  c"},
    {"null", "", ""},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* ---- normalizers */

static void test_normalizers(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(NORMALIZERS); i++) {
        const part_case *c = &NORMALIZERS[i];
        normalizer n = {0};
        text_buffer text = {0};
        bool keeps_start = true;
        json_t *config = json_of(c->config);
        OK(normalizer_read(&n, config, "file"));
        OK(text_append(&text, c->text, strlen(c->text)));
        OK(normalizer_apply(&n, &text, &keeps_start));
        assert_text(c->config, text.data, text.length, c->expected);
        text_free(&text);
        normalizer_free(&n);
        json_decref(config);
    }
}

static void test_normalizer_tells_whether_the_start_is_kept(void **state) {
    (void)state;
    static const struct {
        const char *config, *text;
        bool keeps;
    } cases[] = {
        {"{\"type\": \"Prepend\", \"prepend\": \"_\"}", "a", true},
        {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}", " a", false},
        {"{\"type\": \"Strip\", \"strip_left\": true, \"strip_right\": true}", "a ", true},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"b\"}", "aa", true},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"aa\"}, \"content\": \"b\"}", "aab", false},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"\"}", "ab", false},
        {"{\"type\": \"Replace\", \"pattern\": {\"String\": \"b\"}, \"content\": \"\"}", "ab", true},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        normalizer n = {0};
        text_buffer text = {0};
        bool keeps_start = true;
        json_t *config = json_of(cases[i].config);
        OK(normalizer_read(&n, config, "file"));
        OK(text_append(&text, cases[i].text, strlen(cases[i].text)));
        OK(normalizer_apply(&n, &text, &keeps_start));
        if (keeps_start != cases[i].keeps) fail_msg("case %zu, %s", i, cases[i].config);
        text_free(&text);
        normalizer_free(&n);
        json_decref(config);
    }
}

/* ---- pre-tokenizers */

static void pre_tokenize(const part_case *c) {
    pre_tokenizer p = {0};
    pieces text = {0}, spare = {0};
    text_buffer joined = {0};
    json_t *config = json_of(c->config);
    OK(pre_tokenizer_read(&p, config, "file"));
    OK(pre_tokenizer_check_first(&p, false, "file"));
    OK(pieces_add_text(&text, c->text, strlen(c->text), true));
    OK(pre_tokenizer_apply(&p, &text, &spare));
    for (size_t i = 0; i < text.count; i++)
        OK(text_printf(&joined, "%s%.*s", i ? "|" : "", (int)text.items[i].bytes, piece_text(&text, &text.items[i])));
    assert_text(c->config, joined.data, joined.length, c->expected);
    text_free(&joined);
    pieces_free(&text);
    pieces_free(&spare);
    pre_tokenizer_free(&p);
    json_decref(config);
}

static void test_pre_tokenizers(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(PRE_TOKENIZERS); i++) pre_tokenize(&PRE_TOKENIZERS[i]);
}

static void test_pre_tokenizers_leave_added_tokens_alone(void **state) {
    (void)state;
    pre_tokenizer p = {0};
    pieces text = {0}, spare = {0};
    json_t *config = json_of("{\"type\": \"ByteLevel\", \"add_prefix_space\": true}");
    OK(pre_tokenizer_read(&p, config, "file"));
    OK(pieces_add_token(&text, 7));
    OK(pieces_add_text(&text, "a b", 3, false));
    OK(pre_tokenizer_apply(&p, &text, &spare));
    assert_int_equal(text.count, 3);
    assert_int_equal(text.items[0].id, 7);
    assert_int_equal(text.items[1].id, NO_TOKEN);
    pieces_free(&text);
    pieces_free(&spare);
    pre_tokenizer_free(&p);
    json_decref(config);
}

/* ---- decoders */

static void decode(const part_case *c) {
    detokenizer d = {0};
    detokenizer_run *run;
    text_buffer text = {0};
    json_t *config = json_of(c->config);
    OK(detokenizer_read(&d, config, "file"));
    OK(detokenizer_begin(&d, &run));
    for (const char *token = c->text, *end; *c->text && token; token = end ? end + 1 : NULL) {
        end = strchr(token, '|');
        OK(detokenizer_push(run, token, end ? (size_t)(end - token) : strlen(token), &text));
        if (!utf8_valid(text.data, text.length)) fail_msg("%s: half a character", c->config);
    }
    OK(detokenizer_finish(run, &text));
    assert_text(c->config, text.data, text.length, c->expected);
    text_free(&text);
    detokenizer_end(run);
    detokenizer_free(&d);
    json_decref(config);
}

static void test_decoders(void **state) {
    (void)state;
    for (size_t i = 0; i < COUNT(DECODERS); i++) decode(&DECODERS[i]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_normalizers),    cmocka_unit_test(test_normalizer_tells_whether_the_start_is_kept),
        cmocka_unit_test(test_pre_tokenizers), cmocka_unit_test(test_pre_tokenizers_leave_added_tokens_alone),
        cmocka_unit_test(test_decoders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
