"""A reader of mmapcache's files, written from docs/format.md alone; steps are those of "Look up a key" and "List all entries".
    format_reader.py PATH list   prints each entry as two hexadecimal words, key and value (. if empty)
    format_reader.py PATH get    for each hexadecimal key on standard input prints its value, or - if absent, and all retries
Needs Linux, little-endian, a processor that keeps the order of loads (x86-64), and xxhash. Reads records with values only, and
those of a `Cache` whether they are fresh or not."""
import mmap, os, struct, sys, zlib
from xxhash import xxh3_64_intdigest as xxh3
class Corrupt(Exception): "Something in the files cannot be true."
class Again(Exception): "Another process wrote during the read."
class Superseded(Exception): "The cache was replaced during a listing."

class File:
    def __init__(self, path, magic, end, known=1):
        self.file = open(path, "rb")
        self.head, self.map = self.file.read(end), b""
        version, crc = struct.unpack_from("<8xII", self.head.ljust(16))
        if self.head[:8] != magic or version != known or zlib.crc32(self.head[16:], zlib.crc32(self.head[:12])) != crc:
            raise Corrupt(f"{path}: header")
    def reach(self, end):
        if end > len(self.map):  # others make it longer
            self.map = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
            self.words = memoryview(self.map)[: len(self.map) // 8 * 8].cast("Q")
        return end <= len(self.map)
    def word(self, at):
        if not self.reach(at + 8): raise Corrupt(f"{self.file.name}: ends before byte {at}")
        return self.words[at // 8]

class Cache:
    retries = 0
    def __init__(self, path):  # look up, step 1
        self.path, self.index, self.segments = path, File(path, b"MMCINDEX", 128, 2), {}
        fields = struct.unpack_from("<4Q6I", self.index.head, 40)
        self.heap_id, self.roster_id, self.seed, check, kind, flags, self.slots, _, self.bits, variant = fields
        self.expiring, self.in_place = variant == 3, flags & 8
        if (kind, flags & ~15) != (1, 0) or (variant, flags & 12) not in ((1, 0), (3, 4), (1, 8)) or check != xxh3(b"mmapcache hash check", seed=self.seed):
            raise Corrupt("hash kind, flags, variant or hash check")
        self.body, self.regions = 16 if self.expiring else 8, 4096 + (8 * 2**self.bits + 63) // 64 * 64
        self.links = 64 + self.slots * (2 if self.expiring else 1)
        self.size = self.links + self.slots * (8 + self.body)
    def poll(self):  # step 2
        poll = self.index.word(128)
        if poll >> 63 and not os.path.samestat(os.stat(self.path), os.fstat(self.index.file.fileno())):
            self.__init__(self.path)
            raise Again
        return poll
    def beside(self, suffix, magic, end, right):
        for path in [self.path + suffix, self.path + suffix + ".new", self.path + suffix]:
            try:
                found = File(path, magic, end)
                if found.head[16:32] == self.index.head[16:32] and right(found.head): return found
            except (FileNotFoundError, Corrupt): pass
    def record(self, link):  # steps 6 and 7: kind (0 if internal), key and value; none if it is not right
        changes, load = self.index.word(288), lambda *words: [self.index.word(at) for at in words]
        if (record := self.record_at(link)) or not self.in_place: return record
        intent, place, version, units = load(320, 328, 336, 344)  # overwriting in place
        if intent & 0xFF == 4 and place == link % 2**48 and 4 <= units <= 96:
            copy = b"".join(word.to_bytes(8, "little") for word in load(*range(3328, 3328 + 8 * units, 8)))
            record = self.parse(link, copy)
            if record and copy[8:16] == version.to_bytes(8, "little") and load(320, 336) == [intent, version]: return record
        if record := self.record_at(link): return record
        if load(288) != [changes]: raise Again
    def record_at(self, link):
        number, at = link >> 32 & 0xFFFF, 8 * (link & 0xFFFFFFFF)
        if not self.segments.get(number):
            ours = lambda head: struct.unpack_from("<Q8xI", head, 32) == (self.heap_id, number)
            self.segments[number] = self.beside(".heap" + f".{number}" * (number > 0), b"MMCHEAP\0", 120, ours)
        segment = self.segments[number]
        if segment and segment.reach(at + 24):
            head = segment.map[at : at + 24]
            length = 24 + sum(struct.unpack("<4xI12xH2x", head))
            record = segment.reach(at + length) and self.parse(link, segment.map[at : at + length])
            last, mtime = segment.word(at + 16), segment.word(at + 8)
            return record if not self.in_place or struct.pack("<QQ", mtime, last) == head[8:] else None
    def parse(self, link, record):
        total, value_len, key_len, kind, traits = struct.unpack_from("<II12xHBB", record)
        extension = sum(size for bit, size in enumerate((0, 4, 4, 8, 8)) if traits >> bit & 1)
        length, mixed = 24 + key_len + value_len, (self.heap_id ^ link % 2**48) * 0x9E3779B97F4A7C15 % 2**64
        content = record[4:length]
        for start in range(0, len(content), 128) if length <= 256 else []:
            mixed = xxh3(content[start : start + 128], seed=mixed)
        own = mixed % 2**32 if length <= 256 else zlib.crc32(content, mixed >> 32)
        right = extension <= value_len and traits < (64 if self.expiring else 1)
        if len(content) + 4 == length and own == total and kind in (1, 2, 3) and right:
            return kind * (traits < 32), content[20 : 20 + key_len], content[20 + key_len : length - 4 - extension]
    def get(self, key):
        poll, hash, word, corrupt = self.poll(), xxh3(key, seed=self.seed), self.index.word, False
        entry_at = 4096 + 8 * ((hash >> 53 & 15 | (hash & 0xFFFF) << 4) % 2 ** (poll & 0xFF))  # step 3
        entry, groups, first = word(entry_at), self.slots // 8, hash >> 42 & 127
        region = self.regions + (entry & 0xFFFFFF) * self.size
        if poll & 0xFF > self.bits or not self.index.reach(region + self.size):
            raise Corrupt("directory")
        for group in (group % groups for group in range(first, first + groups)):  # steps 4 and 5
            controls = word(region + 64 + 8 * group).to_bytes(8, "little")
            for n in (n for n in range(8) if controls[n] == 0x80 | hash >> 57):
                link_at = region + self.links + 8 * (8 * group + n)
                link = word(link_at)
                if link & 0xFFFFFFFF > 1 and link >> 49 == hash >> 42 & 0x7FFF:
                    record = self.record(link)
                    if record and record[:2] == (1, key): return record[2]
                    if not record and word(link_at) != link: raise Again
                    corrupt |= not record
            if 0 in controls: break
        if word(entry_at) != entry or word(128) != poll: raise Again  # step 8
        if corrupt: raise Corrupt(key)
    def entry(self, roster, position):
        index, at = self.index, lambda: roster.word((64 + 4 * position) & ~7) >> 32 * (position % 2) & 0xFFFFFFFF
        slot = at()
        if slot >> 31: return None  # list, step 3
        region, n = self.regions + slot // self.slots * self.size, slot % self.slots
        read = lambda: (index.word(region), index.word(region + self.links + 8 * n), at())
        before = stamp, link, again = read()  # step 4
        known, intent = index.word(region + self.links + 8 * self.slots + n * self.body) & 0xFFFFFFFF, index.word(320)
        if read() == before and again == slot:  # step 5
            if stamp & 0xFF == 2 and link & 0xFFFFFFFF > 1 and known == position:  # step 6
                record = self.record(link)
                if record and record[0] == 1: return record[1:]
                if record and record[0] == 0: return None
                if read() == before:
                    self.again(self.poll)
                    raise Corrupt(position) if self.index is index else Superseded
            elif link & 0xFFFFFFFF <= 1 and intent:  # step 7
                return None
        raise Again
    def again(self, attempt, *arguments):
        for _ in range(10_000):
            try: return attempt(*arguments)
            except Again: Cache.retries += 1
        raise Corrupt(f"{attempt.__name__}{arguments} does not hold still")
    def items(self):  # steps 1 and 2
        self.again(self.poll)
        roster = self.beside(".roster", b"MMCROSTR", 64, lambda head: head[32:40] == self.index.head[48:56])
        if not roster: raise Superseded
        return filter(None, [self.again(self.entry, roster, at) for at in range(self.index.word(224))])

if __name__ == "__main__":
    cache = Cache(os.path.realpath(sys.argv[1]))
    for line in sys.stdin if sys.argv[2] == "get" else []:
        value = cache.again(cache.get, bytes.fromhex(line))
        print("-" if value is None else value.hex() or ".", cache.retries, flush=True)
    for key, value in cache.items() if sys.argv[2] == "list" else []:
        print(key.hex(), value.hex() or ".")
