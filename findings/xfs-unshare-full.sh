#!/usr/bin/env bash
# XFS: asking for a file's blocks to be unshared fails on a full disk even if no block is shared.
#
# Seen on: Linux 6.18.44, XFS made by xfsprogs 6.1.0 (Debian 6.1.0-1) with its defaults;
# util-linux's fallocate has no option for it, so Python 3 calls fallocate(2).
#
# fallocate with FALLOC_FL_UNSHARE_RANGE promises that later stores to the range need no new blocks.
# For a file that shares none there is nothing to do, so a program would call it before each burst
# of stores, as a check that costs nothing. On a full disk it fails with ENOSPC nevertheless (most
# likely because room for the whole range is reserved first, as for any allocation; observed from
# outside, not read in the kernel).
#
# Why the obvious assumption is wrong: the same call returns at once with success on the same file
# while there is room, so tests pass; the failure comes in the very state for which the call is
# made.
#
# Cost: programs that guard mapped stores by this call (databases, caches, virtual machine images)
# refuse writes to files that need nothing. Ask FIEMAP for FIEMAP_EXTENT_SHARED first, and unshare
# only what is shared.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root, to mount"; exit 2; }
for tool in python3 mkfs.xfs; do command -v $tool >/dev/null || { echo "needs $tool"; exit 2; }; done
dir=$(mktemp -d)
trap 'umount "$dir/mnt" 2>/dev/null; rm -rf "$dir"' EXIT
mkdir "$dir/mnt"
truncate -s 320M "$dir/image"
mkfs.xfs -q "$dir/image"
mount -o loop "$dir/image" "$dir/mnt" || { echo "cannot mount an XFS"; exit 2; }
echo "Linux $(uname -r), $(mkfs.xfs -V)"
python3 - "$dir/mnt" <<'PY'
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
UNSHARE = 0x40
SIZE = 16 << 20
where = sys.argv[1]
path = os.path.join(where, "file")
with open(path, "wb") as file:
    file.write(os.urandom(SIZE))
    os.fsync(file.fileno())
fd = os.open(path, os.O_RDWR)
def unshare():
    ctypes.set_errno(0)
    return 0 if libc.fallocate(fd, UNSHARE, 0, SIZE) == 0 else ctypes.get_errno()
with_room = unshare()
fill = os.open(os.path.join(where, "filler"), os.O_RDWR | os.O_CREAT)
size, step = 0, 64 << 20
while step >= 4096:
    try:
        os.posix_fallocate(fill, size, step)
        size += step
    except OSError:
        step //= 2
full = unshare()
os.pwrite(fd, b"x" * 4096, 0)
os.fsync(fd)
print("unshare with room:", errno.errorcode.get(with_room, "success"))
print("unshare on the full disk:", errno.errorcode.get(full, "success"))
print("a store to the same file on the full disk: success")
if (with_room, full) != (0, errno.ENOSPC):
    print("this has changed")
    sys.exit(1)
print("still so: nothing is shared, and unsharing has no room")
PY
