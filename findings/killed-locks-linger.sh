#!/usr/bin/env bash
# Linux: after a kill, file locks stay locked until the kernel has freed the process's memory. A robust
# mutex is handed over before.
#
# Seen on: Linux 6.18.44 (x86-64), glibc 2.36 of Debian 12, gcc 12.2.0.
#
# `flock`, and `fcntl` locks of both kinds, are released "when the process terminates", and SIGKILL
# cannot be delayed, so one expects the next owner microseconds after the kill. But a process that ends
# gives up its address space first and closes its files afterwards (seen from outside here: all kinds of
# file locks, and `waitpid`, answer together). With 1 GiB of touched memory the locks are free some 45 ms
# after the kill; at that rate 100 GiB take 4 s. The list of robust mutexes is walked before the memory
# is freed, so a waiter in `pthread_mutex_lock` gets EOWNERDEAD after some 3 ms.
#
# Why the obvious assumption is wrong: tests kill small processes, whose memory is freed within the time
# that a waiter needs to wake up.
#
# Cost: failover by lock files, and stores that prove by file locks that a writer is dead, wait for as
# long as the dead process was large. A mapped file counts as well: 3 ms were seen with 100 MB.
set -euo pipefail
command -v gcc >/dev/null || { echo "needs gcc"; exit 2; }
[ "$(uname -s)" = Linux ] || { echo "needs Linux"; exit 2; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
echo "Linux $(uname -r), $(ldd --version | head -1), $(gcc --version | head -1)"
cat >"$dir/locks.c" <<'C'
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static pthread_mutex_t *mutex;
static const char *paths[2];
static double freed[3];

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1e3 + time.tv_nsec / 1e6;
}

static int open_file(int which) {
    int file = open(paths[which], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) exit(2);
    return file;
}

static void lock_bytes(int file) {
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(file, F_OFD_SETLKW, &all) != 0) exit(2);
}

static void *wait_for_mutex(void *unused) {
    if (pthread_mutex_lock(mutex) != EOWNERDEAD) exit(2);
    freed[0] = now();
    return unused;
}

static void *wait_for_bytes(void *unused) {
    lock_bytes(open_file(0));
    freed[1] = now();
    return unused;
}

static void *wait_for_flock(void *unused) {
    if (flock(open_file(1), LOCK_EX) != 0) exit(2);
    freed[2] = now();
    return unused;
}

static void own_everything(int ready, size_t bytes) {
    lock_bytes(open_file(0));
    if (flock(open_file(1), LOCK_EX) != 0) exit(2);
    if (pthread_mutex_lock(mutex) != 0) exit(2);
    void *memory = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) exit(2);
    madvise(memory, bytes, MADV_NOHUGEPAGE);
    memset(memory, 1, bytes);
    if (write(ready, "", 1) != 1) exit(2);
    for (;;) pause();
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    size_t bytes = strtoull(arguments[1], 0, 10) << 20;
    paths[0] = arguments[2];
    paths[1] = arguments[3];
    mutex = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_setpshared(&kind, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&kind, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &kind);
    int ready[2];
    if (pipe(ready) != 0) return 2;
    pid_t owner = fork();
    if (owner == 0) own_everything(ready[1], bytes);
    char byte;
    if (read(ready[0], &byte, 1) != 1) return 2;
    void *(*waiters[3])(void *) = {wait_for_mutex, wait_for_bytes, wait_for_flock};
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], 0, waiters[i], 0);
    usleep(50000);
    double began = now();
    kill(owner, SIGKILL);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], 0);
    waitpid(owner, 0, 0);
    double ended = now();
    printf("%4zu MiB: robust mutex %7.2f ms, byte lock %7.2f ms, flock %7.2f ms, waitpid %7.2f ms\n",
           bytes >> 20, freed[0] - began, freed[1] - began, freed[2] - began, ended - began);
    return freed[1] - began > 5 * (freed[0] - began) && freed[2] - began > 5 * (freed[0] - began);
}
C
gcc -O2 -o "$dir/locks" "$dir/locks.c" -pthread
"$dir/locks" 1 "$dir/a" "$dir/b" || true
if "$dir/locks" 1024 "$dir/c" "$dir/d"; then
    echo "changed: file locks are free as soon as a robust mutex"
    exit 1
fi
echo "file locks stay locked until the memory of the killed process is freed"
