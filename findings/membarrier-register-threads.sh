#!/usr/bin/env bash
# Linux: announcing the use of membarrier costs microseconds in a process of one thread, and many
# milliseconds, once, in a process of several.
#
# Seen on: Linux 6.18.44 (x86-64, 2 processors), called by Python 3.11 through glibc 2.36.
#
# A library that replaces the fences of its readers by one system call of its writers
# (MEMBARRIER_CMD_PRIVATE_EXPEDITED) must announce that first, by
# MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED. The manual says that the expedited commands never block,
# and that this one registers an intent, so the natural place is the library's first call. In a process that already has a second
# thread the call returns after 5 to 16 ms here, most likely because the kernel waits until every
# processor has noticed (observed from outside, not read in the kernel). Later announcements, and the
# fences themselves, take about a microsecond.
#
# Why the obvious assumption is wrong: tests and command line programs make the call before they start
# threads, and see 4 us; servers load the library when their threads are running.
#
# Cost: the first request of a threaded server that opens such a library waits for as long as some
# thousand requests take. Announce before the first thread starts, or from a thread of its own, and
# let readers make their own fences until it has returned.
set -euo pipefail
command -v python3 >/dev/null || { echo "needs python3"; exit 2; }
[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || { echo "needs Linux on x86-64"; exit 2; }
echo "Linux $(uname -r), $(python3 --version), $(ldd --version | head -1)"
measure() {
    python3 - "$1" <<'PY'
import ctypes, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
MEMBARRIER, REGISTER = 324, 1 << 4
done = threading.Event()
if sys.argv[1] == "two":
    threading.Thread(target=done.wait, daemon=True).start()
    time.sleep(0.01)
began = time.perf_counter()
result = libc.syscall(MEMBARRIER, REGISTER, 0, 0)
took = time.perf_counter() - began
done.set()
if result != 0:
    sys.exit(2)
print(int(took * 1e6))
PY
}
median() {
    for _ in 1 2 3 4 5; do measure "$1" || { echo "the system refuses membarrier" >&2; return 2; }; done |
        sort -n | sed -n 3p
}
alone=$(median one) || exit 2
two=$(median two) || exit 2
echo "announcing: $alone us in a process of one thread, $two us in a process of two (medians of 5)"
if [ "$two" -gt $((alone * 20)) ]; then
    echo "the announcement waits if the process has several threads"
else
    echo "changed: the announcement takes about the same time"
    exit 1
fi
