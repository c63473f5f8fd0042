#!/bin/sh
# Install the project and what requirements.txt pins into a new virtual environment:
#   sh install.sh VENV MUJOCO PYTHON...
# with the first of the interpreters that fits, and uv where it is installed.
set -eu
venv=$1 mujoco=$2
shift 2

fail() {
    echo "make setup: $1" >&2
    exit 2
}

case $mujoco in
    4.0.0) supported="3.11 to 3.14" newest=14 ;;
    2.3.7) supported="3.11" newest=11 ;;
    *) fail "MUJOCO must be 4.0.0 or 2.3.7, not $mujoco" ;;
esac
python=
for each; do
    if "$each" -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null; then
        python=$each
        break
    fi
done
if [ -z "$python" ]; then
    [ $# -gt 1 ] || fail "$1 is not a Python $supported, which MuJoCo $mujoco needs; leave PYTHON out, or name another"
    fail "no Python $supported was found; install one (apt install python3-venv, or uv python install 3.${newest}), or name it with PYTHON="
fi

[ ! -e "$venv" ] || [ -f "$venv/pyvenv.cfg" ] || fail "$venv is there and is no virtual environment; choose another VENV"
made_of="$("$python" --version), MuJoCo $mujoco"
is_made_of=$(cat "$venv/made_of" 2>/dev/null || true)
content=$(cat requirements.txt setup.cfg pyproject.toml | cksum)
# The files of a copied checkout are newer than the venv, and say the same. Another Python replaces it only where it was named.
if [ -f "$venv/installed-$mujoco" ] && [ "$(cat "$venv/content" 2>/dev/null)" = "$content" ] && "$venv/bin/python" -c "" &&
    { [ $# -gt 1 ] || [ "$is_made_of" = "$made_of" ]; }; then
    touch "$venv/installed-$mujoco"
    exit
fi

# One of the same versions is brought up to date.
[ "$is_made_of" = "$made_of" ] || rm -rf "$venv"
echo "make setup: installing into $venv: $made_of (about 3 GB, 6 GB with CUDA; minutes without output)"
if command -v uv >/dev/null; then
    [ -d "$venv" ] || uv venv -q --python "$python" "$venv"
    # Compiled here, because where PYTHONDONTWRITEBYTECODE is set each start would compile for 10 s.
    install() { uv pip install -q --compile-bytecode --python "$venv/bin/python" "$@"; }
    # PyTorch's own index has builds for machines without a GPU.
    torch() { install --torch-backend auto "$@" 2>/dev/null || install "$@"; }
else
    "$python" -c "import ensurepip" 2>/dev/null || fail "$python lacks ensurepip; apt install python3-venv, or install uv"
    [ -d "$venv" ] || "$python" -m venv "$venv"
    install() { "$venv/bin/python" -m pip install -q --disable-pip-version-check "$@"; }
    torch() { install "$@"; }
fi
lock=$venv/requirements.txt
if [ "$mujoco" = 2.3.7 ]; then
    sed -E 's/^mujoco==.*/mujoco==2.3.7/; s/^dm-control==.*/dm-control==1.0.14/; /^mujoco-/d' requirements.txt >"$lock"
else
    cp requirements.txt "$lock"
fi
# PyTorch first, because it chooses its own GPU libraries; nothing else may choose anything.
torch -c "$lock" "$(grep '^torch==' "$lock")"
install --no-deps -r "$lock"
install --no-deps -e .
echo "$made_of" >"$venv/made_of"
echo "$content" >"$venv/content"
touch "$venv/installed-$mujoco"
