# Network cards as Linux's e1000, e1000e and virtio_net see ours: addresses by DHCP, then an iperf3
# server for the host, until it says that it is done.

cat >/tmp/bound <<'EOF'
#!/bin/sh
[ "$1" = bound ] && ifconfig "$interface" "$ip" netmask "$subnet"
exit 0
EOF
chmod +x /tmp/bound

what() { # driver and device of an interface
    local at=/sys/class/net/$1/device
    [ -e "$at/vendor" ] || at=$at/..
    echo "$(basename "$(readlink "/sys/class/net/$1/device/driver")") $(cat "$at/vendor" "$at/device" | tr '\n' ' ')"
}

ifconfig lo 127.0.0.1
for path in /sys/class/net/eth*; do
    name=$(basename "$path")
    ifconfig "$name" up
    echo "note $name: $(what "$name")"
done
for path in /sys/class/net/eth*; do
    name=$(basename "$path")
    check "$name: address by DHCP" udhcpc -i "$name" -n -q -t 10 -T 2 -s /tmp/bound
done
# It ends when a client went away in the middle of a test.
while true; do iperf3 -s; done >/tmp/iperf3 2>&1 &
nc -l -p 999 >/tmp/done &
echo "READY network"
wait %2
for path in /sys/class/net/eth*; do
    name=$(basename "$path")
    for counter in rx_errors rx_dropped rx_missed_errors tx_errors; do
        value=$(cat "$path/statistics/$counter")
        [ "$value" = 0 ] || echo "note $name: $counter $value"
    done
done
grep -v -e '^-' -e 'Server listening' /tmp/iperf3 | grep -i error | while read -r line; do echo "note iperf3: $line"; done
quiet() { ! dmesg | grep -E 'WATCHDOG|Unit Hang|timed out|eth[0-9].*([Ee]rror|csum)'; }
check "no driver complains" quiet
