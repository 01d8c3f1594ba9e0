/* The API key of a server, for those who serve and those who ask. */
#ifndef CLI_API_KEY_H
#define CLI_API_KEY_H

/* The flag that names a file with the key; `member` is a const char *. */
#define FLAG_API_KEY_FILE(options, group, member)                                                                      \
    {                                                                                                                  \
        "api_key_file", FLAG_TEXT, NULL, group,                                                                        \
            "file whose only line is the API key; other users can read --api_key with ps", FLAG_INTO(options, member), \
            .value = "FILE"                                                                                            \
    }

/* `given`, else the line in `file`, else the environment variable LCKV_API_KEY; *key is NULL where there is none of
 * them. EXIT_FINE, or an exit code after the message. Release *key with free(). */
int read_api_key(const char *command, const char *given, const char *file, char **key);

#endif
