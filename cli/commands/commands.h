/* The commands, one file each (cmd_NAME.c). argv[0] is the command's name. They return the exit code: 0 success, 1
 * failure (the reason is on stderr), 2 usage error, 130 interrupted. To add a command, declare it here and add it to
 * the table in main.c. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

int cmd_inspect(int argc, char **argv);
int cmd_train(int argc, char **argv);
int cmd_sft(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_score(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_fetch(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_bench(int argc, char **argv);

#endif
