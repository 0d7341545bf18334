# shellcheck shell=bash
# Sourced by the scripts beside it: goes to the checkout's root and offers `environment`, which makes .venv and installs.
set -euo pipefail
unset CDPATH
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Prints the first Python >= 3.11 that can make a virtual environment ($PYTHON, if set, is asked first).
find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.14 python3.13 python3.12 python3.11 python3 python; do
        if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "dlcli: no Python >= 3.11 with its venv module was found; install one" \
        "(Debian and Ubuntu: apt install python3 python3-venv) or name it: PYTHON=/path/to/python $0" >&2
    return 1
}

# The key changes whenever the install has to be done again: other dependencies, another place, another Python.
install_key() { # FOLDER [REQUIREMENT...]
    "$1/bin/python" -c 'import hashlib, os, sys
print(os.getcwd(), sys.version_info[:2], hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest(), *sys.argv[1:])
' "${@:2}"
}

# environment [EXTRA [FOLDER [REQUIREMENT...]]]: a virtual environment, .venv unless a folder is named, with the project
# in it, editable, and the extra if one is named; or with the requirements, if any are. Does nothing if all is there.
environment() {
    local extra=${1:-} folder=${2:-.venv} python stamp
    local key=("$folder" "${@:3}") wanted=("${@:3}")
    if [ $# -lt 3 ]; then wanted=(--editable ".${extra:+[$extra]}"); fi
    if ! "$folder/bin/python" -c '' 2>/dev/null; then
        python=$(find_python)
        echo "Making $folder with $("$python" --version)"
        "$python" -m venv --clear "$folder"
    fi
    export PATH="$PWD/$folder/bin:$PATH"
    for stamp in "$folder/.installed-$extra" "$folder/.installed-dev"; do # dev includes everything that has no folder
        if [ "$(cat "$stamp" 2>/dev/null)" = "$(install_key "${key[@]}")" ]; then return; fi
    done
    echo "Installing dlcli and what it needs into $folder; PyTorch is large, the first time takes minutes"
    python -m uv --version >/dev/null 2>&1 || python -m pip install --quiet --disable-pip-version-check uv || true
    python -m uv pip install --compile-bytecode --python "$folder/bin/python" "${wanted[@]}" ||
        python -m pip install --disable-pip-version-check "${wanted[@]}"
    install_key "${key[@]}" >"$folder/.installed-$extra"
}
