# Sourced by the commands in bin/: sets $project and defines ensure_environment.
# stdout belongs to transcripts, so everything here speaks on stderr.

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." > /dev/null && pwd -P)
_venv=$project/.venv
_stamp=$_venv/.fun-asr-installed
_unfinished=$_venv/.fun-asr-unfinished

_say() { echo "fun-asr: $*" >&2; }

_fail() {
  _say "error: $*"
  exit 1
}

# ensure_environment EXTRAS: makes .venv, or brings it up to date, with the package (editable), its dependencies
# and the comma-separated EXTRAS. Does nothing, in milliseconds, when the stamp says that this is done.
ensure_environment() {
  local extras=$1 key
  # The folder is part of the key because an editable install stops working when the folder moves.
  key="$(cksum < "$project/pyproject.toml") $project"
  if _is_ready "$key" "$extras"; then return; fi

  if command -v flock > /dev/null; then
    exec 9<> "$project/pyproject.toml"
    if ! flock -n 9; then
      _say "another run is installing; waiting for it"
      flock 9
    fi
  fi
  if ! _is_ready "$key" "$extras"; then
    trap '_say "interrupted; the next run takes the installation up again"; exit 130' INT TERM
    _install "$key" "$extras"
    trap - INT TERM
  fi
  if command -v flock > /dev/null; then exec 9>&-; fi
}

# The stamp's two lines: the key and the extras. An environment with extras also serves a run that needs none.
_is_ready() {
  local key extras
  [[ -r $_stamp && -x $_venv/bin/python ]] || return 1
  { read -r key && read -r extras || true; } < "$_stamp"
  [[ $key == "$1" && (-z $2 || $extras == "$2") ]]
}

_install() {
  local key=$1 extras=$2
  # A first installation either ends or starts afresh: pip may take a half-unpacked package for an installed one.
  if [[ -e $_unfinished ]] || ! "$_venv/bin/python" -c "" > /dev/null 2>&1; then
    local python
    python=$(_find_python) || _fail "needs Python 3.11 or newer with its venv module, and found none" \
      "(on Debian and Ubuntu: apt install python3 python3-venv)"
    _say "making .venv with $("$python" --version 2>&1)"
    rm -rf "$_venv"
    mkdir "$_venv"
    : > "$_unfinished"
    "$python" -m venv "$_venv" >&2 || _fail "could not make $_venv (the reason is above)"
  fi
  if ! "$_venv/bin/python" -m pip --version > /dev/null 2>&1; then
    "$_venv/bin/python" -m ensurepip >&2 || _fail "$_venv has no pip, and ensurepip could not add it"
  fi

  _say "installing into .venv; PyTorch is a large download, so the first time takes minutes"
  "$_venv/bin/python" -m pip install --quiet --quiet --disable-pip-version-check --no-input \
    --editable "$project${extras:+[$extras]}" >&2 \
    || _fail "the installation failed (pip's reason is above); run the same command to try again"

  printf '%s\n' "$key" "$extras" > "$_stamp.new"
  mv "$_stamp.new" "$_stamp"
  rm -f "$_unfinished"
  _say "ready"
}

# Runs each candidate: a version manager's shim may exist for a Python that does not.
_find_python() {
  local name
  for name in python3.13 python3.12 python3.11 python3; do
    if "$name" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' > /dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  return 1
}
