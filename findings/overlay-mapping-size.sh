#!/usr/bin/env bash
# overlayfs: the size that fstat gives for a descriptor is no bound for a mapping made from it.
#
# Seen on: Linux 6.18.44, overlayfs with all layers on one tmpfs. Python 3 drives it.
#
# A program opens a file of the lower layer for reading and maps it (MAP_SHARED). Then another
# program opens the same path for writing, overlayfs copies the file up, and the other program makes
# the copy longer and changes a byte. One would expect one of two things: the first program keeps
# the old file by its descriptor (as after a rename over the path), or it sees the new one. It gets
# half of each: fstat on the OLD descriptor gives the NEW size, pread on it gives the NEW bytes,
# st_dev and st_ino are unchanged, and the mapping made from it keeps the OLD bytes.
#
# Why the obvious assumption is wrong: the kernel documents that such a mapping does not follow a
# copy-up. But the descriptor does follow it, so that the two disagree, and no number tells: device
# and inode are those of the overlay, not of a layer. A program that asks fstat how far its mapping
# is valid, which is correct everywhere else, gets a size beyond the end of the mapped file.
# Touching a page there ends the process with SIGBUS (not done here).
#
# Cost: every store that maps its files and grows them (databases, caches, indexes in container
# images) and that checks the size before it reads gets stale values forever on one side of the
# check, and SIGBUS on the other.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "needs root, to mount"; exit 2; }
command -v python3 >/dev/null || { echo "needs python3"; exit 2; }
dir=$(mktemp -d)
trap 'umount "$dir/merged" 2>/dev/null; umount "$dir/layers" 2>/dev/null; rm -rf "$dir"' EXIT
mkdir "$dir/layers" "$dir/merged"
mount -t tmpfs layers "$dir/layers" || { echo "cannot mount a tmpfs"; exit 2; }
mkdir "$dir/layers/lower" "$dir/layers/upper" "$dir/layers/work"
head -c 8192 /dev/zero | tr '\0' o >"$dir/layers/lower/file"
mount -t overlay overlay "$dir/merged" \
    -o "lowerdir=$dir/layers/lower,upperdir=$dir/layers/upper,workdir=$dir/layers/work" ||
    { echo "cannot mount an overlayfs"; exit 2; }
echo "Linux $(uname -r), $(python3 --version)"
python3 - "$dir/merged/file" <<'PY'
import mmap, os, sys
path = sys.argv[1]
old = os.open(path, os.O_RDONLY)
mapping = mmap.mmap(old, 0, mmap.MAP_SHARED, mmap.PROT_READ)
before = os.fstat(old)
writer = os.open(path, os.O_RDWR)
os.pwrite(writer, b"n", 0)
os.ftruncate(writer, 65536)
os.close(writer)
after = os.fstat(old)
seen = {
    "size by the old descriptor": (before.st_size, after.st_size),
    "first byte by pread on it": os.pread(old, 1, 0).decode(),
    "first byte by its mapping": chr(mapping[0]),
    "device and inode unchanged": (before.st_dev, before.st_ino) == (after.st_dev, after.st_ino),
    "size of the mapping": len(mapping),
}
for what, value in seen.items():
    print(f"{what}: {value}")
wanted = {
    "size by the old descriptor": (8192, 65536),
    "first byte by pread on it": "n",
    "first byte by its mapping": "o",
    "device and inode unchanged": True,
    "size of the mapping": 8192,
}
if seen != wanted:
    print("this has changed")
    sys.exit(1)
print("still so: descriptor and mapping disagree")
PY
