#!/usr/bin/env bash
# Makes .venv with Python 3.10 and exactly requirements.lock. Called by make; a second call is never needed.
set -euo pipefail
cd "$(dirname "$0")"

# The system's certificates, as pip and curl use them: behind a company's proxy uv's own would not do.
export UV_NATIVE_TLS=true UV_SYSTEM_CERTS=true

say() { printf '%s\n' "$*" >&2; }
is_310() { [ -x "$1" ] && [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.10 ]; }

# A Python 3.10: $PYTHON, on PATH, under pyenv's versions, beside the python3 that runs.
find_310() {
    local prefix candidate
    prefix=$(python3 -c 'import sys; print(sys.base_prefix)' 2>/dev/null || true)
    for candidate in "${PYTHON:-}" "$(command -v python3.10 || true)" "$(command -v python3 || true)" \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.10*/bin/python3.10 "${prefix%/*}"/3.10*/bin/python3.10; do
        if is_310 "$candidate"; then printf '%s' "$candidate"; return; fi
    done
}

# uv: on PATH, or installed here by pip.
find_uv() {
    if command -v uv >/dev/null; then command -v uv; return; fi
    if [ ! -x .uv/bin/uv ]; then
        say "· installing uv with pip"
        python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --target .uv uv >&2 ||
            { say "uv is not on PATH and 'python3 -m pip install uv' failed; install uv or pip and run again"; exit 1; }
    fi
    printf '%s' "$PWD/.uv/bin/uv"
}

uv=$(find_uv)
python=$(find_310)
if [ -z "$python" ]; then
    say "· no Python 3.10 here; asking uv for one"
    "$uv" python install --quiet 3.10 2>/dev/null && python=$("$uv" python find 3.10) || {
        say "Python 3.10 is needed (TFX 1.16 has no wheels for others) and none was found or could be downloaded:" \
            "install python3.10, or 'pyenv install 3.10', or set PYTHON=/path/to/python3.10"
        exit 1
    }
fi

say "· making .venv with $("$python" --version) and installing requirements.lock (about 1.5 GB, some minutes the first time)"
[ -x .venv/bin/python ] || "$uv" venv --quiet --python "$python" .venv
"$uv" pip sync --quiet --python .venv/bin/python requirements.lock
"$uv" pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
touch .venv/.ready
