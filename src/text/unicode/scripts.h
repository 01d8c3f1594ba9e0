/* Scripts (writing systems) of characters, as the pre-tokenizer "UnicodeScripts" of the tokenizers library counts them:
 * Han, Hiragana and Katakana are one script; U+30FC belongs to it; the space belongs to any. */
#ifndef TEXT_UNICODE_SCRIPTS_H
#define TEXT_UNICODE_SCRIPTS_H

#include <stdbool.h>
#include <stdint.h>

enum { SCRIPT_ANY = 0 }; /* the space, and characters that Unicode 9 did not have */

/* A number for the script of a character. */
int unicode_script(uint32_t code_point);

#endif
