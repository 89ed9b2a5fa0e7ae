#!/usr/bin/env bash
# mkdocs-material 9.8.2 and zensical 0.0.73: the plugin `offline` puts a script from the network into every page.
#
# Expected: a site built to be read from files asks the network for nothing; without the plugin it doesn't.
# Observed: with it, and with `font: false`, every page loads https://unpkg.com/iframe-worker/shim before the theme's own
# script. Without a network the search, for which the plugin is there, does not start from a file.
# Exits with 0 while this is so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mkdocs-material==9.8.2 zensical==0.0.73
mkdir "$folder/docs"
echo '# A page' > "$folder/docs/index.md"
settings='site_name: one page\ntheme: {name: material, font: false}\n'
printf "$settings" > "$folder/without.yml"
printf "${settings}plugins: [search, offline]\n" > "$folder/with.yml"

asked() { # what the first page loads from elsewhere
    grep -oE '<(script|link)[^>]*(src|href)="?(https?:)?//[^" >]*' "$folder/site/index.html" | grep -oE '//.*' | tr '\n' ' ' || true
}

cd "$folder"
found=""
for builder in mkdocs zensical; do
    for plugins in without with; do
        rm -rf site
        "$folder/venv/bin/$builder" build --strict -f "$folder/$plugins.yml" > out 2>&1 || { cat out; exit 1; }
        echo "$builder $plugins the plugin: loads $(asked)"
        found="$found$builder $plugins: $(asked); "
    done
done
shim=//unpkg.com/iframe-worker/shim
[ "$found" = "mkdocs without: ; mkdocs with: $shim ; zensical without: ; zensical with: $shim ; " ] \
    || { echo "the behaviour has changed: $found" >&2; exit 1; }
