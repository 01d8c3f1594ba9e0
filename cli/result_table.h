/* Tables of results, printed as aligned text, Markdown, or CSV with full precision. Rows are JSON objects; columns
 * define how values are printed. The table of lckv eval has its own format (eval_table.h). */
#ifndef CLI_RESULT_TABLE_H
#define CLI_RESULT_TABLE_H

#include <jansson.h>

typedef enum table_form { TABLE_TEXT, TABLE_MARKDOWN, TABLE_CSV } table_form;

/* Text and Markdown print numbers right-aligned with `decimals`, followed by "± deviation". A missing or null value is
 * "-"; columns without any value are left out. */
typedef struct table_column {
    const char *key, *title;
    int decimals;
    const char *deviation; /* key of the deviation, a separate column in CSV; NULL: none */
} table_column;

/* `columns` ends with an entry without key. Release the text with free(). */
char *table_text(table_form form, const table_column *columns, const json_t *rows);

#endif
