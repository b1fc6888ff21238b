#!/usr/bin/env bash
# Can this machine run the kit? One finding a line, with the fix; options are ssd_doctor.py's.
set -euo pipefail
unset CDPATH
# shellcheck source=test/drivers.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/drivers.sh"

[[ " $* " == *" --help "* ]] || source_toolkit
exec python3 "$root/ssd_doctor.py" "$@"
