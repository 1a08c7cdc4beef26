#!/bin/busybox sh
# The guest's first process: runs the program that the host left here, once, and says how it ended.
/bin/busybox mkdir -p /proc /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox sh /program.sh
echo "guest: the program ended with status $?"
exec /bin/busybox sleep 1000000
