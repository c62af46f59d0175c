#!/usr/bin/env bash
# Do this machine and a 64-bit ARM compute the same, bit for bit? Debian for arm64 under qemu-user, beside the machine's own.
#
#   sudo tests/arm64/check.sh            needs root, Debian, and packages from Debian and PyPI; ten minutes the first time
#
# ARM64_ROOT    where the Debian for arm64 is made and kept (/var/tmp/ams-arm64)
# PYTHON        Python of this machine with what ams.core needs (.venv/bin/python)
# DEBIAN_MIRROR http://deb.debian.org/debian
# PIP_*, and files that SSL_CERT_FILE names, are passed on to pip in there.
#
# Exit status: 0 the same, 1 different, 77 cannot be done on this machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

root=${ARM64_ROOT:-/var/tmp/ams-arm64}
python=${PYTHON:-.venv/bin/python}
mirror=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
certificates=/etc/ssl/certs/ca-certificates.crt

not_run() { echo "NOT RUN arm64: $1"; exit 77; }

[ "$(id -u)" = 0 ] || not_run "needs root, for debootstrap and chroot"
command -v apt-get >/dev/null || not_run "needs Debian's apt-get, for qemu-user-static and debootstrap"
[ -x "$python" ] || not_run "no $python (make setup)"

if ! { command -v qemu-aarch64-static && command -v debootstrap && command -v update-binfmts; } >/dev/null; then
  echo "installing qemu-user-static, binfmt-support and debootstrap"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    qemu-user-static binfmt-support debootstrap >/dev/null
fi
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null ||
  not_run "this kernel has no binfmt_misc"
update-binfmts --enable qemu-aarch64
[ -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || not_run "qemu-aarch64 is not known to binfmt_misc"

# Made beside and renamed, so that what is cut short is not taken for whole.
if [ ! -d "$root" ]; then
  echo "making a Debian for arm64 in $root (six minutes)"
  rm -rf "$root.new"
  debootstrap --arch=arm64 --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$root.new" \
    "$mirror" >"$root.log" 2>&1 || { tail -5 "$root.log"; not_run "debootstrap failed, see $root.log"; }
  mv "$root.new" "$root"
fi
for file in /etc/resolv.conf /etc/hosts "$certificates"; do
  [ ! -e "$file" ] || cp -L "$file" "$root$file"
done

# No environment of this machine but pip's own.
inside() {
  env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    SSL_CERT_FILE="$certificates" "${pip_settings[@]}" chroot "$root" "$@"
}
mapfile -t pip_settings < <(env | grep '^PIP_' || true)
mkdir -p "$root/ams-source/tests"
rm -rf "$root/ams-source/ams" "$root/ams-source/tests/golden" "$root/ams-source/tests/arm64"
cp -r ams "$root/ams-source/ams"
cp -r tests/golden tests/arm64 tests/__init__.py "$root/ams-source/tests/"
cp constraints.txt "$root/ams-source/"
if [ ! -x "$root/venv/bin/python" ]; then
  inside python3 -m venv /venv
fi
inside /venv/bin/pip install --quiet --only-binary :all: -c /ams-source/constraints.txt numpy zstandard pydantic

echo "here"
PYTHONPATH=. OMP_NUM_THREADS=1 "$python" -m tests.arm64.check >"$root.here"
echo "arm64"
inside env PYTHONPATH=/ams-source /venv/bin/python -m tests.arm64.check >"$root.there"
if diff "$root.here" "$root.there"; then
  echo "the same: $(wc -l <"$root.here") results, $root.here"
else
  echo "DIFFERENT: < here, > arm64"
  exit 1
fi
