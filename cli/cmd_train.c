/* lckv train: pre-training and continued training. Its flags: train_flags.h; how it goes: train_run.h. */
#include "commands.h"
#include "train_run.h"

int cmd_train(int argc, char **argv) {
    struct train_flags options = {.train = lckv_train_defaults(), .command = TRAIN_FLAGS.command};
    int code;
    if (!flags_parse(&TRAIN_FLAGS, argc, argv, &options, &code)) return code;
    code = train_run(&options, argc, argv);
    flags_free(&TRAIN_FLAGS, &options);
    return code;
}
