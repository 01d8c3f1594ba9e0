/* Helpers that methods and filters of strings share. Strings are UTF-8; positions in templates count characters. */
#ifndef TEXT_JINJA_STRINGS_H
#define TEXT_JINJA_STRINGS_H

#include "text/jinja/machine.h"

/* Python's str.isspace(). */
bool is_space(uint32_t code_point);
bool is_cased(uint32_t code_point);
bool is_letter(uint32_t code_point);

typedef enum text_case { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP } text_case;
/* Maps one code point to one, except for the German sharp s. */
int text_to_case(machine *m, value v, text_case how, value *out);

/* `chars` UNSET or NONE: white space. */
int text_strip(machine *m, value v, value chars, bool left, bool right, value *out);
/* count < 0: all. */
int text_replace(machine *m, value v, value from, value to, int64_t count, value *out);
int text_splitlines(machine *m, value v, bool keep_ends, value_list **out);
int text_join(machine *m, value separator, value items, bool any_values, value *out);
/* -1 if it does not occur. */
int64_t text_find(value v, size_t from, value what);

/* markup.c. str(v), escaped for HTML, as Markup; Markup stays unchanged. */
int text_escape(machine *m, value v, value *out);

/* format.c. Pads to a number of characters: '<', '>', '^' as in formats, 'c' as in center(). */
int text_pad(machine *m, value v, int64_t width, char align, value fill, value *out);

#endif
