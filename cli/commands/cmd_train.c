/* lckv train: pre-training and continued training. The flags are in train_flags.c, the run is in train_run.c. */
#include "cli/train_run.h"
#include "commands.h"

int cmd_train(int argc, char **argv) {
    struct train_flags options = {.train = lckv_train_defaults(), .command = TRAIN_FLAGS.command};
    int code;
    if (!flags_parse(&TRAIN_FLAGS, argc, argv, &options, &code)) return code;
    code = train_run(&options, argc, argv);
    flags_free(&TRAIN_FLAGS, &options);
    return code;
}
