#!/usr/bin/env python3
"""Reads and writes MINIX images without this project's code: the other opinion in its tests.

    minix_image.py read IMAGE DIRECTORY     writes the image's tree to a new directory
    minix_image.py write IMAGE DIRECTORY    puts a directory's tree into an empty image
"""
import os
import stat
import struct
import sys

KINDS = {0x137F: (1, 14), 0x138F: (1, 30), 0x2468: (2, 14), 0x2478: (2, 30)}


class Image:
    def __init__(self, path):
        self.path = path
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        sb = self.data[1024:1056]
        if struct.unpack_from("<H", sb, 24)[0] == 0x4D5A:
            self.version, self.name_len = 3, 60
            (self.inodes,) = struct.unpack_from("<I", sb, 0)
            self.imaps, self.zmaps, self.first = struct.unpack_from("<HHH", sb, 6)
            (self.zones,) = struct.unpack_from("<I", sb, 20)
            (self.block,) = struct.unpack_from("<H", sb, 28)
        else:
            self.version, self.name_len = KINDS[struct.unpack_from("<H", sb, 16)[0]]
            self.inodes, zones, self.imaps, self.zmaps, self.first = struct.unpack_from("<5H", sb)
            self.zones = zones if self.version == 1 else struct.unpack_from("<I", sb, 20)[0]
            self.block = 1024
        self.table = (2 + self.imaps + self.zmaps) * self.block
        self.pointer = "<H" if self.version == 1 else "<I"
        self.number = "<I" if self.version == 3 else "<H"
        self.next_inode, self.next_zone = 2, 1

    def inode_at(self, ino):
        return self.table + (ino - 1) * (32 if self.version == 1 else 64)

    def inode(self, ino):
        at = self.inode_at(ino)
        if self.version == 1:
            mode, _, size = struct.unpack_from("<HHI", self.data, at)
            zones = struct.unpack_from("<9H", self.data, at + 14)
        else:
            (mode,) = struct.unpack_from("<H", self.data, at)
            (size,) = struct.unpack_from("<I", self.data, at + 8)
            zones = struct.unpack_from("<10I", self.data, at + 24)
        return mode, size, zones

    def pointers(self, zone):
        count = self.block // struct.calcsize(self.pointer)
        if zone == 0:
            return [0] * count
        at = zone * self.block
        return [v for (v,) in struct.iter_unpack(self.pointer, self.data[at:at + self.block])]

    def blocks(self, zones, want):
        out = list(zones[:7])
        for level, zone in enumerate(zones[7:], 1):
            if len(out) >= want:
                break
            layer = [zone]
            for _ in range(level):
                layer = [p for z in layer for p in self.pointers(z)]
            out += layer
        return out[:want]

    def content(self, ino):
        _, size, zones = self.inode(ino)
        parts = []
        for zone in self.blocks(zones, -(-size // self.block)):
            at = zone * self.block
            parts.append(bytes(self.block) if zone == 0 else bytes(self.data[at:at + self.block]))
        return b"".join(parts)[:size]

    def entries(self, ino):
        width = struct.calcsize(self.number)
        data = self.content(ino)
        for at in range(0, len(data), width + self.name_len):
            (child,) = struct.unpack_from(self.number, data, at)
            name = data[at + width:at + width + self.name_len].split(b"\0")[0]
            if child and name not in (b".", b".."):
                yield os.fsdecode(name), child

    def extract(self, ino, path):
        mode = self.inode(ino)[0]
        if stat.S_ISDIR(mode):
            os.mkdir(path)
            for name, child in self.entries(ino):
                self.extract(child, os.path.join(path, name))
        elif stat.S_ISLNK(mode):
            os.symlink(self.content(ino), path)
        elif stat.S_ISREG(mode):
            with open(path, "wb") as file:
                file.write(self.content(ino))

    def mark(self, first_block, bit):
        self.data[first_block * self.block + bit // 8] |= 1 << (bit % 8)

    def take_zone(self, data=b""):
        zone = self.first + self.next_zone
        self.next_zone += 1
        self.mark(2 + self.imaps, zone - self.first + 1)
        at = zone * self.block
        self.data[at:at + self.block] = data.ljust(self.block, b"\0")
        return zone

    def tree(self, zones, level):
        """Stores zone numbers in indirect blocks of so many levels."""
        if level == 0:
            return zones[0]
        span = (self.block // struct.calcsize(self.pointer)) ** (level - 1)
        children = [self.tree(zones[at:at + span], level - 1) for at in range(0, len(zones), span)]
        return self.take_zone(b"".join(struct.pack(self.pointer, child) for child in children))

    def put(self, ino, mode, links, data):
        self.mark(2, ino)
        blocks = [self.take_zone(data[at:at + self.block]) for at in range(0, len(data), self.block)]
        zones, rest = blocks[:7], blocks[7:]
        zones += [0] * (7 - len(zones))
        for level in (1, 2, 3):
            count = (self.block // struct.calcsize(self.pointer)) ** level
            part, rest = rest[:count], rest[count:]
            zones.append(self.tree(part, level) if part else 0)
        at, now = self.inode_at(ino), 1_700_000_000
        if self.version == 1:
            struct.pack_into("<HHIIBB9H", self.data, at, mode, 0, len(data), now, 0, links, *zones[:9])
        else:
            head = (mode, links, 0, 0, len(data), now, now, now)
            struct.pack_into("<HHHHIIII10I", self.data, at, *head, *zones)

    def insert(self, path, ino, parent, known):
        info = os.lstat(path)
        if stat.S_ISLNK(info.st_mode):
            self.put(ino, info.st_mode & 0xFFFF, 1, os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(info.st_mode):
            with open(path, "rb") as file:
                self.put(ino, info.st_mode & 0xFFFF, info.st_nlink, file.read())
        else:
            raw = self.entry(ino, b".") + self.entry(parent, b"..")
            links = 2
            for name in sorted(os.listdir(path)):
                child_path = os.path.join(path, name)
                child_info = os.lstat(child_path)
                child = known.get(child_info.st_ino)
                if child is None:
                    child = self.next_inode
                    self.next_inode += 1
                    known[child_info.st_ino] = child
                    self.insert(child_path, child, ino, known)
                links += stat.S_ISDIR(child_info.st_mode)
                raw += self.entry(child, os.fsencode(name))
            self.put(ino, info.st_mode & 0xFFFF, links, raw)

    def entry(self, ino, name):
        return struct.pack(self.number, ino) + name.ljust(self.name_len, b"\0")


def main():
    action, path, directory = sys.argv[1:]
    image = Image(path)
    if action == "read":
        image.extract(1, directory)
        return
    # An empty image: its one zone is the root's, which is written anew elsewhere.
    image.data[(2 + image.imaps) * image.block] &= ~2
    image.next_zone = 0
    image.insert(directory, 1, 1, {})
    with open(path, "wb") as file:
        file.write(image.data)


main()
