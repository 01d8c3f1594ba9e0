/* Flags of a command: one table defines how each flag is parsed, checked, documented and stored.
 *
 * `_` and `-` in a name are equal; so are `--flag value` and `--flag=value`. A switch takes no value, or True or False.
 * A list takes several words, or one word with commas, and may be repeated. `--no_name` is `--name False` for a switch
 * that is True by default. Names and defaults are those of the Hugging Face scripts; `note` describes a difference and
 * is printed by help. Help texts are lower-case fragments that start with a noun: meaning, unit, and the effect of 0.
 * Names in other programs are in flag_aliases.h.
 *
 *     struct options { const char *model; int64_t length; bool json; };
 *     static const flag FLAGS[] = {
 *         {"model_name_or_path", FLAG_TEXT, NULL, "Model", "folder or ORG/NAME", FLAG_INTO(struct options, model)},
 *         {"length", FLAG_INT, "20", "Text", "new tokens", FLAG_INTO(struct options, length), .min = 1, .max = 1e9},
 *         FLAG_JSON(struct options, json),
 *         {0},
 *     };
 *     static const flag_table TABLE = {"generate", "Writes text.", "--model_name_or_path NAME", FLAGS};
 *
 *     struct options options = {0};
 *     int code;
 *     if (!flags_parse(&TABLE, argc, argv, &options, &code)) return code;
 *     ...
 *     flags_free(&TABLE, &options);
 *
 * Commands check combinations of flags themselves and report them with usage_error() (output.h).
 */
#ifndef CLI_FLAGS_H
#define CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum flag_type {
    FLAG_TEXT,   /* const char *: as typed; NULL without a default. Points into argv or the table */
    FLAG_TEXTS,  /* flag_list: each occurrence is one item, as typed (prompts) */
    FLAG_LIST,   /* flag_list: each word is one or more items, separated by commas or spaces (names, numbers) */
    FLAG_FILES,  /* flag_list: each word is a path, or several separated by commas; spaces belong to the path. The path
                    of an existing file is one item even if it contains a comma */
    FLAG_IDS,    /* flag_list: each occurrence is one item, its words joined by commas (token ids) */
    FLAG_PAIR,   /* flag_list: two words, each an item, as typed */
    FLAG_INT,    /* int64_t, such as 512 or 5e8 */
    FLAG_NUMBER, /* double */
    FLAG_SWITCH, /* bool */
    FLAG_CHOICE, /* int: index into `choices` */
    FLAG_FILE,   /* flag_list: the words of a file of flags (args_file.h), which FLAG_TEXT values point into */
} flag_type;

typedef struct flag_list {
    char **items; /* [count], owned; released by flags_free() */
    int count;
} flag_list; /* initially empty; the default is written as on the command line */

typedef struct flag {
    const char *name; /* with underscores, without dashes */
    flag_type type;
    const char *default_value; /* default as on the command line; NULL: none (0, NULL, false, an empty list) */
    const char *group;         /* heading in help; entries of a group are adjacent */
    const char *help;          /* help text; wrapped when printed */
    size_t offset;             /* offset of the value in the command's struct */
    double min, max;           /* FLAG_INT and FLAG_NUMBER: range, both ends included; both 0: any finite value */
    const char *choices;       /* FLAG_CHOICE: the accepted words, "auto|plan|sequential" */
    const char *value;         /* name of the value in help; NULL: derived from the type */
    const char *implicit;      /* FLAG_TEXT: value of a flag without value; NULL: a value is required */
    const char *note;          /* difference from the Hugging Face script */
    const char *former;        /* former name of the flag, still accepted, not in help; NULL: none */
    const char *former_choice; /* FLAG_CHOICE: former name of a choice, still accepted, "OLD=NEW"; NULL: none */
    bool required;             /* must be given */
} flag;

/* A flag of the corresponding Hugging Face script that is recognized but has no effect here. */
typedef struct foreign_flag {
    const char *name;
    flag_type type;        /* FLAG_SWITCH, FLAG_TEXT or FLAG_LIST: form of the value */
    const char *no_effect; /* reason why the flag has no effect, printed when it is given; NULL: none */
    const char *refused;   /* reason for refusing values other than `accepted`; NULL: any value is accepted */
    const char *accepted;  /* "False|0": values that are not refused; NULL: all are refused if `refused` is set */
    const char *alias_of;  /* flag of the command that this is another name of; all other fields are then ignored */
} foreign_flag;

typedef struct flag_table {
    const char *command;         /* "generate" */
    const char *about;           /* what the command does and prints */
    const char *usage;           /* arguments in the usage line */
    const flag *flags;           /* ends with an entry without name */
    const foreign_flag *foreign; /* ends with an entry without name; NULL: none */
    /* Flags that positional arguments are probably meant for, in the order in which people type them, separated by
     * spaces ("model_name_or_path prompt"). Error messages suggest them. NULL: none. */
    const char *positional;
    bool takes_positional;       /* a positional argument is accepted as the value of the first of these flags */
    const char *const *examples; /* pairs of a description and a command line; ends with NULL */
} flag_table;

/* The field that a flag sets: FLAG_INTO(struct options, length). */
#define FLAG_INTO(options, member) .offset = offsetof(options, member)

enum { MAX_FLAGS = 256 }; /* maximum number of flags in a table, foreign flags included */

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Fills `values` (the command's struct) with defaults, then from files of flags, then from the command line; the last
 * value wins. Flags without a default leave their field unchanged. argv[0] is the command's name. Returns true if the
 * command should continue. Returns false if it should return *exit_code (0 after printing help or with --check, 2 after
 * an error message); `values` then owns nothing.
 *
 * --help may be followed by --markdown (flags_markdown()), or by --check and flags, which are then only checked. */
bool flags_parse(const flag_table *table, int argc, char **argv, void *values, int *exit_code);

/* Releases the lists in `values`. */
void flags_free(const flag_table *table, void *values);

/* Print `lckv help COMMAND`, and `lckv help` in the same layout. The width is that of the terminal, at most
 * HELP_MAX_WIDTH; HELP_DEFAULT_WIDTH if standard output is not a terminal. */
void flags_help(const flag_table *table);
void help_entry(const char *name, const char *text); /* "  NAME   TEXT", the text wrapped */
enum { HELP_MAX_WIDTH = 100, HELP_DEFAULT_WIDTH = 80 };

/* The flag with that name (`length` bytes, _ or -), or NULL. */
const flag *flag_find(const flag_table *table, const char *name, size_t length);

/* Whether a word is a flag. A value may start with a dash only if it is a negative number: "--prompt --length" is an
 * error. */
bool flag_looks_like_one(const char *word);

/* Prints `lckv help --markdown COMMAND`: one row "| `--name` | KIND | text |" per flag. scripts/flags-page makes
 * docs/flags.md from it. */
void flags_markdown(const flag_table *table);

/* Returns the name in `names` (ends with NULL) that is most similar to `typed`, or NULL: a name that starts with it or
 * contains it as whole words between underscores, else the name with the smallest edit distance, at most a third of
 * the letters. */
const char *nearest_name(const char *typed, const char *const *names);

/* ---------------------------------------------------------------- common flags */

#define FLAG_JSON(options, member)                                                                                     \
    {                                                                                                                  \
        "json", FLAG_SWITCH, NULL, "Common", "print the result as one JSON object on standard output",                 \
            FLAG_INTO(options, member)                                                                                 \
    }
#define FLAG_THREADS(options, member)                                                                                  \
    {                                                                                                                  \
        "threads", FLAG_INT, "0", "Common", "number of CPU threads; 0 uses all available processors",                  \
            FLAG_INTO(options, member), .max = 4096                                                                    \
    }
#define FLAG_ARGS_FILE(options, member)                                                                                \
    {                                                                                                                  \
        "args_file", FLAG_FILE, NULL, "Common",                                                                        \
            "file of flags: a JSON object, or text as on a command line; the command line takes precedence",           \
            FLAG_INTO(options, member)                                                                                 \
    }
#define FLAG_DEVICE(options, member)                                                                                   \
    {                                                                                                                  \
        "device", FLAG_TEXT, "auto", "Common",                                                                         \
            "device: cpu, cuda (the first NVIDIA GPU) or cuda:N; auto uses a GPU if there is one",                     \
            FLAG_INTO(options, member)                                                                                 \
    }

#endif
