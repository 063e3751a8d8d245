#!/bin/sh
# Makes guest-servers/fs-fuzz/bases: small sound images of the host's own tools, packed.
# Needs e2fsprogs, dosfstools, mtools, util-linux (fdisk), genisoimage, python3.
set -eu
cd "$(dirname "$0")"
out=../fs-fuzz/bases
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export SOURCE_DATE_EPOCH=1750000000 MTOOLS_SKIP_CHECK=1 LC_ALL=C.UTF-8

pack() {
    python3 - "$work/$1.img" "$out/$1.packed" <<'END'
import re, struct, sys
image = open(sys.argv[1], "rb").read()
packed = b"XINIMSP1" + struct.pack("<I", len(image))
# An extent ends at 64 zeros.
for part in re.finditer(rb"[^\0](?:\0{0,63}[^\0])*", image):
    packed += struct.pack("<II", part.start(), len(part[0])) + part[0]
open(sys.argv[2], "wb").write(packed)
END
}

# Files at the edges of blocks, a directory with many names, links, holes.
tree=$work/tree
mkdir -p "$tree/many" "$tree/a/b/c"
i=0
while [ $i -lt 60 ]; do
    : > "$tree/many/a rather long name, number $i"
    i=$((i + 1))
done
seq 1 700 > "$tree/text"
seq 1 3 > "$tree/a/b/c/small"
ln -s text "$tree/link"
ln -s "/$(printf 'x%.0s' $(seq 90))" "$tree/a/long-link"
ln "$tree/text" "$tree/a/hard"
truncate -s 300000 "$tree/hole"
printf end >> "$tree/hole"

ext() {
    name=$1
    shift
    mke2fs -q -F -b 1024 -I 128 -N 96 -U 11111111-2222-3333-4444-555555555555 \
        -E hash_seed=11111111-2222-3333-4444-555555555555 -d "$tree" "$@" "$work/$name.img" 3072 > /dev/null 2>&1
    e2fsck -fyD "$work/$name.img" > /dev/null 2>&1 || [ $? -eq 1 ]
}
ext ext4 -t ext4 -O ^metadata_csum,^64bit
ext ext4-csum -t ext4
ext ext2 -t ext2
ext ext3-dirty -t ext3
# A transaction in the log: the block of the first directory again.
dd if="$work/ext3-dirty.img" of="$work/block" bs=1024 skip=60 count=1 status=none
debugfs -w -f - "$work/ext3-dirty.img" > /dev/null 2>&1 <<END
jo
jw -b 60 $work/block
jc
END
for name in ext4 ext4-csum ext2 ext3-dirty; do pack "$name"; done

fat() {
    mkfs.fat -i 12345678 -n LABEL -s 1 -F "$2" -C "$work/$1.img" "$3" > /dev/null
    mmd -i "$work/$1.img" ::/dir ::/dir/sub
    for file in "$tree/text" "$tree/a/b/c/small"; do mcopy -i "$work/$1.img" "$file" ::/dir/; done
    i=0
    while [ $i -lt 12 ]; do
        mcopy -i "$work/$1.img" "$tree/a/b/c/small" "::/dir/sub/a rather long name, number $i.text"
        i=$((i + 1))
    done
    pack "$1"
}
fat fat12 12 360
fat fat16 16 2600
fat fat32 32 34000

for version in 1 2 3; do
    truncate -s 400K "$work/minix$version.img"
    mkfs.minix -$version "$work/minix$version.img" > /dev/null
    small=$work/small$version
    mkdir -p "$small/dir/sub"
    cp "$tree/text" "$small/dir/"
    cp "$tree/a/b/c/small" "$small/dir/sub/"
    python3 ../fs-minix/tests/minix_image.py write "$work/minix$version.img" "$small"
    pack "minix$version"
done

rm -r "$tree/hole"
genisoimage -quiet -no-pad -R -J -o "$work/rockridge.img" "$tree"
rm "$tree/link" "$tree/a/long-link"
genisoimage -quiet -no-pad -J -o "$work/joliet.img" "$tree"
genisoimage -quiet -no-pad -o "$work/plain.img" "$tree" 2> /dev/null
for name in rockridge joliet plain; do pack "$name"; done

truncate -s 2M "$work/gpt.img" "$work/mbr.img"
sfdisk -q "$work/gpt.img" <<END
label: gpt
label-id: 11111111-2222-3333-4444-555555555555
start=64, size=512, name="first", uuid=11111111-2222-3333-4444-555555555556
size=512, name="second", uuid=11111111-2222-3333-4444-555555555557
END
sfdisk -q "$work/mbr.img" <<END
label: dos
label-id: 0x12345678
start=64, size=256, type=83
start=512, size=2048, type=5
start=576, size=256, type=83
start=1024, size=256, type=83
END
pack gpt
pack mbr
ls -l "$out"
