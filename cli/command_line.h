/* The command as one would type it into a shell, for files that say what made them. */
#ifndef CLI_COMMAND_LINE_H
#define CLI_COMMAND_LINE_H

/* "lckv " and the words of argv, quoted where a shell would read them otherwise. Release with free(). */
char *command_line(int argc, char **argv);

/* One word, quoted likewise. Release with free(). */
char *quoted_word(const char *word);

#endif
