# Sourced by checks that need a machine of their own: emulated, so that it needs nothing of the host
# but packages, with a kernel of Debian's that is unpacked and never installed. Kept in target/guest.
# shellcheck shell=sh
machines=target/guest

# machine CHECK: true once there are an emulator, busybox and a kernel; else says what was skipped.
machine() {
  check=$1
  mkdir -p "$machines"
  if [ "$(uname -m)" != x86_64 ]; then
    echo "SKIPPED: $check: this is $(uname -m), and its machine is x86_64"
    return 1
  fi
  need "$check" qemu-system-x86_64=qemu-system-x86 cpio=cpio /bin/busybox=busybox-static || return 1
  # Of what is already there any, else the one that Debian has now.
  ls "$machines"/kernel/boot/vmlinuz-* >/dev/null 2>&1 && return
  # Two checks may begin at once, each with half of a kernel.
  fetched=$(mktemp -d "$machines/kernel.XXXXXX")
  if { fetch_kernel || { apt_get update && fetch_kernel; }; } >"$fetched/apt.log" 2>&1; then
    mv -T "$fetched" "$machines/kernel" 2>/dev/null || rm -rf "$fetched"
    return
  fi
  echo "SKIPPED: $check: the kernel could not be downloaded; see $fetched/apt.log"
  return 1
}

kernel_package() {
  apt-cache depends linux-image-cloud-amd64 2>/dev/null |
    sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1
}

fetch_kernel() {
  package=$(kernel_package)
  [ -n "$package" ] && (cd "$fetched" && apt_get download "$package" &&
    dpkg-deb -x "$package"_*.deb . && rm -f "$package"_*.deb)
}

# root_of NAME: an empty root directory with busybox, at $root; /init is to be written into it, after
# the lines that machine_begins prints.
root_of() {
  root=$machines/$1.root
  rm -rf "$root"
  mkdir -p "$root/bin" "$root/dev" "$root/etc" "$root/proc" "$root/sys" "$root/tmp"
  cp /bin/busybox "$root/bin/busybox"
  # Of what is no part of the kernel itself: what images are mounted by, and whose a connection is.
  mkdir "$root/modules"
  for module in overlay inet_diag tcp_diag; do
    find "$machines/kernel/lib/modules" -name "$module.ko*" -exec cp {} "$root/modules/" \;
  done
}

# with_modules NAME...: modules of the kernel that /init is to load.
with_modules() {
  for module in "$@"; do
    find "$machines/kernel/lib/modules" -name "$module.ko*" -exec cp {} "$root/modules/" \;
  done
}

# with_programs NAME...: programs of this machine, where it has them, with the libraries that they need.
with_programs() {
  for wanted in "$@"; do
    path=$(command -v "$wanted") || continue
    cp -L "$path" "$root/bin/$(basename "$wanted")"
    for library in $(ldd "$path" 2>/dev/null | grep -o '/[^ ]*'); do
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done
  done
}

machine_begins() {
  cat <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp
mkdir -p /dev/shm
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
test ! -e /modules/overlay.ko || insmod /modules/overlay.ko
INIT
}

# boot NAME MIB QEMU_FLAGS KERNEL_WORDS: runs /init of $root in a fresh machine with so much memory, to
# its end; what it said is in $machines/NAME.log. The emulator's status says nothing.
boot() {
  name=$1 mib=$2 flags=$3 words=$4
  chmod 755 "$root/init"
  (cd "$root" && find . | cpio --quiet -o -H newc) >"$machines/$name.initrd"
  rm -rf "$root"
  # shellcheck disable=SC2086 # flags are words
  timeout 900 qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m "$mib" -nodefaults \
    -display none -no-reboot -serial "file:$machines/$name.raw" $flags \
    -kernel "$machines"/kernel/boot/vmlinuz-* -initrd "$machines/$name.initrd" \
    -append "console=ttyS0 loglevel=1 panic=-1 cgroup_no_v1=all psi=1 $words" </dev/null || true
  tr -d '\r' <"$machines/$name.raw" >"$machines/$name.log"
}
