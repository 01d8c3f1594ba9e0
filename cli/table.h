/* Tables of results: rows as JSON objects, columns that say how they are shown. As text for people, as Markdown, as
 * CSV with every number whole. Leaves out: the harness's table, which has its own rules (eval_table.h). */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <jansson.h>

typedef enum table_form { TABLE_TEXT, TABLE_MARKDOWN, TABLE_CSV } table_form;

/* In text a number stands to the right with `decimals`, and "± its deviation" behind it; null, or no value, is "-", and
 * a column without any is left out. */
typedef struct table_column {
    const char *key, *title;
    int decimals;
    const char *deviation; /* key of its deviation; NULL: it has none. A column of its own in CSV */
} table_column;

/* `columns` ends with one without key. The text is the caller's, free(). */
char *table_text(table_form form, const table_column *columns, const json_t *rows);

#endif
