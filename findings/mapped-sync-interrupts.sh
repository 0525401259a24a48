#!/usr/bin/env bash
# Linux on x86-64: a sync of a mapped file interrupts the other processors of the process once for each
# page that was stored to, unless the pages are taken out of the mapping first.
#
# Seen on: Linux 6.18.44 (x86-64), ext4, Python 3.11.7.
#
# A thread that calls `fdatasync` in the background is expected to cost the other threads nothing but
# bandwidth of the disk. But before the kernel writes a page of a mapped file it makes the page clean in
# the page tables of each process that maps it, page by page, and each time tells the processors that
# run other threads of that process to forget the old entry: an interrupt for each 4 KiB. Here 16,384
# pages cause some 10,000 interrupts of a thread that does something else. After
# `madvise(MADV_DONTNEED)` on the same (shared) mapping, which gives up whole ranges of entries at once
# and loses nothing, since the page cache keeps the pages, the same sync causes next to none.
#
# Why the obvious assumption is wrong: profiles show the time as the user time of the interrupted thread,
# and the number of interrupts is neither in `perf stat`'s defaults nor in /proc/PID. A process with one
# thread, or a machine with one processor, shows nothing.
#
# Cost: in a virtual machine an interrupt costs microseconds on both sides. A writer that stored 100 bytes
# at a time beside such a thread lost a third of its speed.
#
# Ends with 2 if this machine cannot show it: one processor, no x86-64, or a file system in memory.
set -euo pipefail
[ "$(uname -sm)" = "Linux x86_64" ] || { echo "needs Linux on x86-64"; exit 2; }
[ "$(nproc)" -ge 2 ] || { echo "needs two processors"; exit 2; }
command -v python3 >/dev/null || { echo "needs python3"; exit 2; }
dir=$(mktemp -d "${TMPDIR:-/var/tmp}/mapped-sync.XXXXXX")
trap 'rm -rf "$dir"' EXIT
case $(stat -f -c %T "$dir") in tmpfs | ramfs) echo "needs a disk: set TMPDIR"; exit 2 ;; esac
echo "Linux $(uname -r), $(stat -f -c %T "$dir"), $(python3 --version)"
cat >"$dir/sync.py" <<'PY'
import mmap, os, sys, threading

PAGES = 16384


def interrupts():
    """The TLB shootdowns that processors received so far."""
    with open("/proc/interrupts") as lines:
        for line in lines:
            if line.split(":")[0].strip() == "TLB":
                return sum(int(word) for word in line.split()[1:] if word.isdigit())
    sys.exit(2)


def sync(path, give_up_first):
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    os.ftruncate(file, PAGES * 4096)
    mapped = mmap.mmap(file, PAGES * 4096)
    for page in range(PAGES):
        mapped[page * 4096] = page % 255 + 1
    os.sched_setaffinity(0, {cpus[0]})
    over = threading.Event()

    def synced():
        os.sched_setaffinity(threading.get_native_id(), {cpus[1]})
        if give_up_first:
            mapped.madvise(mmap.MADV_DONTNEED)
        os.fdatasync(file)
        over.set()

    thread = threading.Thread(target=synced)
    before = interrupts()
    thread.start()
    busy = 0
    while not over.is_set():
        busy += 1
    thread.join()
    count = interrupts() - before
    # Nothing was lost.
    wrong = sum(mapped[page * 4096] != page % 255 + 1 for page in range(PAGES))
    mapped.close()
    os.close(file)
    os.sched_setaffinity(0, cpus)
    assert wrong == 0, wrong
    return count


cpus = sorted(os.sched_getaffinity(0))
plain = sync(sys.argv[1], False)
after = sync(sys.argv[1], True)
print(f"{PAGES} pages: {plain} interrupts, {after} after MADV_DONTNEED")
# Fewer if other programs run on those processors at that moment.
sys.exit(0 if plain > 500 and after < plain / 50 else 1)
PY
python3 "$dir/sync.py" "$dir/file" || { code=$?; [ $code = 2 ] && exit 2; echo "it has changed"; exit 1; }
echo "as described"
