# Disks as Linux's ahci, sd, sr and virtio_blk see ours: /dev/sda (GPT: ext4 with a journal to be
# replayed, FAT), /dev/vda (MBR: ext4), /dev/sr0, and a disk that comes and goes.

said() { dmesg | grep -q "$1"; }

ncq() {
    cat /sys/block/sda/device/queue_depth
    [ "$(cat /sys/block/sda/device/queue_depth)" = 32 ] && said 'NCQ (depth 32)'
}

partitions() {
    cat /proc/partitions
    [ -b /dev/sda1 ] && [ -b /dev/sda2 ] && [ ! -e /dev/sda3 ] && [ -b /dev/vda1 ]
}

replay() {
    mount -t ext4 /dev/sda1 /mnt && said 'sda1): recovery complete' &&
        (cd /mnt && sha256sum -c record.sha256)
}

# Four writers at once, so that commands queue; then everything is read back from the disk.
written() { # written DIRECTORY
    local i
    for i in 1 2 3 4; do
        dd if=/bin/busybox of="/tmp/data$i" bs=64k skip=$((i * 5)) count=8 2>/dev/null
    done
    for i in 1 2 3 4; do
        dd if="/tmp/data$i" of="$1/data$i" bs=32k conv=fsync 2>/dev/null &
    done
    wait
    sync
    echo 3 >/proc/sys/vm/drop_caches
    for i in 1 2 3 4; do
        cmp "/tmp/data$i" "$1/data$i" || return 1
    done
    (cd "$1" && sha256sum data? >data.sha256)
    sync
}

errors() { ! dmesg | grep -iE 'ata[0-9].*(exception|failed)|I/O error|EXT4-fs error'; }

cdrom() { mount -t iso9660 -o ro /dev/sr0 /cd && (cd /cd && sha256sum -c sums); }

hot_sum() { sha256sum /dev/sdb && [ "$(sha256sum </dev/sdb | cut -d' ' -f1)" = "$(parameter hot)" ]; }

# Reads until the disk fails, past the cache.
read_on() {
    while echo 3 >/proc/sys/vm/drop_caches && dd if=/dev/sdb of=/dev/null bs=64k 2>/dev/null; do :; done
    echo "the reader has met an error" >/tmp/reader
}

gone() { [ ! -e /sys/block/sdb ]; }

size() { [ "$(cat /sys/block/vda/size)" = "$1" ]; }

check "AHCI: NCQ, depth 32" ncq
check "partitions of GPT and MBR" partitions
check "AHCI: ext4 mounted, its journal replayed" replay
check "AHCI: written by four at once and read back" written /mnt
check "AHCI: unmounted" umount /mnt
mount -t vfat /dev/sda2 /mnt
check "AHCI: FAT written and read back" written /mnt
umount /mnt
check "virtio-blk: queues" ls /sys/block/vda/mq/0
mount -t ext4 /dev/vda1 /mnt
check "virtio-blk: written by four at once and read back" written /mnt
check "virtio-blk: unmounted" umount /mnt
check "CD-ROM: read" cdrom
check "no error so far" errors

echo "READY attach"
check "hot-plug: the disk has come" within 60 test -b /dev/sdb
check "hot-plug: its content" hot_sum
read_on &
echo "READY detach"
check "hot-plug: the disk is gone" within 90 gone
check "hot-plug: its reader was told" within 30 test -e /tmp/reader
echo "READY resize"
check "virtio-blk: the new size" within 60 size "$(parameter resized)"
mount -t ext4 /dev/sda1 /mnt
check "AHCI: the other disk is whole" sh -c 'cd /mnt && sha256sum -c data.sha256 record.sha256'
umount /mnt
umount /cd
