/* Tables of results, printed as aligned text, Markdown, or CSV with full precision. Rows are JSON objects; columns
 * define how values are printed. The table of lckv eval has its own format (eval_table.h). */
#ifndef CLI_RESULT_TABLE_H
#define CLI_RESULT_TABLE_H

#include <jansson.h>

typedef enum table_form { TABLE_TEXT, TABLE_MARKDOWN, TABLE_CSV } table_form;

/* A column. Text and Markdown print numbers right-aligned, followed by "± deviation"; a missing or null value is "-",
 * and columns without any value are left out. CSV prints all columns, with the deviation as a separate column. */
typedef struct table_column {
    const char *key, *title; /* key of the value in a row, also the title in CSV; title in text and Markdown */
    int decimals;            /* decimals of numbers that are not integers */
    const char *deviation;   /* key of the standard deviation; NULL: none */
} table_column;

/* Formats the rows (an array). `columns` ends with an entry without key. Release the text with free(). */
char *table_text(table_form form, const table_column *columns, const json_t *rows);

#endif
