/* --num_processes: starts this program several times on this host, with the variables of torchrun
 * (src/collectives/launch.h), and waits for all of them. */
#ifndef CLI_START_PROCESSES_H
#define CLI_START_PROCESSES_H

/* Starts `count` processes with the words of argv, where argv[0] is the command. SIGINT, SIGTERM, SIGUSR1 and SIGHUP
 * are passed on to them. If one of them fails, the others have a few seconds to end; then they are stopped. Returns
 * EXIT_FINE if all succeeded, else the exit code of the first that failed, or 128 + the signal that ended it. */
int start_processes(int count, char **argv);

#endif
