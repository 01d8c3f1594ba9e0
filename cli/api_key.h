/* The API key, for lckv serve and for clients (lckv bench). */
#ifndef CLI_API_KEY_H
#define CLI_API_KEY_H

/* The flag for a file with the key; `member` is a const char *. */
#define FLAG_API_KEY_FILE(options, group, member)                                                                      \
    {                                                                                                                  \
        "api_key_file", FLAG_TEXT, NULL, group,                                                                        \
            "file with the API key as its only line; other users can see --api_key in ps", FLAG_INTO(options, member), \
            .value = "FILE"                                                                                            \
    }

/* Takes `given`, else the line in `file`, else the environment variable LCKV_API_KEY; *key is NULL if none is set.
 * Returns EXIT_FINE, or an exit code after printing the error. Release *key with free(). */
int read_api_key(const char *command, const char *given, const char *file, char **key);

#endif
