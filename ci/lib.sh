# Sourced by the scripts beside it: gets what a check lacks, or says what was skipped and why.
# shellcheck shell=sh

# need CHECK THING=PACKAGE...: true once every THING is here, a command or, with a slash, a file.
#
# Root installs what is missing from Debian's PACKAGE. Whoever cannot is told what to do, and false
# is returned, for the script to end with 0. CI skips nothing: there, what is missing is an error.
need() {
  check=$1
  shift
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086 # a word for each package
    install_packages $missing
    missing=$(missing_packages "$@")
    [ -n "$missing" ] || return 0
  fi
  if [ "${CI:-}" = true ]; then
    echo "$check: could not install $missing" >&2
    exit 1
  fi
  echo "SKIPPED: $check: not installed: $missing; sudo apt-get install --no-install-recommends $missing"
  return 1
}

missing_packages() {
  packages=
  for pair in "$@"; do
    thing=${pair%%=*}
    case "$thing" in
      */*) [ -e "$thing" ] && continue ;;
      *) command -v "$thing" >/dev/null && continue ;;
    esac
    packages="$packages${packages:+ }${pair#*=}"
  done
  echo "$packages"
}

# First by the package lists that are here, then by fresh ones: a new machine has none, and old ones
# name versions that nobody serves any more. A list that cannot be had need not be one that counts.
# Silent unless it fails; another apt at work is waited for.
install_packages() {
  said=$(mktemp)
  apt_install "$@" >"$said" 2>&1 ||
    { apt_get update; apt_install "$@"; } >"$said" 2>&1 ||
    cat "$said" >&2
  rm -f "$said"
}

apt_install() {
  apt_get install -y --no-install-recommends "$@"
}

# One at a time: apt itself waits for the lock of packages alone, not for that of their lists.
apt_get() {
  DEBIAN_FRONTEND=noninteractive flock "${TMPDIR:-/tmp}/mesita-apt.lock" \
    apt-get -qq -o DPkg::Lock::Timeout=600 "$@" </dev/null
}

# foreign CHECK THING=PACKAGE...: need, and a Rust for foreign_cargo.
#
# Nobody ships a standard library for some of our targets, so it is built from its sources: those
# that rustup's component rust-src added to the Rust in use, else Debian's, with Debian's Rust.
foreign() {
  check=$1
  shift
  rust=$(rustc --print sysroot 2>/dev/null) || rust=/usr
  if [ ! -e "$rust/lib/rustlib/src/rust/library/std" ]; then
    rust=/usr
    set -- /usr/bin/cargo=cargo-web /usr/bin/rustc=rustc-web \
      /usr/lib/rustlib/src/rust/library/std=rust-web-src "$@"
  fi
  need "$check" "$@" || return 1
  is_new_enough && return
  # Old lists name an old Rust; fresh ones may name another.
  if [ "$rust" = /usr ] && [ "$(id -u)" = 0 ]; then
    apt_get update && install_packages cargo-web rustc-web rust-web-src
    is_new_enough && return
  fi
  echo "$check: needs Rust $(promised_rust), and $rust/bin/rustc is $("$rust/bin/rustc" --version)" >&2
  exit 1
}

promised_rust() {
  sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml
}

is_new_enough() {
  is=$("$rust/bin/rustc" --version | cut -d' ' -f2)
  [ "$(printf '%s\n' "$(promised_rust)" "$is" | sort -V | head -n 1)" = "$(promised_rust)" ]
}

# cargo of the Rust that `foreign` found, allowed to build standard libraries.
foreign_cargo() {
  RUSTC="$rust/bin/rustc" RUSTDOC="$rust/bin/rustdoc" RUSTC_BOOTSTRAP=1 "$rust/bin/cargo" "$@"
}
