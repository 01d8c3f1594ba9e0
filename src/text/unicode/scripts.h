/* Scripts (writing systems) of characters, as defined by the pre-tokenizer "UnicodeScripts" of the tokenizers library:
 * Han, Hiragana and Katakana are one script, to which U+30FC belongs; the space has no script of its own. */
#ifndef TEXT_UNICODE_SCRIPTS_H
#define TEXT_UNICODE_SCRIPTS_H

#include <stdbool.h>
#include <stdint.h>

enum { SCRIPT_ANY = 0 }; /* the space, and characters that Unicode 9 does not have */

/* The number of a character's script. */
int unicode_script(uint32_t code_point);

#endif
