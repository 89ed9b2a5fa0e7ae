#!/usr/bin/env bash
# mkdocs 1.6.1: `mkdocs build --strict --quiet` passes what `mkdocs build --strict` fails.
#
# Expected: --quiet shows less, and --strict aborts on a broken link all the same.
# Observed: --strict counts warnings in a handler of the logger that --quiet set to errors alone, so there is nothing to
# count: a page with a link that leads nowhere is built, exit code 0, no output. `--verbose` loses the check of anchors:
# it is made only where debug messages are off.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mkdocs==1.6.1
mkdir -p "$folder/link/docs" "$folder/anchor/docs"
echo '[broken](nowhere.md)' > "$folder/link/docs/index.md"
echo '[broken](#nowhere)' > "$folder/anchor/docs/index.md"
for site in link anchor; do
    printf 'site_name: one page\nvalidation: {links: {anchors: warn}}\n' > "$folder/$site/mkdocs.yml"
done

built() {
    local code=0
    "$folder/venv/bin/mkdocs" build --strict -f "$folder/$1/mkdocs.yml" "${@:2}" > "$folder/out" 2>&1 || code=$?
    echo "$1 --strict ${*:2}: exit code $code, warnings shown: $(grep -c '^WARNING' "$folder/out" || true)" >&2
    echo "$code"
}

"$folder/venv/bin/mkdocs" --version | cut -d' ' -f1-3
codes="$(built link) $(built link --quiet) $(built anchor) $(built anchor --quiet) $(built anchor --verbose)"
[ "$codes" = "1 0 1 0 0" ] || { echo "the behaviour has changed: $codes" >&2; exit 1; }
