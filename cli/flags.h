/* Flags of a command: one table says how each is typed, checked, explained and where its value goes.
 *
 * `_` and `-` in a name are alike; `--flag value` and `--flag=value` too. A switch takes no value, or True or False. A
 * list takes several words, or one with commas, and may be repeated. `--no_name` is `--name False` for a switch that is
 * True by default. The names and defaults are those of the Hugging Face scripts; where a default differs, `note` says
 * so and help prints it. Names that other programs use are in flag_aliases.h.
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
 * Leaves out: what flags mean together; a command says that with usage_error() (output.h).
 */
#ifndef CLI_FLAGS_H
#define CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum flag_type {
    FLAG_TEXT,   /* const char *: as typed; NULL without a default. Points into argv or the table */
    FLAG_TEXTS,  /* flag_list: each occurrence is one item, as typed (prompts) */
    FLAG_LIST,   /* flag_list: each word is items, separated by commas or spaces (names, numbers) */
    FLAG_FILES,  /* flag_list: each word is a path, or several separated by commas; spaces belong to the path. A word
                    that is the path of a file is one item even if it has a comma */
    FLAG_IDS,    /* flag_list: each occurrence is one item, its parts joined by commas (token ids) */
    FLAG_PAIR,   /* flag_list: two words, each an item, as typed */
    FLAG_INT,    /* int64_t: 512, 5e8; must be whole */
    FLAG_NUMBER, /* double */
    FLAG_SWITCH, /* bool */
    FLAG_CHOICE, /* int: index into `choices` */
    FLAG_FILE,   /* flag_list: the words of a file of flags (args_file.h), which FLAG_TEXT values point into */
} flag_type;

typedef struct flag_list {
    char **items; /* owned: flags_free() */
    int count;
} flag_list; /* begins empty; a default is given as its text */

typedef struct flag {
    const char *name; /* with underscores, without dashes */
    flag_type type;
    const char *fallback; /* the default as one would type it; NULL: none (0, NULL, false, an empty list) */
    const char *group;    /* heading in help; entries of one group stand together */
    const char *help;     /* what it does, unit included; one line or more, wrapped when printed */
    size_t offset;        /* of the value in the command's struct */
    double min, max;      /* FLAG_INT and FLAG_NUMBER, both inclusive; both 0: any finite value */
    const char *choices;  /* FLAG_CHOICE: "auto|plan|sequential" */
    const char *value;    /* what help calls the value; NULL: after its type */
    const char *alone;    /* FLAG_TEXT: the value where none follows; NULL: one must */
    const char *note;     /* how the default differs from the Hugging Face script */
    bool required;        /* must be given */
} flag;

/* A flag of the script that this command stands in for, understood although nothing here is set by it. */
typedef struct foreign_flag {
    const char *name;
    flag_type type;         /* FLAG_SWITCH, FLAG_TEXT or FLAG_LIST: what follows the name */
    const char *nothing;    /* "nothing to do: ...": said when it is given; NULL: not said */
    const char *refused;    /* "refused: ...", for values other than `accepted`; NULL: any value is taken */
    const char *accepted;   /* "False|0": the values that are not refused; NULL: none is taken where `refused` stands */
    const char *stands_for; /* or: another name of this flag of the command, and nothing else here counts */
} foreign_flag;

typedef struct flag_table {
    const char *command;         /* "generate" */
    const char *about;           /* what it does and prints, in a sentence or some */
    const char *usage;           /* what follows the command's name in the usage line */
    const flag *flags;           /* ends with an entry without name */
    const foreign_flag *foreign; /* ends with an entry without name; NULL: none */
    const char *words;           /* Flags that a word without a flag is for, in the order people type them, separated
                                    by spaces ("model_name_or_path prompt"); they are suggested. NULL: none */
    bool takes_word;             /* A word may be the value of the first of these without its flag */
    const char *const *examples; /* What an example does, then its command line, and so on; ends with NULL */
} flag_table;

/* Where a flag's value goes: FLAG_INTO(struct options, length). */
#define FLAG_INTO(options, member) .offset = offsetof(options, member)

enum { FLAGS_MOST = 256 }; /* flags a table, foreign ones included */

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_INTERRUPTED = 130 };

/* Fills `values` (the command's struct, which begins as zeros) with defaults, then with what files of flags say, then
 * with what was typed; the last of several wins. argv[0] is the command's name. True: go on. False: return *exit_code,
 * since help was asked for and printed, or the flags were only to be checked (0), or a flag was wrong and the message
 * is on stderr (2); nothing is owned then.
 *
 * Behind --help may stand --markdown (flags_markdown()), or --check and flags, which are then read and nothing else. */
bool flags_parse(const flag_table *table, int argc, char **argv, void *values, int *exit_code);

/* Releases the lists. */
void flags_free(const flag_table *table, void *values);

/* The text that `lckv help COMMAND` prints, and the program's own in the same layout: at most as wide as the terminal
 * and HELP_WIDEST; HELP_UNKNOWN where standard output is not a terminal. */
void flags_help(const flag_table *table);
void help_entry(const char *name, const char *text); /* "  NAME   TEXT", the text wrapped */
enum { HELP_WIDEST = 100, HELP_UNKNOWN = 80 };

/* The entry of that name, which is `length` bytes long, with _ or -; NULL where the table has none. */
const flag *flag_find(const flag_table *table, const char *name, size_t length);

/* A value that begins with a dash must be a negative number; any other is more likely a flag ("--prompt --length"). */
bool flag_looks_like_one(const char *word);

/* What `lckv help --markdown COMMAND` prints, which docs/flags.md is made of: a row "| `--name` | acts | text |" a
 * flag, the middle being one of acts, nothing to do, refused. */
void flags_markdown(const flag_table *table);

/* The name in `names` (ends with NULL) that is most like `typed`, NULL when none is: one that has it as its beginning,
 * or as whole words between underscores; else the one with the fewest insertions, deletions, replacements and swaps of
 * neighbours, at most a third of the letters. */
const char *nearest_name(const char *typed, const char *const *names);

/* ---------------------------------------------------------------- flags that many commands have */

#define FLAG_JSON(options, member)                                                                                     \
    {                                                                                                                  \
        "json", FLAG_SWITCH, NULL, "Common", "print the result as one JSON object on standard output",                 \
            FLAG_INTO(options, member)                                                                                 \
    }
#define FLAG_THREADS(options, member)                                                                                  \
    {                                                                                                                  \
        "threads", FLAG_INT, "0", "Common", "threads to compute with; 0: every processor that may be used",            \
            FLAG_INTO(options, member), .max = 4096                                                                    \
    }
#define FLAG_ARGS_FILE(options, member)                                                                                \
    {                                                                                                                  \
        "args_file", FLAG_FILE, NULL, "Common",                                                                        \
            "flags from a file: a JSON object, or text as one types it; those on the command line win",                \
            FLAG_INTO(options, member)                                                                                 \
    }
#define FLAG_DEVICE(options, member)                                                                                   \
    {                                                                                                                  \
        "device", FLAG_TEXT, "auto", "Common",                                                                         \
            "what to compute on: cpu, cuda (the first NVIDIA GPU), cuda:N; auto: a GPU where there is one",            \
            FLAG_INTO(options, member)                                                                                 \
    }

#endif
