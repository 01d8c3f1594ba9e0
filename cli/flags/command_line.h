/* The command line in shell syntax, for files that record the command that made them. */
#ifndef CLI_COMMAND_LINE_H
#define CLI_COMMAND_LINE_H

/* Returns "lckv " and the words of argv, quoted if needed. Release with free(). */
char *command_line(int argc, char **argv);

/* Returns one word, quoted if needed. Release with free(). */
char *quoted_word(const char *word);

#endif
