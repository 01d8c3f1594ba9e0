/* Messages on stderr: whole lines, each in one write, because the processes of a run share it. */
#include "cli/flags/flags.h"
#include "cli/output/output.h"

#include "expect.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A socket of datagrams as stderr: what is received is one write. */
static int saved, received;

static void begin(void) {
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    saved = dup(2);
    received = ends[0];
    assert_int_equal(dup2(ends[1], 2), 2);
    close(ends[1]);
}

static void end(void) {
    assert_int_equal(dup2(saved, 2), 2);
    close(saved);
    close(received);
}

static void a_message_is_one_write(void **state) {
    char first[256] = "", second[256] = "";
    (void)state;
    begin();
    int code = failure("train", "process %d of %d is lost", 1, 3);
    notice("%s", "resuming");
    ssize_t bytes = recv(received, first, sizeof first - 1, MSG_DONTWAIT);
    recv(received, second, sizeof second - 1, MSG_DONTWAIT);
    end();
    assert_int_equal(code, EXIT_FAILED);
    assert_true(bytes > 0);
    assert_string_equal(first, "lckv train: process 1 of 3 is lost\n");
    assert_string_equal(second, "resuming\n");
}

/* Also those around the size of the buffer are complete. */
static void long_messages_are_complete(void **state) {
    enum { LEAST = 4070, MOST = 4110 };
    static char text[MOST + 1], all[MOST + 64];
    (void)state;
    for (int length = LEAST; length <= MOST; length++) {
        ssize_t bytes;
        size_t count = 0;
        memset(text, 'x', (size_t)length);
        text[length] = '\0';
        begin();
        failure("train", "%s", text);
        while ((bytes = recv(received, all + count, sizeof all - count, MSG_DONTWAIT)) > 0) count += (size_t)bytes;
        end();
        assert_int_equal(count, length + 13);
        assert_memory_equal(all, "lckv train: ", 12);
        assert_memory_equal(all + 12, text, (size_t)length);
        assert_int_equal(all[count - 1], '\n');
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_is_one_write),
        cmocka_unit_test(long_messages_are_complete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
